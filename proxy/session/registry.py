"""All sessions of the process, by the key that cancels them."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from proxy.wire import cancel_key

if TYPE_CHECKING:
    from proxy.session.session import Session


class Registry:
    """Gives out cancel keys that name `worker`, and finds sessions by them.

    `elsewhere` is told of requests whose key this worker has not given out, with what to call once
    they have been carried out. `settle` is called before sessions are looked at.
    """

    def __init__(
        self,
        on_removed: Callable[[], None],
        on_cancel: Callable[[], None],
        worker: int = 0,
        elsewhere: Callable[[int, bytes, Callable[[], None]], None] | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._settle = settle
        self._worker = worker
        self._elsewhere = elsewhere
        self._sessions: dict[int, dict[bytes, Session]] = {}
        """By process id and secret: servers give the same process id more than once."""
        self._keys: dict[Session, tuple[int, bytes]] = {}
        self._others: dict[int, tuple[bytes, Callable[[], None]]] = {}
        self.by_database: Counter[str] = Counter()
        self.by_user: Counter[str] = Counter()
        self._on_removed = on_removed
        self._on_cancel = on_cancel

    def add(
        self, session: "Session", minor: int, process_id: int | None = None
    ) -> tuple[int, bytes]:
        """(process id, secret) for the BackendKeyData of a client that speaks protocol 3.`minor`.

        `process_id`: that of the server's process, for a client which keeps it to itself: such a
        client expects to find it in NOTIFY's messages and pg_stat_activity. It names no worker.
        """
        if process_id is None:
            process_id = self._free_id()
        those = self._sessions.setdefault(process_id, {})
        while (secret := cancel_key.new_secret(minor)) in those:
            pass
        those[secret] = session
        self._keys[session] = process_id, secret
        self.by_database[session.context.name] += 1
        self.by_user[session.client.user] += 1
        return process_id, secret

    def add_other(self, cancel: Callable[[], None]) -> tuple[int, bytes]:
        """(process id, secret) for a client that is no session; `cancel` is its cancel request."""
        process_id, secret = self._free_id(), cancel_key.new_secret(0)
        self._others[process_id] = (secret, cancel)
        return process_id, secret

    def remove_other(self, process_id: int) -> None:
        """This client is over."""
        self._others.pop(process_id, None)

    def _free_id(self) -> int:
        process_id = 0
        while not process_id or process_id in self._sessions or process_id in self._others:
            process_id = cancel_key.process_id(self._worker, cancel_key.new_session())
        return process_id

    def told(self, process_id: int) -> "Session | None":
        """The session whose client was told this number, if that is none of a server's process."""
        those = self._sessions.get(process_id, {})
        for session in those.values():
            if len(those) == 1 and not session.keeps_backend:
                session.leave_fast_path()
                return session
        return None

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
        if self.cancel_here(process_id, secret, taken):
            return
        if self._elsewhere is None:
            taken()
        else:
            self._elsewhere(process_id, secret, taken)

    def cancel_here(self, process_id: int, secret: bytes, taken: Callable[[], None]) -> bool:
        """As `cancel`, where the key was given out here; false if it was not."""
        for expected, session in self._sessions.get(process_id, {}).items():
            if cancel_key.same(expected, secret):
                self._on_cancel()
                session.leave_fast_path()
                if not session.upstream.cancel(taken):
                    taken()
                return True
        secret_of_other, cancel = self._others.get(process_id, (b"", None))
        if cancel is not None and cancel_key.same(secret_of_other, secret):
            cancel()
            taken()
            return True
        return False

    def __iter__(self) -> Iterator["Session"]:
        self._settle()
        return iter(list(self._keys))

    def unsettled(self) -> list["Session"]:
        """All, as they are."""
        return list(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def _take_out(counts: Counter[str], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
