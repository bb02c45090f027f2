"""LISTEN outside session mode: one server connection listens for all clients of a database."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from tests.databases import Database, superuser_connection
from tests.integration.session.hearing import (
    TWO_BACKENDS,
    heard_in,
    hears,
    hears_nothing_before,
    notification,
)
from tests.integration.session.raw import (
    FLUSH,
    SYNC,
    RawClient,
    bind,
    client,
    describe,
    execute,
    parse,
    query,
    run,
)
from tests.proxies import Proxy, running_proxy


@pytest.fixture(scope="module", params=["transaction", "statement"])
def either(
    request: pytest.FixtureRequest,
    module_database: Database,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Proxy]:
    """In either mode in which backends are shared."""
    extra = f'{TWO_BACKENDS}mode = "{request.param}"\n'
    with running_proxy(module_database, tmp_path_factory.mktemp("p"), extra=extra) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def two(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two backends, in transaction mode."""
    with running_proxy(module_database, tmp_path_factory.mktemp("p"), extra=TWO_BACKENDS) as proxy:
        yield proxy


def listeners(proxy: Proxy) -> list[tuple[int, str]]:
    """(process, last query) of the connections that listen for clients."""
    with superuser_connection(proxy.database.stack.primary) as connection:
        return connection.execute(
            "SELECT pid, query FROM pg_stat_activity "
            "WHERE datname = %s AND application_name = 'penstock listener'",
            [proxy.database.name],
        ).fetchall()


async def test_more_clients_listen_than_there_are_backends(either: Proxy) -> None:
    people = [await RawClient.login(either) for _ in range(12)]
    for number, each in enumerate(people):
        reply = await each.query(f"LISTEN c{number % 3}")
        assert (reply.kinds, reply.tags) == ("CZ", ["LISTEN"])
    for number, each in enumerate(people):
        assert (await each.query(f"SELECT {number} FOR UPDATE")).value == str(number)
    async with client(either) as speaker:
        for number in range(30):
            await speaker.query(f"NOTIFY c{number % 3}, '{number}'")
    for number, each in enumerate(people):
        own = number % 3
        expected = [(f"c{own}", str(said)) for said in range(own, 30, 3)]
        assert await hears(each, 10) == expected
        await each.leave()
    with psycopg.connect(either.dsn("penstock"), autocommit=True) as console:
        servers = console.execute("SHOW SERVERS").fetchall()
    assert sum("penstock listener" in row for row in servers) == 1


async def test_unlisten(two: Proxy) -> None:
    async with client(two) as one:
        for channel in ("a", "b", "c", "d"):
            await one.query(f"LISTEN {channel}")
        assert (await one.query("UNLISTEN a")).tags == ["UNLISTEN"]
        async with client(two) as speaker:
            await speaker.query("NOTIFY a; NOTIFY b")
        assert await hears(one, 1) == [("b", "")]
        await one.query("UNLISTEN *")
        await one.query("LISTEN d")
        assert await hears_nothing_before(one, two, "d") == []
        assert (await one.query("DISCARD ALL")).tags == ["DISCARD ALL"]
        await one.query("LISTEN e")
        async with client(two) as speaker:
            await speaker.query("NOTIFY d")
        assert await hears_nothing_before(one, two, "e") == []


@pytest.mark.parametrize(
    ("listens", "notifies"),
    [
        ("LISTEN News", "NOTIFY news"),
        ('LISTEN "News"', 'NOTIFY "News"'),
        ('LISTEN "a ""b"" c"', 'NOTIFY "a ""b"" c"'),
        ("LISTEN übung", "NOTIFY übung"),
        ("/* why */ LISTEN news -- so", "SELECT pg_notify('news', '')"),
        (f"LISTEN {'x' * 70}", f"NOTIFY {'x' * 70}"),
    ],
)
async def test_names_are_folded_and_cut(two: Proxy, listens: str, notifies: str) -> None:
    with superuser_connection(two.database.stack.primary, two.database.name) as direct:
        direct.execute(listens)
        direct.execute(notifies)
        (expected,) = [(n.channel, n.payload) for n in direct.notifies(timeout=5, stop_after=1)]
    async with client(two) as one, client(two) as speaker:
        await one.query(listens)
        await speaker.query(notifies)
        assert await hears(one, 1) == [expected]


