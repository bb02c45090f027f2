"""Writers and readers over several connections, every operation noted in a History.

Each way of writing has tables of its own and two rows with one writer each; readers ask for any row
by any way of reading that fits. All connections stand faults: what they can't tell is unknown.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from urllib.request import urlopen

from tests.faults.cache.history import History, State
from tests.integration.session.raw import (
    COPY_DONE,
    PATIENCE,
    SYNC,
    Gone,
    LoginRefused,
    RawClient,
    Reply,
    bind,
    copy_data,
    execute,
    parse,
    query,
)
from tests.proxies import Proxy

RULE = '[[cache.rule]]\nname = "all"\ntables = ["c_*"]\nttl = "60s"\n'
KEYS = (1, 2)
FEWEST_HITS = 20
_ROW, _ERROR, _READY = b"DEZ"
LIMIT = 60.0
"""Seconds in which the reads must have been made."""


class Failed(Exception):
    """A statement's answer was an error: its outcome is unknown to the writer."""


async def done(client: RawClient, *parts: bytes) -> Reply:
    """Send, and raise Failed for an error."""
    reply = await client.ask(*parts)
    if reply.errors:
        if reply.status != "I":
            await client.query("ROLLBACK")
        raise Failed(reply.errors[0])
    return reply


Write1 = Callable[[RawClient, int, int], Coroutine[None, None, object]]
"""(client, key, version): write it by however many statements."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way of writing: its schema, what writes, what reads."""

    name: str
    schema: str
    write: Write1
    read: str = "SELECT version FROM c_{name} WHERE id = {key}"
    deletes: Write1 | None = None
    """Now and then the row is removed by this instead."""

    @property
    def parameterised(self) -> str:
        return self.read.format(name=self.name, key="$1::int")

    def text(self, key: int) -> str:
        return self.read.format(name=self.name, key=key)


TABLE = "CREATE TABLE c_{name} (id int PRIMARY KEY, version int NOT NULL);"
ROWS = "INSERT INTO c_{name} VALUES (1, 0), (2, 0);"


def simple(sql: str) -> Write1:
    """A simple Query with {key} and {version}."""

    async def write(client: RawClient, key: int, version: int) -> None:
        await done(client, query(sql.format(key=key, version=version)))

    return write


def steps(*statements: str) -> Write1:
    """Several Queries, one after the other."""

    async def write(client: RawClient, key: int, version: int) -> None:
        for sql in statements:
            await done(client, query(sql.format(key=key, version=version)))

    return write


def extended(sql: str) -> Write1:
    """Parse, Bind, Execute and Sync with the parameters version and key."""

    async def write(client: RawClient, key: int, version: int) -> None:
        values = (str(version).encode(), str(key).encode())
        await done(client, parse(sql), bind(*values), execute(), SYNC)

    return write


async def copy_in(client: RawClient, key: int, version: int) -> None:
    """Replace the row by COPY."""
    await done(client, query(f"BEGIN; DELETE FROM c_copy WHERE id = {key}"))
    client.send(query("COPY c_copy FROM STDIN"))
    while (got := await client.receive()).kind != "G":
        if got.kind == "Z":
            raise Failed("no COPY")
    await done(client, copy_data(f"{key}\t{version}\n".encode()), COPY_DONE)
    await done(client, query("COMMIT"))


GUARDED = frozenset({"plain", "bound", "committed"})
"""Ways that never take a version back: for writers that leave before they know the outcome."""

