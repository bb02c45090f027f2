"""All sessions of the process, by the key that cancels them."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from proxy.wire import cancel_key

if TYPE_CHECKING:
    from proxy.session.session import Session


class Registry:
    """Gives out cancel keys that name `worker`, and finds sessions by them.

    `elsewhere` is told of requests whose key another worker has given out.
    """

    def __init__(
        self,
        on_removed: Callable[[], None],
        on_cancel: Callable[[], None],
        worker: int = 0,
        elsewhere: Callable[[int, bytes], None] | None = None,
    ) -> None:
        self._worker = worker
        self._elsewhere = elsewhere
        self._sessions: dict[int, tuple[bytes, Session]] = {}
        self._keys: dict[Session, int] = {}
        self._others: dict[int, tuple[bytes, Callable[[], None]]] = {}
        self._on_removed = on_removed
        self._on_cancel = on_cancel

    def add(self, session: "Session") -> tuple[int, bytes]:
        """(process id, secret) for the client's BackendKeyData."""
        process_id, secret = self._new_key(0)
        self._sessions[process_id] = (secret, session)
        self._keys[session] = process_id
        return process_id, secret

    def add_other(self, cancel: Callable[[], None]) -> tuple[int, bytes]:
        """(process id, secret) for a client that is no session; `cancel` is its cancel request."""
        process_id, secret = self._new_key(0)
        self._others[process_id] = (secret, cancel)
        return process_id, secret

    def _new_key(self, minor: int) -> tuple[int, bytes]:
        process_id = 0
        while not process_id or process_id in self._sessions or process_id in self._others:
            process_id = cancel_key.process_id(self._worker, cancel_key.new_session())
        return process_id, cancel_key.new_secret(minor)

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
        if self._elsewhere is not None and cancel_key.worker_of(process_id) != self._worker:
            self._elsewhere(process_id, secret)
            return
        expected, session = self._sessions.get(process_id, (b"", None))
        if session is not None and cancel_key.same(expected, secret):
            self._on_cancel()
            session.upstream.cancel()
        secret_of_other, cancel = self._others.get(process_id, (b"", None))
        if cancel is not None and cancel_key.same(secret_of_other, secret):
            cancel()

    def __iter__(self) -> Iterator["Session"]:
        return iter(list(self._keys))

    def __len__(self) -> int:
        return len(self._keys)