async def test_reserved_words_are_the_servers_to_refuse(two: Proxy) -> None:
    async with client(two) as one:
        assert (await one.query("LISTEN select")).errors == ["42601"]
        assert (await one.query("LISTEN a b")).errors == ["42601"]


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["BEGIN", "LISTEN t", "COMMIT"], True),
        (["BEGIN", "LISTEN t", "ROLLBACK"], False),
        (["BEGIN", "LISTEN t", "SELECT 1/0", "COMMIT"], False),
        (["BEGIN", "LISTEN t", "SELECT 1/0", "ROLLBACK"], False),
        (["BEGIN", "SAVEPOINT s", "LISTEN t", "ROLLBACK TO s", "COMMIT"], False),
        (["BEGIN", "LISTEN t", "SAVEPOINT s", "ROLLBACK TO s", "COMMIT"], True),
        (["BEGIN", "LISTEN t", "SAVEPOINT s", "SELECT 1/0", "ROLLBACK TO s", "COMMIT"], True),
        (["BEGIN", "LISTEN t", "UNLISTEN t", "COMMIT"], False),
        (["BEGIN", "LISTEN u", "SAVEPOINT s", "LISTEN t", "RELEASE s", "COMMIT"], True),
        (["BEGIN", "LISTEN t", "COMMIT AND CHAIN", "ROLLBACK"], True),
        (["BEGIN; LISTEN t; COMMIT"], True),
        (["BEGIN; LISTEN t; ROLLBACK"], False),
        (["LISTEN t; SELECT 1"], True),
        (["LISTEN t; SELECT 1/0"], False),
        (["SELECT 1; LISTEN u; LISTEN t; UNLISTEN u"], True),
        (["LISTEN t", "BEGIN", "UNLISTEN t", "ROLLBACK"], True),
        (["LISTEN t", "BEGIN", "UNLISTEN *", "COMMIT"], False),
        (["LISTEN t", "SELECT 1; UNLISTEN *"], False),
        (["LISTEN t", "UNLISTEN *; SELECT 1/0"], True),
        (["BEGIN", "SELECT 1", "LISTEN t; SELECT 1", "COMMIT"], True),
        (["BEGIN", "LISTEN t; SELECT 1/0", "COMMIT"], False),
    ],
)
async def test_it_counts_when_its_transaction_commits(
    two: Proxy, statements: list[str], expected: bool
) -> None:
    """The same on PostgreSQL itself, and here."""
    with superuser_connection(two.database.stack.primary, two.database.name) as direct:
        for statement in statements:
            with contextlib.suppress(psycopg.errors.DivisionByZero):
                direct.execute(statement.encode())
        asked = direct.execute("SELECT 't' IN (SELECT pg_listening_channels())").fetchone()
        assert asked == (expected,)
    async with client(two) as one:
        for statement in statements:
            assert set((await one.query(statement)).errors) <= {"22012"}
        assert (await one.query("SELECT 't' IN (SELECT pg_listening_channels())")).value == (
            "t" if expected else "f"
        )
        await one.query("LISTEN the_end")
        async with client(two) as speaker:
            await speaker.query("NOTIFY t, 'x'; NOTIFY u")
        found = await hears_nothing_before(one, two, "the_end")
        assert [heard for heard in found if heard[0] == "t"] == [("t", "x")] * expected


