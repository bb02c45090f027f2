"""All sessions of the process, by the key that cancels them."""

import hmac
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.session.session import Session


class Registry:
    """Gives out cancel keys and finds sessions by them."""

    def __init__(self, on_removed: Callable[[], None], on_cancel: Callable[[], None]) -> None:
        self._sessions: dict[int, dict[bytes, Session]] = {}
        """By process id and secret: servers give the same process id more than once."""
        self._keys: dict[Session, tuple[int, bytes]] = {}
        self._others: dict[int, tuple[bytes, Callable[[], None]]] = {}
        self.by_database: Counter[str] = Counter()
        self.by_user: Counter[str] = Counter()
        self._on_removed = on_removed
        self._on_cancel = on_cancel

    def add(self, session: "Session", process_id: int | None = None) -> tuple[int, bytes]:
        """(process id, secret) for the client's BackendKeyData.

        `process_id`: that of the server's process, for a client which keeps it to itself: such a
        client expects to find it in NOTIFY's messages and pg_stat_activity.
        """
        if process_id is None:
            process_id = self._free_number()
        those = self._sessions.setdefault(process_id, {})
        while (secret := secrets.token_bytes(4)) in those:
            pass
        those[secret] = session
        self._keys[session] = process_id, secret
        self.by_database[session.context.name] += 1
        self.by_user[session.client.user] += 1
        return process_id, secret

    def add_other(self, cancel: Callable[[], None]) -> tuple[int, bytes]:
        """(process id, secret) for a client that is no session; `cancel` is its cancel request."""
        process_id = self._free_number()
        secret = secrets.token_bytes(4)
        self._others[process_id] = (secret, cancel)
        return process_id, secret

    def remove_other(self, process_id: int) -> None:
        """This client is over."""
        self._others.pop(process_id, None)

    def _free_number(self) -> int:
        while (number := secrets.randbelow(0x7FFFFFFE) + 1) in self._sessions:
            pass
        return number

    def remove(self, session: "Session") -> None:
        """The session is over."""
        key = self._keys.pop(session, None)
        if key is not None:
            process_id, secret = key
            those = self._sessions[process_id]
            del those[secret]
            if not those:
                del self._sessions[process_id]
            _take_out(self.by_database, session.context.name)
            _take_out(self.by_user, session.client.user)
            self._on_removed()

    def cancel(self, process_id: int, secret: bytes, taken: Callable[[], None]) -> None:
        """Cancel what the session with this key runs; a wrong key does nothing.

        `taken` is called once the request can't hit anything any more that the session runs
        from then on.
        """
        for expected, session in self._sessions.get(process_id, {}).items():
            if hmac.compare_digest(expected, secret):
                self._on_cancel()
                if session.upstream.cancel(taken):
                    return
        secret_of_other, cancel = self._others.get(process_id, (b"", None))
        if cancel is not None and hmac.compare_digest(secret_of_other, secret):
            cancel()
        taken()

    def __iter__(self) -> Iterator["Session"]:
        return iter(list(self._keys))

    def __len__(self) -> int:
        return len(self._keys)


def _take_out(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
