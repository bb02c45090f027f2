"""One database's machinery: topology, monitor, catalogue, pools, plans."""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.admin.metrics import PoolRow
from proxy.cache.results import ResultCache
from proxy.config.settings import DatabaseSettings, Settings
from proxy.pool.pool import Login, Pool
from proxy.routing.planner import Planner
from proxy.session.context import DatabaseContext
from proxy.session.explanation import explain
from proxy.session.plans import PlanCache
from proxy.sharding.shardmap import HashShardMap
from proxy.sql.catalogue import Catalogue
from proxy.topology.build import build_topology
from proxy.topology.catalogue_watch import CatalogueWatch
from proxy.topology.counters import Counters
from proxy.topology.monitor import Monitor
from proxy.topology.node import Node


class Pools:
    """The pools of one database, made when first asked for."""

    def __init__(self, database: str, settings: Settings, own: DatabaseSettings) -> None:
        self._database = database
        self._pool_settings = own.pool or settings.pool
        self._pools: dict[tuple[str, str], Pool] = {}
        self._passwords: dict[str, str | None] = {}
        for user in settings.auth.users:
            secret = user.server_password or user.password
            self._passwords[user.name] = secret.get_secret_value() if secret else None

    def get(self, node: Node, user: str) -> Pool:
        """The pool of `user` on `node`."""
        pool = self._pools.get((node.name, user))
        if pool is None:
            login = Login(user, self._passwords.get(user))
            pool = Pool(node, self._database, login, self._pool_settings)
            self._pools[node.name, user] = pool
        return pool

    def __iter__(self) -> Iterator[Pool]:
        return iter(list(self._pools.values()))

    def rows(self) -> Iterator[PoolRow]:
        """What metrics show."""
        for pool in self._pools.values():
            yield PoolRow(
                pool.database,
                pool.login.user,
                pool.node.name,
                len(pool.backends) - pool.idle_count,
                pool.idle_count,
                pool.waiting_count,
                pool.settings.size,
            )

    def monitor_login(self, wanted: str | None) -> tuple[str, str | None]:
        """The login for Penstock's own connections."""
        user = wanted or next(iter(self._passwords), "postgres")
        return user, self._passwords.get(user)


@dataclass(frozen=True, slots=True)
class Database:
    """A running database."""

    context: DatabaseContext
    pools: Pools
    monitor: Monitor
    catalogue: CatalogueWatch

    async def start(self) -> None:
        """Begin to watch; waits for nothing."""
        await self.monitor.start()
        await self.catalogue.start()

    async def stop(self) -> None:
        """Stop watching, close idle server connections."""
        await self.monitor.stop()
        await self.catalogue.stop()
        for pool in self.pools:
            pool.close()


def make_database(
    name: str, settings: Settings, cache: ResultCache | None, counters: Counters
) -> Database:
    """Put one database together. Needs a running event loop."""
    own = settings.databases[name]
    topology = build_topology(name, own)
    pools = Pools(name, settings, own)
    login = pools.monitor_login(own.monitor_user)
    shards = HashShardMap(own.sharding) if own.sharding.enabled else None

    def planner(catalogue: Catalogue) -> Planner:
        return Planner(
            settings.routing, settings.cache, catalogue, shards, hints_cache=cache is not None
        )

    plans = PlanCache(planner(Catalogue()).plan, counters)
    watch = CatalogueWatch(
        topology.primary.address,
        login,
        on_change=lambda catalogue: plans.replace_planner(planner(catalogue).plan),
    )
    context = DatabaseContext(
        name=name,
        settings=own,
        pool_settings=own.pool or settings.pool,
        routing=settings.routing,
        topology=topology,
        plans=plans,
        catalogue=watch,
        cache=cache,
        counters=counters,
        pool_of=pools.get,
        explain=explain,
        max_message_size=settings.server.max_message_size,
        sharded=own.sharding.enabled,
    )
    return Database(context, pools, Monitor(topology, login, settings.routing), watch)