PRECISE = (
    Way(
        "plain",
        TABLE + ROWS,
        simple("UPDATE c_plain SET version = {version} WHERE id = {key} AND version < {version}"),
    ),
    Way(
        "bound",
        TABLE + ROWS,
        extended("UPDATE c_bound SET version = $1::int WHERE id = $2::int AND version < $1::int"),
    ),
    Way(
        "committed",
        TABLE + ROWS,
        steps(
            "BEGIN",
            "UPDATE c_committed SET version = {version} WHERE id = {key} AND version < {version}",
            "COMMIT",
        ),
    ),
    Way(
        "undone",
        TABLE + ROWS,
        steps(
            "BEGIN",
            "UPDATE c_undone SET version = -{version} WHERE id = {key}",
            "ROLLBACK",
            "BEGIN",
            "SAVEPOINT a",
            "UPDATE c_undone SET version = -{version} WHERE id = {key}",
            "ROLLBACK TO a",
            "UPDATE c_undone SET version = {version} WHERE id = {key}",
            "COMMIT",
        ),
    ),
    Way(
        "viewed",
        TABLE + ROWS + "CREATE VIEW v_viewed AS SELECT id AS key, version AS v FROM c_viewed;",
        simple("UPDATE v_viewed SET v = {version} WHERE key = {key}"),
    ),
    Way(
        "child",
        "CREATE TABLE p_child (id int PRIMARY KEY);"
        "CREATE TABLE c_child (id int PRIMARY KEY REFERENCES p_child ON DELETE CASCADE, "
        "version int); INSERT INTO p_child VALUES (1), (2);" + ROWS,
        simple(
            "INSERT INTO p_child VALUES ({key}) ON CONFLICT DO NOTHING;"
            "INSERT INTO c_child VALUES ({key}, {version}) ON CONFLICT (id) "
            "DO UPDATE SET version = excluded.version"
        ),
        deletes=simple("DELETE FROM p_child WHERE id = {key}"),
    ),
    Way(
        "shadow",
        TABLE + ROWS + "CREATE TABLE s_shadow (id int, version int);"
        "CREATE FUNCTION f_shadow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE c_shadow SET version = NEW.version WHERE id = NEW.id; RETURN NEW; END $$;"
        "CREATE TRIGGER t_shadow AFTER INSERT ON s_shadow "
        "FOR EACH ROW EXECUTE FUNCTION f_shadow();",
        simple("INSERT INTO s_shadow VALUES ({key}, {version})"),
    ),
    Way(
        "several",
        TABLE + ROWS,
        simple(
            "SELECT 1; UPDATE c_several SET version = -1 WHERE id = {key}; "
            "UPDATE c_several SET version = {version} WHERE id = {key}; SELECT 2"
        ),
    ),
    Way(
        "cte",
        TABLE + ROWS,
        simple(
            "WITH w AS (UPDATE c_cte SET version = {version} WHERE id = {key} RETURNING id) "
            "SELECT count(*) FROM w"
        ),
    ),
    Way("copy", TABLE + ROWS, copy_in),
    Way(
        "part",
        "CREATE TABLE c_part (id int PRIMARY KEY, version int) PARTITION BY LIST (id);"
        "CREATE TABLE c_part_1 PARTITION OF c_part FOR VALUES IN (1);"
        "CREATE TABLE c_part_2 PARTITION OF c_part FOR VALUES IN (2);" + ROWS,
        simple("UPDATE c_part_{key} SET version = {version}"),
    ),
    Way(
        "joined",
        TABLE
        + ROWS
        + "CREATE TABLE c_other (id int PRIMARY KEY); INSERT INTO c_other VALUES (1), (2);",
        simple(
            "MERGE INTO c_joined USING (SELECT {key} AS k) s ON id = k "
            "WHEN MATCHED THEN UPDATE SET version = {version}"
        ),
        read="SELECT j.version FROM c_joined j JOIN c_other o USING (id) WHERE j.id = {key}",
    ),
    Way(
        "emptied",
        TABLE + ROWS,
        steps("TRUNCATE c_emptied; INSERT INTO c_emptied VALUES (1, {version}), (2, {version})"),
        deletes=simple("TRUNCATE c_emptied"),
        read="SELECT version FROM c_emptied WHERE id = {key} - {key} + 1",
    ),
)
"""Writes whose tables are known: they leave the entries of other tables alone."""

