"""Staying away from databases while a client drops, renames or copies them.

Idle connections of every user's pool, the monitor's, the catalogue's, and that which listens for
clients if none does: all are closed before the statement is sent. Connections that clients use are
left alone: PostgreSQL then refuses the statement, as it should. What watches them comes back when
the statement has been answered, or after a while; PostgreSQL looks for others when it begins.
"""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from proxy.server.databases import Database
from proxy.server.running import Running
from proxy.session.context import DatabaseContext
from proxy.session.vacancy import Vacancy
from proxy.tasks import spawn
from proxy.wire.errors import PgError

log = structlog.get_logger(__name__)

_MOST_SECONDS = 2.0
"""For closing; PostgreSQL waits another 5 s for others to leave (CountOtherDBBackends)."""
_LEASE_SECONDS = 30.0
_EVERYTHING = frozenset({"*"})


class Vacancies:
    """See the module's docstring. Names are those on the servers."""

    def __init__(self, process: Running) -> None:
        self._process = process
        self._held: dict[tuple[frozenset[str], int], asyncio.TimerHandle] = {}

    def begin(
        self, context: DatabaseContext, names: frozenset[str], done: Callable[[Vacancy], None]
    ) -> None:
        """A client of `context` is about to run a statement that demands these to be free."""
        port = context.topology.primary.address.port
        spawn(self._begin(names, port, done), "vacate")

    async def _begin(
        self, names: frozenset[str], port: int, done: Callable[[Vacancy], None]
    ) -> None:
        await self.vacate(names, port)
        await self._tell("vacate", names, port)
        done(_Vacant(self, names, port))

    async def _tell(self, what: str, names: frozenset[str], port: int) -> None:
        seat = self._process.seat
        if seat is not None:
            try:
                async with asyncio.timeout(_MOST_SECONDS):
                    await seat.occupancy(what, names, port)
            except (TimeoutError, PgError, OSError) as error:
                log.warning("not all workers have answered", asked=what, error=str(error))

    async def vacate(self, names: frozenset[str], port: int) -> None:
        """Close what idles in these databases of servers on this port."""
        self.occupy(names, port)
        loop = asyncio.get_running_loop()
        key = names, port
        self._held[key] = loop.call_later(_LEASE_SECONDS, self.occupy, names, port)
        try:
            async with asyncio.timeout(_MOST_SECONDS):
                await asyncio.gather(*(one.vacate(key) for one in self._of(names, port)))
        except TimeoutError:
            log.warning("connections to a database are not closed yet", databases=sorted(names))

    def occupy(self, names: frozenset[str], port: int) -> None:
        """Go on as before."""
        key = names, port
        lease = self._held.pop(key, None)
        if lease is None:
            return
        lease.cancel()
        for database in self._of(names, port):
            on_demand = self._process.on_demand.unwatch(database.context.name)
            database.occupy(key, watch=not on_demand)

    def _of(self, names: frozenset[str], port: int) -> list[Database]:
        """By name and port: a host may have several names."""
        return [
            one
            for one in self._process.all_databases()
            if any(
                node.address.database in names and node.address.port == port
                for node in one.context.topology.nodes()
            )
        ]

    def end(self, names: frozenset[str], port: int) -> None:
        """The statement has been answered."""
        self.occupy(names, port)
        spawn(self._tell("occupy", names, port), "occupy")

    def forget_results(self, names: frozenset[str], port: int, done: Callable[[], None]) -> None:
        """Take what was read from them out of the cache."""
        cache = self._process.cache
        if cache is None:
            done()
            return
        known = {one.context.name for one in self._of(names, port)}
        _one_after_the_other(
            [partial(cache.results.move, name, _EVERYTHING) for name in sorted(known | names)], done
        )


def _one_after_the_other(
    moves: Iterable[Callable[[Callable[[], None]], None]], done: Callable[[], None]
) -> None:
    rest = list(moves)

    def step() -> None:
        if rest:
            rest.pop()(step)
        else:
            done()

    step()


class _Vacant:
    """Implements `proxy.session.vacancy.Vacancy`."""

    def __init__(self, vacancies: Vacancies, names: frozenset[str], port: int) -> None:
        self._vacancies = vacancies
        self._names = names
        self._port = port

    def forget_results(self, done: Callable[[], None]) -> None:
        self._vacancies.forget_results(self._names, self._port, done)

    def end(self) -> None:
        self._vacancies.end(self._names, self._port)
