"""A cancel request that has arrived brings back only what belongs to the pool."""

from typing import cast

from proxy.config.settings import PoolSettings
from proxy.pool.backend import Backend
from proxy.pool.connections import Login
from proxy.pool.pool import Pool
from proxy.topology.node import Address, Node, Role


class Stub:
    """What the pool looks at in a backend."""

    def __init__(self) -> None:
        self.pending_cancels = 1
        self.in_use = self.closed = False


class Watched(Pool):
    """Notes what is released."""

    def __init__(self) -> None:
        node = Node("primary", Role.PRIMARY, Address("127.0.0.1", 1, "shop"))
        login = Login("app", lambda: None)
        super().__init__(node, "shop", login, PoolSettings.model_validate({}))
        self.released_ones: list[object] = []

    def release(self, backend: Backend) -> None:
        self.released_ones.append(backend)


def test_a_pooled_backend_comes_back() -> None:
    pool, backend = Watched(), cast(Backend, Stub())
    pool.backends.add(backend)
    pool.cancel_arrived(backend)
    assert pool.released_ones == [backend]


def test_a_replication_clients_backend_is_lent_to_nobody() -> None:
    pool, backend = Watched(), cast(Backend, Stub())
    pool.cancel_arrived(backend)
    assert pool.released_ones == []
    assert backend.pending_cancels == 0
