"""One database's machinery: topology, monitor, catalogue, pools, plans."""

import asyncio
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial

from proxy.admin.metrics import PoolRow
from proxy.auth.state import AuthState
from proxy.cache.calls import CacheCalls
from proxy.cache.cascades import Cascades
from proxy.cache.codec import codec_for
from proxy.cache.feed.feed import ON_DEMAND, Feed
from proxy.cache.feed.gathering import KeyColumn
from proxy.cache.keys import EVERYTHING
from proxy.cache.manager import CacheManager
from proxy.cache.results import ResultCache
from proxy.cache.statistics import BY_SCHEMA
from proxy.cache.trust import FeedTrust
from proxy.cache.writeback.writeback import WriteBack
from proxy.config.pooling import database_settings, feed_settings, pool_settings
from proxy.config.settings import DatabaseSettings, PoolSettings, Settings
from proxy.pool.connections import Connections
from proxy.pool.pool import Login, Pool
from proxy.routing.keyed import Keyed, keyed_tables
from proxy.routing.plan import Plan
from proxy.routing.planner import Planner
from proxy.routing.rules import rules_of
from proxy.routing.writing_back import tables_written_back
from proxy.server.limits import Limits
from proxy.server.security import Security
from proxy.session.context import DatabaseContext
from proxy.session.explanation import explain
from proxy.session.inquiry import inquire
from proxy.session.keyed import group_of_text
from proxy.session.plans import PlanCache
from proxy.session.refresh import hot_results
from proxy.sharding.keys import TYPES_BY_NAME
from proxy.sharding.shardmap import HashShardMap
from proxy.sql.catalogue import Catalogue
from proxy.sql.statement import Analysis
from proxy.tasks import spawn
from proxy.topology.build import build_topology, rebuild_topology
from proxy.topology.catalogue_watch import CatalogueWatch
from proxy.topology.counters import Counters
from proxy.topology.monitor import Monitor
from proxy.topology.node import DatabaseTopology, Node
from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.passwords import PlainPassword

_MOVED = PgError(errors.ADMIN_SHUTDOWN, "the database has another primary from now on")


class Pools:
    """The pools of one database, made when first asked for."""

    def __init__(
        self,
        database: str,
        settings: Settings,
        auth: AuthState,
        counters: Counters,
        limits: Limits,
    ) -> None:
        self._database = database
        self._auth = auth
        self._counters = counters
        self._limits = limits
        self._pools: dict[tuple[str, str], Pool] = {}
        self._retired: list[Pool] = []
        """Of nodes that are configured no more: they go when their last connection does."""
        self.paused = False
        self.held = False
        self._read(settings)

    def _read(self, settings: Settings) -> None:
        self._settings = settings
        self._of_user: dict[str, PoolSettings] = {}
        self._connect_query = settings_of(settings, self._database).connect_query

    def configure(self, settings: Settings) -> None:
        """Go by these settings, and by the authentication now in force, from now on."""
        self._read(settings)
        for (_, user), pool in self._pools.items():
            pool.configure(self.settings_of(user), self._connect_query)

    def get(self, node: Node, user: str) -> Pool:
        """The pool of `user` on `node`."""
        pool = self._pools.get((node.name, user))
        if pool is None:
            pool = self._pools[node.name, user] = Pool(
                node,
                self._database,
                Login(user, partial(self._auth.server_secret, self._database, user)),
                self.settings_of(user),
                self._counters,
                self._limits.of(node.address, self._database, user),
                self._connect_query,
            )
            if self.paused:
                pool.pause()
            if self.held:
                pool.hold()
        return pool

    def settings_of(self, user: str) -> PoolSettings:
        """What holds for the pools of `user`."""
        found = self._of_user.get(user)
        if found is None:
            found = self._of_user[user] = pool_settings(self._settings, self._database, user)
        return found

    def retire(self, nodes: list[Node]) -> None:
        """These nodes are configured no more: nothing new is sent there."""
        gone = {id(node) for node in nodes}
        for key, pool in list(self._pools.items()):
            if id(pool.node) in gone:
                pool.retire()
                self._retired.append(pool)
                del self._pools[key]

    def sweep(self, now: float) -> None:
        """Called each second."""
        for pool in self:
            pool.sweep(now)
        for pool in [one for one in self._retired if not one.size and not one.waiting_count]:
            pool.close()
            self._retired.remove(pool)

    def __iter__(self) -> Iterator[Pool]:
        return iter([*self._pools.values(), *self._retired])

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

    def outside(self, node: Node, wanted: str | None) -> Connections:
        """Connections of Penstock's own to `node`, which count as no pool's."""
        user = wanted or self._auth.current.first_user or "postgres"
        login = Login(user, partial(self._auth.server_secret, self._database, user))
        return Connections(node, self._database, login, self.settings_of(user))

    def monitor_login(self, wanted: str | None) -> tuple[str, str | None]:
        """The login for Penstock's own connections."""
        user = wanted or self._auth.current.first_user or "postgres"
        secret = self._auth.server_secret(self._database, user)
        return user, secret.text if isinstance(secret, PlainPassword) else None

    # What an operator asks for

    def pause(self) -> None:
        """Lend nothing more, and close every connection as it is released."""
        self.paused = True
        for pool in self:
            pool.pause()

    def hold(self) -> None:
        """Lend nothing more, and keep the connections."""
        self.held = True
        for pool in self:
            pool.hold()

    def resume(self) -> None:
        """End `pause` and `hold`."""
        self.paused = self.held = False
        for pool in self:
            pool.resume()

    def reconnect(self) -> None:
        """Replace every connection as soon as it is released."""
        for pool in self:
            pool.reconnect()

    def kill(self, error: PgError) -> None:
        """Close every connection at once."""
        for pool in self:
            pool.kill(error)

    @property
    def released(self) -> bool:
        """Whether nobody holds a connection, nor is one being made."""
        return all(pool.released for pool in self)

    @property
    def renewed(self) -> bool:
        """Whether no connection is left that is to be closed as soon as it is released."""
        return not any(pool.must_close(one) for pool in self for one in pool.backends)


