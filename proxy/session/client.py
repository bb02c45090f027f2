"""What a session knows of its client, shared by the parts that serve it."""

from dataclasses import dataclass, field

from proxy.pool.settings_state import SettingsState
from proxy.routing.route import Facts
from proxy.session.transaction import Transaction


@dataclass(slots=True)
class Client:
    """One logged-in client: identity, settings, transaction, and what routing must know of it."""

    user: str
    settings: SettingsState
    startup_settings: SettingsState
    reported: dict[bytes, bytes]
    """ParameterStatus values as the client knows them."""
    process_id: int = 0
    """What it was told at its login."""
    facts: Facts = field(default_factory=Facts)
    transaction: Transaction = field(default_factory=Transaction)
    wrote_at: float = float("-inf")
    """time.monotonic() when its last write was acknowledged."""
    utf8: bool = True
    plain_strings: bool = True
    """standard_conforming_strings is on: texts mean what Penstock's lexer takes them for."""
    cache_settings: SettingsState | None = None
    """Those that `cache_context` was made for."""
    cache_context: bytes = b""
    """What of the client is part of the keys in the cache's memory."""

    def __post_init__(self) -> None:
        self.learn_settings()

    def learn_settings(self) -> None:
        """Draw from the settings what routing and planning look at."""
        default = self.settings.values.get("default_transaction_read_only", b"off").lower()
        self.facts.read_only_default = default in (b"on", b"true", b"yes", b"1")
        self._learn_reported()

    def _learn_reported(self) -> None:
        self.utf8 = self.reported.get(b"client_encoding", b"UTF8") == b"UTF8"
        self.plain_strings = self.reported.get(b"standard_conforming_strings", b"on") == b"on"

    def note_status(self, body: bytes) -> bool:
        """Take in a ParameterStatus; whether the client doesn't know this value yet."""
        name, _, value = body[:-1].partition(b"\0")
        if self.reported.get(name) == value:
            return False
        self.reported[name] = value
        self._learn_reported()
        return True