SWEEPING = (
    Way(
        "called",
        TABLE + ROWS + "CREATE FUNCTION f_called(k int, v int) RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN UPDATE c_called SET version = v WHERE id = k; END $$;",
        simple("SELECT f_called({key}, {version})"),
    ),
    Way(
        "block",
        TABLE + ROWS,
        simple("DO $$ BEGIN UPDATE c_block SET version = {version} WHERE id = {key}; END $$"),
    ),
    Way(
        "procedure",
        TABLE + ROWS + "CREATE PROCEDURE f_procedure(k int, v int) LANGUAGE SQL AS "
        "$$ UPDATE c_procedure SET version = v WHERE id = k $$;",
        simple("CALL f_procedure({key}, {version})"),
    ),
)
"""Writes that may touch anything: each invalidates the whole database."""


@dataclass(slots=True)
class Workload:
    """Runs ways of writing and reading over proxies until told to stop."""

    proxies: list[Proxy]
    ways: Sequence[Way]
    history: History
    around: Sequence[Proxy] = ()
    """Where half of the writers write, past the proxies."""
    seed: int = 1
    leaves: float = 0.0
    """Share of writes whose writer leaves without waiting for the outcome."""
    pause: float = 1.0
    """How much longer than usual writers wait between writes."""
    burst: int = 0
    """Reads that half of the readers send in one piece; 0: each is sent by itself."""
    stopping: bool = False
    failures: int = 0
    """Operations that were answered by an error or a closed connection."""

    def __post_init__(self) -> None:
        for way in self.ways:
            for key in self._keys(way):
                self.history.begin((way.name, key), 0, 0.0).ended = 0.0

    async def warm(self) -> None:
        """Ask for every row once everywhere: the cache must have heard of each table."""
        for proxy in self.proxies:
            client = await RawClient.login(proxy)
            for way in self.ways:
                for key in self._keys(way):
                    for by_query in (True, True, False):
                        await self._read(client, way, key, by_query, [])
            await client.leave()

    def _keys(self, way: Way) -> tuple[int, ...]:
        return KEYS[:1] if way.name == "emptied" else KEYS

    async def run(
        self, reads: int, readers: int, fault: Coroutine[None, None, None] | None = None
    ) -> None:
        """Write and read until there were so many reads, some of them hits, and `fault` is over."""
        async with self._going(readers):
            if fault is not None:
                await fault
            async with asyncio.timeout(LIMIT):
                while self.history.reads < reads or not await self._hit():  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def _going(self, readers: int) -> AsyncIterator[None]:
        """Everybody writes and reads during the block."""
        chance = random.Random(self.seed)
        async with asyncio.TaskGroup() as group:
            for way in self.ways:
                for key in self._keys(way):
                    group.create_task(self._writer(way, key, random.Random(chance.random())))
            for number in range(readers):
                group.create_task(self._reader(number, random.Random(chance.random())))
            try:
                yield
            finally:
                self.stopping = True

    async def run_beside(self, faults: Coroutine[None, None, None], readers: int) -> None:
        """Write and read for as long as `faults` go on."""
        async with self._going(readers):
            await faults

    async def _hit(self) -> bool:
        hits = [
            await asyncio.to_thread(metric, proxy, "penstock_cache_hits_total")
            for proxy in self.proxies
        ]
        return min(hits) >= FEWEST_HITS

    async def _writer(self, way: Way, key: int, chance: random.Random) -> None:
        version = 0
        past = bool(self.around) and chance.random() < 0.5
        async with self._connections(chance, self.around if past else self.proxies) as connect:
            while not self.stopping:
                await asyncio.sleep(chance.choice((0.0, 0.01, 0.03, 0.08)) * self.pause)
                version += 1
                state: State = version
                perform = way.write
                if way.deletes is not None and chance.random() < 0.3:
                    state, perform = None, way.deletes
                client = await connect()
                write = self.history.begin((way.name, key), state, time.monotonic())
                if chance.random() < self.leaves:
                    await self._leave_early(perform(client, key, version), client, chance)
                elif await self._attempt(perform(client, key, version), client):
                    write.ended = time.monotonic()

    @staticmethod
    async def _leave_early(
        operation: Coroutine[None, None, object], client: RawClient, chance: random.Random
    ) -> None:
        """The client goes at any moment, its statements may or may not take effect later."""
        with contextlib.suppress(TimeoutError, Gone, Failed):
            async with asyncio.timeout(chance.random() * 0.01):
                await operation
        client.vanish()

    async def _attempt(self, operation: Awaitable[object], client: RawClient) -> bool:
        try:
            await operation
        except Failed:
            self.failures += 1
            return False
        except (Gone, TimeoutError):
            self.failures += 1
            client.vanish()
            return False
        return True

    @contextlib.asynccontextmanager
    async def _connections(
        self, chance: random.Random, places: Sequence[Proxy]
    ) -> AsyncIterator[Callable[[], Awaitable[RawClient]]]:
        """A function that gives the connection, made anew where it was lost."""
        current: list[RawClient] = []

        async def connect() -> RawClient:
            while not current or current[0].writer.transport.is_closing():
                current.clear()
                try:
                    current.append(await RawClient.login(chance.choice(places)))
                except (Gone, OSError, LoginRefused):
                    self.failures += 1
                    await asyncio.sleep(0.05)
            return current[0]

        try:
            yield connect
        finally:
            for client in current:
                await client.leave()

    async def _reader(self, number: int, chance: random.Random) -> None:
        name = f"reader{number}"
        async with self._connections(chance, self.proxies) as connect:
            while not self.stopping:
                client = await connect()
                if self.burst and number % 2:
                    await self._attempt(self._burst(client, name, chance), client)
                    continue
                way = chance.choice(self.ways)
                key = chance.choice(self._keys(way))
                for _ in range(chance.choice((1, 1, 4))):
                    began = time.monotonic()
                    found: list[State] = []
                    reading = self._read(client, way, key, chance.random() < 0.5, found)
                    if not await self._attempt(reading, client):
                        break
                    self.history.saw((way.name, key), found[0], began, time.monotonic(), name)
                await asyncio.sleep(0)

    async def _burst(self, client: RawClient, name: str, chance: random.Random) -> None:
        """Many reads of many rows at once: each counts as begun with the first and ended with the
        last."""
        asked = [
            (way, chance.choice(self._keys(way))) for way in chance.choices(self.ways, k=self.burst)
        ]
        began = time.monotonic()
        client.send(*(query(way.text(key)) for way, key in asked))
        async with asyncio.timeout(PATIENCE):
            states = await _states(client, len(asked))
        ended = time.monotonic()
        for (way, key), state in zip(asked, states, strict=True):
            self.history.saw((way.name, key), state, began, ended, name)

    @staticmethod
    async def _read(
        client: RawClient, way: Way, key: int, by_query: bool, found: list[State]
    ) -> None:
        if by_query:
            reply = await done(client, query(way.text(key)))
        else:
            parameter = str(key).encode()
            reply = await done(client, parse(way.parameterised), bind(parameter), execute(), SYNC)
        rows = reply.rows
        found.append(int(rows[0][0] or 0) if rows else None)


async def _states(client: RawClient, count: int) -> list[State]:
    """The one value of each of so many answers, None where there is no row. Raises Failed for an
    error, once all answers are there, and Gone."""
    data, at, failed = bytearray(), 0, ""
    found: list[State] = []
    state: State = None
    while len(found) < count:
        try:
            chunk = await client.reader.read(1 << 16)
        except ConnectionError as error:
            raise Gone(str(error)) from None
        if not chunk:
            raise Gone("in the middle of answers")
        data += chunk
        while at + 5 <= len(data):
            length = int.from_bytes(data[at + 1 : at + 5]) + 1
            if at + length > len(data):
                break
            kind = data[at]
            if kind == _ROW:
                state = int(data[at + 11 : at + length])
            elif kind == _ERROR:
                failed = bytes(data[at : at + length]).decode("utf-8", "replace")
            elif kind == _READY:
                found.append(state)
                state = None
            at += length
    if failed:
        raise Failed(failed)
    return found


def metric(proxy: Proxy, name: str) -> int:
    """The sum of a counter's series."""
    with urlopen(f"{proxy.url}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in text.splitlines()
        if line.startswith((name + " ", name + "{"))
    )