async def test_backends_are_free_of_what_was_listened_on(two: Proxy) -> None:
    async with client(two) as one, client(two) as other:
        await one.query("LISTEN free")
        await one.query("SELECT 1; LISTEN freer")
        shown = await one.query("SELECT pg_listening_channels()")
        assert [row[0] for row in shown.rows] == ["free", "freer"]
        for _ in range(4):
            assert (await other.query("SELECT pg_listening_channels() FOR UPDATE")).rows == []
        assert (await one.query("BEGIN")).status == "T"
        assert (await one.query("SELECT pg_listening_channels()")).errors == ["0A000"]
        assert (await one.query("ROLLBACK")).status == "I"


async def test_a_transaction_is_not_interrupted(two: Proxy) -> None:
    async with client(two) as one, client(two) as speaker:
        await one.query("LISTEN calm")
        await one.query("BEGIN")
        for number in range(3):
            await speaker.query(f"NOTIFY calm, '{number}'")
            assert (await one.query("SELECT 1")).kinds == "TDCZ"
        end = await one.query("COMMIT")
        assert end.kinds == "CAAAZ"
        assert heard_in(end) == [("calm", "0"), ("calm", "1"), ("calm", "2")]


@pytest.mark.parametrize("sql", ["NOTIFY own, 'x'", "SELECT pg_notify('own', 'x')"])
async def test_its_own_notifications_come_before_it_is_ready(two: Proxy, sql: str) -> None:
    async with client(two) as one:
        await one.query("LISTEN own")
        for _ in range(20):
            assert heard_in(await one.query(sql)) == [("own", "x")]
            reply = await one.ask(run(sql), SYNC)
            assert (reply.kinds[-2:], heard_in(reply)) == ("AZ", [("own", "x")])
        await one.query("BEGIN")
        assert heard_in(await one.query(sql)) == []
        assert heard_in(await one.query("COMMIT")) == [("own", "x")]


@pytest.mark.parametrize("sql", ["NOTIFY named", "SELECT pg_notify('named', '')"])
async def test_senders_have_the_number_that_they_were_told(either: Proxy, sql: str) -> None:
    async with client(either) as one, client(either) as other, client(either) as third:
        for each in (one, other):
            await each.query("LISTEN named")
        for _ in range(10):
            for speaker in (one, other, third):
                reply = await speaker.query(sql)
                told = {one: 0, other: 0, speaker: 0}
                for message in (m for m in reply.messages if m.kind == "A"):
                    told[speaker] = int.from_bytes(message.body[:4])
                for each in {one, other} - {speaker}:
                    told[each] = int.from_bytes((await each.receive()).body[:4])
                assert told[one] == told[other] == speaker.process_id


async def test_a_sender_that_its_trigger_makes_is_no_client(two: Proxy) -> None:
    """It isn't known who of those that had the backend has notified: nobody must take it for its
    own."""
    with superuser_connection(two.database.stack.primary, two.database.name) as direct:
        direct.execute("CREATE TABLE told (n int)")
        direct.execute(
            "CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN NOTIFY quietly; RETURN NULL; END $$"
        )
        direct.execute("CREATE TRIGGER tell AFTER INSERT ON told EXECUTE FUNCTION tell()")
        direct.execute("GRANT ALL ON told TO public")
    async with client(two) as one, client(two) as other:
        await one.query("LISTEN quietly")
        for _ in range(20):
            other.send(query("INSERT INTO told VALUES (1)"))
            own = await one.query("NOTIFY quietly, 'own'")
            await other.until("Z")
            numbers = {
                notification(message)[1]: int.from_bytes(message.body[:4])
                for message in own.messages
                if message.kind == "A"
            }
            while len(numbers) < 2:
                message = await one.receive()
                numbers[notification(message)[1]] = int.from_bytes(message.body[:4])
            assert numbers["own"] == one.process_id != numbers[""]


@pytest.mark.parametrize(
    "sql", ["LISTEN at_once; NOTIFY at_once", "BEGIN; LISTEN at_once; NOTIFY at_once; END"]
)
async def test_listening_and_notifying_in_one_transaction(two: Proxy, sql: str) -> None:
    async with client(two) as one:
        assert heard_in(await one.query(sql)) == [("at_once", "")]


