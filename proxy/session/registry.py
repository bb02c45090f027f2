"""All sessions of the process, by the key that cancels them."""

import hmac
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.session.session import Session


class Registry:
    """Gives out cancel keys and finds sessions by them."""

    def __init__(self, on_removed: Callable[[], None], on_cancel: Callable[[], None]) -> None:
        self._sessions: dict[int, tuple[bytes, Session]] = {}
        self._keys: dict[Session, int] = {}
        self._others: dict[int, tuple[bytes, Callable[[], None]]] = {}
        self._on_removed = on_removed
        self._on_cancel = on_cancel

    def add(self, session: "Session") -> tuple[int, bytes]:
        """(process id, secret) for the client's BackendKeyData."""
        process_id = self._free_id()
        secret = secrets.token_bytes(4)
        self._sessions[process_id] = (secret, session)
        self._keys[session] = process_id
        return process_id, secret

    def _free_id(self) -> int:
        while True:
            process_id = secrets.randbelow(0x7FFFFFFE) + 1
            if process_id not in self._sessions and process_id not in self._others:
                return process_id

    def add_other(self, cancel: Callable[[], None]) -> tuple[int, bytes]:
        """(process id, secret) for a client that is no session; `cancel` is its cancel request."""
        process_id = self._free_id()
        secret = secrets.token_bytes(4)
        self._others[process_id] = (secret, cancel)
        return process_id, secret

    def remove_other(self, process_id: int) -> None:
        """This client is over."""
        self._others.pop(process_id, None)

    def remove(self, session: "Session") -> None:
        """The session is over."""
        process_id = self._keys.pop(session, None)
        if process_id is not None:
            del self._sessions[process_id]
            self._on_removed()

    def cancel(self, process_id: int, secret: bytes) -> None:
        """Cancel what the session with this key runs; a wrong key does nothing."""
        expected, session = self._sessions.get(process_id, (b"", None))
        if session is not None and hmac.compare_digest(expected, secret):
            self._on_cancel()
            session.upstream.cancel()
        secret_of_other, cancel = self._others.get(process_id, (b"", None))
        if cancel is not None and hmac.compare_digest(secret_of_other, secret):
            cancel()

    def __iter__(self) -> Iterator["Session"]:
        return iter(list(self._keys))

    def __len__(self) -> int:
        return len(self._keys)