class Database:
    """A running database; `limits` are shared by all. Needs a running event loop."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        auth: AuthState,
        cache: ResultCache | None,
        security: Security,
        limits: Limits | None = None,
    ) -> None:
        own = settings_of(settings, name)
        self._name = name
        self._keyed: Keyed = {}
        self._settings = settings
        self._dialing = security.dialing(name)
        self._cached = cache is not None
        self._results = cache
        self._shards = HashShardMap(own.sharding) if own.sharding.enabled else None
        topology = build_topology(name, own, self._dialing)
        counters = Counters()
        self.pools = Pools(name, settings, auth, counters, limits or Limits(settings))
        self._login = self.pools.monitor_login(own.monitor_user)
        self._defaults: str | None = None
        """`Catalogue.defaults` of the last one."""
        self.catalogue = CatalogueWatch(topology.primary.address, self._login, self._replan)
        self.context = DatabaseContext(
            name=name,
            settings=own,
            pool_settings=pool_settings(settings, name, ""),
            pool_settings_of=self.pools.settings_of,
            routing=settings.routing,
            topology=topology,
            plans=PlanCache(self._planner(Catalogue()), counters, self._planners(Catalogue())),
            catalogue=self.catalogue,
            cache=cache,
            counters=counters,
            pool_of=self.pools.get,
            explain=explain,
            max_message_size=settings.server.max_message_size,
            sharded=own.sharding.enabled,
            notification_backlog=settings.limits.notification_backlog,
        )
        self.context.calls = self._calls()
        if cache is not None:
            self.context.hot = hot_results(self.context, cache)
        self.context.inquire = inquire
        self.context.write_back = self._write_back()
        self._cascade(Catalogue())
        self.catalogue.look_for_keys(self._key_columns())
        self.feed = self._new_feed()
        self.monitor = self._watch(topology)
        self._started = self._watching = False
        self._vacant: set[object] = set()
        """Who demands that it is left alone."""
        self._changing = asyncio.Lock()

    def _key_columns(self) -> tuple[str, ...]:
        rules = rules_of(self._settings.cache.rules, self._name)
        return tuple(sorted({rule.key for rule in rules if rule.key is not None}))

    def _key_of(self, table: str) -> KeyColumn | None:
        """How the change feed invalidates a table by key."""
        found = self._keyed.get(table)
        if found is None:
            return None
        kind = TYPES_BY_NAME[found.type]
        return KeyColumn(found.column, kind.oid, partial(group_of_text, kind))

    def _calls(self) -> CacheCalls | None:
        """What carries out calls of the schema `penstock`."""
        settings, results, name = self._settings.cache, self._results, self._name
        if results is None:
            return None
        return CacheCalls(lambda: CacheManager.open(settings, name), lambda: results.usable)

    def _write_back(self) -> WriteBack | None:
        """What takes single-row writes, where rules say so."""
        settings, results = self._settings.cache, self._results
        globs = tables_written_back(rules_of(settings.rules, self._name))
        if not globs or results is None:
            return None
        own, login = settings.write_back, settings.write_back.user
        return WriteBack(
            self._name,
            own,
            globs,
            results,
            codec_for(settings),
            lambda: self.pools.outside(
                self.context.topology.primary, login or self.context.settings.monitor_user
            ),
            settings.timeout,
        )

    def _write_back_changes(self, settings: Settings, old: Settings) -> bool:
        globs, before = (
            tables_written_back(rules_of(one.cache.rules, self._name)) for one in (settings, old)
        )
        return globs != before or (
            bool(globs) and settings.cache.write_back != old.cache.write_back
        )

    def _watch(self, topology: DatabaseTopology) -> Monitor:
        feed = self.feed
        on_sample = None if feed is None else feed.sampled
        return Monitor(topology, self._login, self._settings.routing, on_sample=on_sample)

    def _new_feed(self) -> Feed | None:
        """The change feed, where there is to be one. Not started yet."""
        context, settings = self.context, feed_settings(self._settings, self.context.name)
        context.trust, self.catalogue.on_difference = None, None
        wanted = settings.enabled and self._results is not None
        if not wanted or context.name not in self._settings.databases:
            self.catalogue.feed_by(None)
            if wanted:
                context.trust = FeedTrust(settings.max_lag)
                context.trust.obstacle = ON_DEMAND
            return None
        assert self._results is not None
        feed = Feed(
            context.name,
            settings,
            self._results,
            self._feed_connections,
            self.catalogue,
            self,
            self._settings.routing.monitor_interval,
            self._key_of,
        )
        context.trust, self.catalogue.on_difference = feed.trust, feed.schema_differs
        self.catalogue.feed_by(settings.publication)
        return feed

    def _feed_connections(self) -> Connections:
        settings, own = feed_settings(self._settings, self.context.name), self.context.settings
        return self.pools.outside(self.context.topology.primary, settings.user or own.monitor_user)

    def fresh_until(self, system: int, timeline: int, lsn: int) -> float:
        """See `Findings.fresh_until`."""
        return self.monitor.findings.fresh_until(system, timeline, lsn)

    def newest(self, system: int, timeline: int) -> int | None:
        """See `Findings.newest`."""
        return self.monitor.findings.newest(system, timeline)

    def _planner(self, catalogue: Catalogue, user: str = "") -> Callable[[Analysis], Plan]:
        settings = self._settings
        return Planner(
            settings.routing,
            settings.cache,
            catalogue,
            self._shards,
            hints_cache=self._cached,
            database=self._name,
            user=user,
        ).plan

    def _planners(self, catalogue: Catalogue) -> Callable[[str], Callable[[Analysis], Plan]] | None:
        """The planner of each user, the same for all whom the same rules are for; None where no
        rule is for some only."""
        rules, name = self._settings.cache.rules, self._name
        if not any(rule.users for rule in rules):
            return None
        made: dict[tuple[str, ...], Callable[[Analysis], Plan]] = {}

        def of_user(user: str) -> Callable[[Analysis], Plan]:
            key = tuple(rule.name for rule in rules_of(rules, name, user))
            if key not in made:
                made[key] = self._planner(catalogue, user)
            return made[key]

        return of_user

    def _replan(self, catalogue: Catalogue) -> None:
        before = self._keyed
        self._keyed = keyed_tables(rules_of(self._settings.cache.rules, self._name), catalogue)
        if any(self._keyed.get(table) != key for table, key in before.items()):
            # What others read meanwhile by another key has not been told of this one's writes.
            results = self._results
            if results is not None:
                everything = frozenset((EVERYTHING,))
                results.move(self._name, everything, lambda: None, BY_SCHEMA)
        if self._defaults not in (None, catalogue.defaults):
            # Who connected before has other settings than who does now: their answers to the same
            # question may differ.
            self.context.welcomes.clear()
            self.pools.reconnect()
        self._defaults = catalogue.defaults
        if self.context.write_back is not None:
            self.context.write_back.know(catalogue.relations if catalogue.loaded else None)
        self.context.plans.replace_planner(self._planner(catalogue), self._planners(catalogue))
        self._cascade(catalogue)

    def _cascade(self, catalogue: Catalogue) -> None:
        if self._results is not None:
            rules = [
                rule
                for rule in self._settings.cache.invalidations
                if not rule.databases
                or any(fnmatchcase(self._name, glob) for glob in rule.databases)
            ]
            self._results.cascade(self._name, Cascades(rules, catalogue) if rules else None)

    async def start(self) -> None:
        """Begin to watch; waits for nothing."""
        self._started = True
        await self._adjust()

    async def _adjust(self) -> None:
        """Watch, or don't, as things are."""
        async with self._changing:
            wanted = self._started and not self._vacant
            if wanted and not self._watching:
                self._watching = True
                await self.monitor.start()
                await self.catalogue.start()
                if self.feed is not None:
                    self.feed.start()
                if self.context.write_back is not None:
                    self.context.write_back.start()
            elif self._watching and not wanted:
                self._watching = False
                if self.context.write_back is not None:
                    await self.context.write_back.stop()
                if self.feed is not None:
                    await self.feed.stop()
                await self.monitor.stop()
                await self.catalogue.stop()

    async def vacate(self, reason: object) -> None:
        """Close every connection to it that nobody uses, until `occupy` with the same reason."""
        self._vacant.add(reason)
        self.context.listener.rest()
        for pool in self.pools:
            pool.vacate()
        await self._adjust()

    def occupy(self, reason: object, watch: bool) -> None:
        """Go on as before; perhaps it is another database of the same name. `watch`: at once."""
        self._vacant.discard(reason)
        self._started = self._started and watch
        self.context.welcomes.clear()
        for pool in self.pools:
            pool.occupy()
        self.catalogue.invalidate()
        spawn(self._adjust(), f"watch {self.context.name}")

    async def stop(self) -> None:
        """Stop watching, close idle server connections."""
        self._started = False
        await self._adjust()
        if self.context.calls is not None:
            await self.context.calls.close()
        self.context.listener.close()
        for pool in self.pools:
            pool.close()

    def pause(self) -> None:
        """Lend no server connections, and close them as they are released."""
        self.context.paused = True
        self.pools.pause()

    def resume(self) -> None:
        """Lend again."""
        self.context.paused = False
        self.pools.resume()

    async def apply(self, settings: Settings) -> None:
        """Go by these settings from now on. What is under way is not disturbed; connections to
        nodes that are configured no more are closed as they are released."""
        name, context = self.context.name, self.context
        own, old, old_own = settings_of(settings, name), self._settings, context.settings
        self._settings = settings
        context.settings, context.routing = own, settings.routing
        context.pool_settings = pool_settings(settings, name, "")
        context.listener.relistens = context.pool_settings.listener_loss == "warn"
        context.notification_backlog = settings.limits.notification_backlog
        context.replicas = own.replicas
        context.max_lag = settings.routing.max_lag
        if context.read_your_writes != settings.routing.read_your_writes:
            context.writes.tick(frozenset())  # tables may have been left out until now
        context.read_your_writes = settings.routing.read_your_writes
        context.max_message_size = settings.server.max_message_size
        before = context.topology.nodes()
        primary = context.topology.primary
        gone = rebuild_topology(context.topology, own, self._dialing)
        if context.topology.primary is not primary:
            context.listener.move(_MOVED)
        self.pools.retire(gone)
        self.pools.configure(settings)
        if own.connect_query != old_own.connect_query:
            context.welcomes.clear()
        login = self.pools.monitor_login(own.monitor_user)
        fed_anew = (
            feed_settings(settings, name) != feed_settings(old, name)
            or before[0] is not context.topology.primary
            or own.monitor_user != old_own.monitor_user
        )
        if self._write_back_changes(settings, old):
            if context.write_back is not None:
                await context.write_back.stop()  # readers wait for what it had until that is done
            context.write_back = self._write_back()
            if context.write_back is not None and self._watching:
                context.write_back.start()
        context.topology.tell()
        if fed_anew:
            if self.feed is not None:
                await self.feed.stop()
            self.feed = self._new_feed()
            if self.feed is not None and self._watching:
                self.feed.start()
        if (
            [id(node) for node in before] != [id(node) for node in context.topology.nodes()]
            or login != self._login
            or fed_anew
            or settings.routing.monitor_interval != old.routing.monitor_interval
        ):
            self._login = login
            context.welcomes.clear()
            async with self._changing:
                await self.monitor.stop()
                self.monitor = self._watch(context.topology)
                if self._watching:
                    await self.monitor.start()
            self.catalogue.move(context.topology.primary.address, login)
        self.catalogue.look_for_keys(self._key_columns())
        if (settings.routing, settings.cache, own) != (old.routing, old.cache, old_own):
            self._replan(self.catalogue.current)


def settings_of(settings: Settings, name: str) -> DatabaseSettings:
    """The settings of a database that is served: its own, or the wildcard's."""
    own = database_settings(settings, name)
    assert own is not None
    return own