async def test_what_was_notified_before_is_not_heard(two: Proxy) -> None:
    async with client(two) as early, client(two) as late:
        await early.query("LISTEN stream")
        for number in range(30):
            await early.query(f"NOTIFY stream, 'before {number}'")
            await late.query("LISTEN stream")
            await early.query(f"NOTIFY stream, 'after {number}'")
            assert await hears(late, 1) == [("stream", f"after {number}")]
            await late.query("UNLISTEN stream")


async def test_nothing_is_lost_after_the_answer(two: Proxy) -> None:
    """Whoever has been told LISTEN hears all that is notified from then on, in order."""
    async with client(two) as speaker:
        for round_ in range(20):
            async with client(two) as one:
                await one.query(f"LISTEN r{round_}")
                speaker.send(b"".join(run(f"NOTIFY r{round_}, '{n}'") + SYNC for n in range(20)))
                assert await hears(one, 20) == [(f"r{round_}", str(n)) for n in range(20)]
                for _ in range(20):
                    await speaker.until("Z")


async def test_in_the_extended_protocol(two: Proxy) -> None:
    async with client(two) as one:
        reply = await one.ask(parse("LISTEN x"), bind(), describe(), execute(), SYNC)
        assert reply.kinds == "12tnCZ"
        reply = await one.ask(parse("LISTEN y", "named"), describe("named"), SYNC)
        assert reply.kinds == "1tnZ"
        assert (await one.ask(bind(name="named"), execute(), SYNC)).tags == ["LISTEN"]
        one.send(parse("LISTEN z"), describe(), FLUSH)
        await one.until("n")
        assert (await one.ask(bind(), execute(), SYNC)).tags == ["LISTEN"]
        assert (await one.ask(run("LISTEN v"), run("SELECT 1"), SYNC)).tags == [
            "LISTEN",
            "SELECT 1",
        ]
        assert (await one.ask(run("LISTEN no"), run("SELECT 1/0"), SYNC)).errors == ["22012"]
        async with client(two) as speaker:
            await speaker.query("NOTIFY no")
            for channel in "xyzv":
                await speaker.query(f"NOTIFY {channel}")
        assert await hears(one, 4) == [(channel, "") for channel in "xyzv"]


async def test_in_a_pipeline_that_is_flushed(two: Proxy) -> None:
    async with client(two) as one:
        one.send(run("SELECT 1"), FLUSH)
        await one.until("C")
        one.send(run("LISTEN piped"), FLUSH)
        await one.until("C")
        assert (await one.ask(run("SELECT 2"), SYNC)).value == "2"
        assert await hears_nothing_before(one, two, "piped") == []


async def test_what_can_not_be_followed_is_refused(two: Proxy) -> None:
    async with client(two) as one:
        for sql in ("LISTEN a; COMMIT; SELECT 1", "BEGIN; LISTEN a; SAVEPOINT s"):
            assert (await one.query(sql)).errors == ["0A000"]
        await one.query("BEGIN")
        await one.query("LISTEN a")
        assert (await one.query("PREPARE TRANSACTION 'x'")).errors == ["0A000"]
        assert (await one.query("ROLLBACK")).status == "I"


async def test_the_listener_is_shown_and_no_place_of_the_pool(two: Proxy) -> None:
    async with client(two) as one, client(two) as other:
        await one.query("LISTEN shown")
        await one.query("BEGIN")
        await other.query("BEGIN")
        assert (await one.query("SELECT 1")).value == (await other.query("SELECT 1")).value
        await asyncio.to_thread(the_console_shows_it, two)
        await one.query("ROLLBACK")
        await other.query("ROLLBACK")


def the_console_shows_it(proxy: Proxy) -> None:
    with psycopg.connect(
        proxy.dsn("penstock"), autocommit=True, row_factory=psycopg.rows.dict_row
    ) as console:
        servers = console.execute("SHOW SERVERS").fetchall()
        clients = console.execute("SHOW CLIENTS").fetchall()
    (shown,) = [one for one in servers if one["application_name"] == "penstock listener"]
    assert (shown["state"], shown["node"]) == ("listener", "primary")
    assert shown["remote_pid"] in [pid for pid, _ in listeners(proxy)]
    assert all(one["pinned"] is None for one in clients)
    assert 1 in [one["channels"] for one in clients]


async def test_the_server_stops_listening_with_the_last_client(two: Proxy) -> None:
    async with client(two) as one:
        await one.query("LISTEN fleeting")
        async with client(two) as other:
            await other.query("LISTEN fleeting")
        assert (await one.query("SELECT 1")).value == "1"
    for _ in range(500):
        if 'UNLISTEN "fleeting"' in [sql for _, sql in listeners(two)]:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(listeners(two))


async def test_pinned_if_wanted(module_database: Database, tmp_path: Path) -> None:
    extra = f'{TWO_BACKENDS}listen = "pinned"\n'
    with running_proxy(module_database, tmp_path, extra=extra) as proxy:
        async with client(proxy) as one, client(proxy) as other:
            await one.query("LISTEN kept")
            await other.query("NOTIFY kept")
            assert await hears(one, 1) == [("kept", "")]
            with psycopg.connect(proxy.dsn("penstock"), autocommit=True) as console:
                cursor = console.execute("SHOW CLIENTS")
                assert cursor.description is not None
                place = [column.name for column in cursor.description].index("pinned")
                assert "LISTEN" in [row[place] for row in cursor.fetchall()]


async def test_workers_listen_each_for_their_own(module_database: Database, tmp_path: Path) -> None:
    workers = {"PENSTOCK_SERVER__WORKERS": "2"}
    with running_proxy(module_database, tmp_path, extra=TWO_BACKENDS, environment=workers) as proxy:
        people = [await RawClient.login(proxy) for _ in range(6)]
        for each in people:
            await each.query("LISTEN everywhere")
        await people[0].query("NOTIFY everywhere, 'x'")
        for each in people[1:]:
            assert await hears(each, 1) == [("everywhere", "x")]
            await each.leave()
        await people[0].leave()


async def test_asyncpg(two: Proxy) -> None:
    pool = await asyncpg.create_pool(two.dsn(), min_size=1, max_size=1)
    heard: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
    async with pool.acquire() as listener, client(two) as speaker:

        def hear(_: object, __: int, channel: str, payload: object) -> None:
            heard.put_nowait((channel, payload))

        await listener.add_listener("News", hear)
        for number in range(5):
            await speaker.query(f"NOTIFY \"News\", '{number}'")
            assert await asyncio.wait_for(heard.get(), 10) == ("News", str(number))
            assert await listener.fetchval("SELECT 1") == 1
        async with listener.transaction():
            await speaker.query("NOTIFY \"News\", 'later'")
            assert await listener.fetchval("SELECT 2") == 2
            assert heard.empty()
        assert await asyncio.wait_for(heard.get(), 10) == ("News", "later")
        await listener.remove_listener("News", hear)
    async with pool.acquire() as again:
        assert await again.fetch("SELECT pg_listening_channels()") == []
    await pool.close()


def test_psycopg(two: Proxy) -> None:
    with (
        psycopg.connect(two.dsn(), autocommit=True) as listener,
        psycopg.connect(two.dsn(), autocommit=True) as speaker,
    ):
        listener.execute("LISTEN news")
        for number in range(5):
            speaker.execute("SELECT pg_notify('news', %s)", [str(number)])
        heard = [one.payload for one in listener.notifies(timeout=10, stop_after=5)]
        assert heard == ["0", "1", "2", "3", "4"]
        speaker.execute("NOTIFY news, 'polled'")
        polled: list[str] = []
        listener.add_notify_handler(lambda one: polled.append(one.payload))
        for _ in range(1000):
            listener.execute("SELECT 1")
            if polled:
                break
        assert polled == ["polled"]
