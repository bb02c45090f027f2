"""How many connections there are at most and at least, and who gets them: PgBouncer's scenarios
of pool sizes, reserves and limits, and those that limits over several pools add."""

import asyncio

import pytest

from tests.integration.pool.conftest import Start
from tests.integration.pool.people import Elapsed, Pooled, backend_of, refusal
from tests.integration.session.raw import LoginRefused, RawClient


async def test_the_minimum_is_kept_and_made_again(start: Start) -> None:
    pooled = start('[pool]\nsize = 5\nmin_size = 3\nidle_timeout = "1s"\n')
    async with pooled.client() as one:
        await one.query("SELECT 1")
        await pooled.becomes(lambda: len(pooled.backends()) == 3)
        before = set(pooled.backends())
        assert (await one.query("BEGIN")).status == "T"
        assert await backend_of(one) in before
        await one.query("COMMIT")
        await asyncio.sleep(2.5)  # beyond the idle time-out, which must not go below the minimum
        assert set(pooled.backends()) == before
        await one.query("SELECT 1")
        async with pooled.holding() as two:
            kept = await backend_of(two)
            await one.query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                f"application_name = '' AND datname = current_database() "
                f"AND pid NOT IN (pg_backend_pid(), {kept})"
            )
            await pooled.becomes(lambda: len(set(pooled.backends()) - before) == 1)
            assert len(pooled.backends()) == 3


async def test_connections_above_the_minimum_are_closed_when_idle(start: Start) -> None:
    pooled = start('[pool]\nsize = 5\nmin_size = 1\nidle_timeout = "1s"\n')
    async with pooled.holding(), pooled.holding(), pooled.holding():
        assert len(pooled.backends()) == 3
    await pooled.becomes(lambda: len(pooled.backends()) == 1)


async def test_the_reserve_is_used_after_its_time(start: Start) -> None:
    pooled = start('[pool]\nsize = 1\nreserve_size = 1\nreserve_timeout = "1s"\n')
    async with pooled.holding() as one, pooled.client() as two:
        elapsed = Elapsed()
        second = await backend_of(two)
        assert 1 <= elapsed() < 5
        assert second != await backend_of(one)
        assert len(pooled.backends()) == 2


@pytest.mark.parametrize("reserve", ["reserve_size = 0", "reserve_size = 1\nreserve_timeout = 0"])
async def test_without_a_reserve_a_wait_ends_in_an_error(start: Start, reserve: str) -> None:
    pooled = start(f'[pool]\nsize = 1\nwait_timeout = "1s"\n{reserve}\n')
    async with pooled.client() as two, pooled.holding() as one:
        reply = await two.query("SELECT 1")
        assert reply.errors == ["57P03"]
        assert "all 1 are busy" in reply.messages[-2].fields["M"]
        await one.query("COMMIT")
        assert (await two.query("SELECT 2")).value == "2"


async def test_a_wait_without_limit_lasts(start: Start) -> None:
    pooled = start("[pool]\nsize = 1\nwait_timeout = 0\nwait_notify = 0\n")
    async with pooled.client() as two, pooled.holding() as one:
        waiting = asyncio.ensure_future(two.query("SELECT 1"))
        await asyncio.sleep(2.5)
        assert not waiting.done()
        await one.query("COMMIT")
        assert (await waiting).value == "1"


async def test_those_who_wait_are_served_in_their_order(start: Start) -> None:
    pooled = start("[pool]\nsize = 1\n")
    served: list[int] = []

    async def ask(number: int, one: RawClient) -> None:
        await one.query("SELECT 1")
        served.append(number)

    clients = [await pooled.login() for _ in range(8)]
    async with pooled.holding() as holder, asyncio.TaskGroup() as group:
        for number, each in enumerate(clients):
            group.create_task(ask(number, each))
            await until_wait(pooled, number + 1)
        await holder.query("COMMIT")
    assert served == list(range(8))
    for each in clients:
        await each.leave()


async def until_wait(pooled: Pooled, count: int) -> None:
    """So many clients wait for a server connection."""
    async with pooled.client(database="penstock") as console, asyncio.timeout(10):
        while [row[4] for row in (await console.query("SHOW CLIENTS")).rows].count(
            "waiting"
        ) != count:
            pass


async def test_a_client_is_told_that_it_waits(start: Start) -> None:
    pooled = start('[pool]\nsize = 1\nwait_notify = "1s"\n')
    async with pooled.client() as two, pooled.holding() as one:
        two.send(b"Q\0\0\0\x0dSELECT 1\0")
        notice = (await two.until("N")).messages[-1]
        assert notice.fields["S"] == "NOTICE"
        assert "waiting for a server connection" in notice.fields["M"]
        assert await two.silent(1.5)  # told once
        await one.query("COMMIT")
        assert (await two.until("Z")).value == "1"


@pytest.mark.parametrize("limit", ["node_connections", "database_connections"])
async def test_pools_share_a_limit(start: Start, limit: str) -> None:
    """A place that another pool has idle is taken at once, a busy one when it is given back."""
    pooled = start(f'[pool]\nsize = 4\nwait_timeout = "2s"\n[limits]\n{limit} = 2\n')
    ann, bob = pooled.roles
    async with pooled.client(bob) as late:
        async with pooled.holding(ann) as first, pooled.holding(ann):
            assert len(pooled.backends()) == 2
            reply = await late.query("SELECT 1")
            assert reply.errors == ["57P03"]
            assert f"limits.{limit} is reached" in reply.messages[-2].fields["M"]
            elapsed = Elapsed()
            pending = asyncio.ensure_future(late.query("SELECT current_user"))
            await asyncio.sleep(0.2)
            await first.query("COMMIT")
            assert (await pending).value == bob
            assert elapsed() < 1
            await pooled.becomes(lambda: len(pooled.backends()) == 2)
        async with pooled.holding(ann), pooled.holding(ann):
            assert len(pooled.backends()) <= 3  # one may be on its way out
            await pooled.becomes(lambda: len(pooled.backends()) == 2)


async def test_a_busy_pool_gives_way_to_a_starved_one(start: Start) -> None:
    """Three clients of one pool keep the only place busy without a break."""
    pooled = start("[pool]\nsize = 3\n[limits]\ndatabase_connections = 1\n")
    ann, bob = pooled.roles
    stopping = False

    async def hurry() -> int:
        count = 0
        async with pooled.client(ann) as one:
            while not stopping:
                assert (await one.query("SELECT pg_sleep(0.01)")).errors == []
                count += 1
        return count

    async with pooled.client(bob) as late:
        busy = [asyncio.ensure_future(hurry()) for _ in range(3)]
        for _ in range(2):
            await asyncio.sleep(0.5)
            elapsed = Elapsed()
            assert (await late.query("SELECT current_user")).value == bob
            assert elapsed() < 4
        stopping = True
        assert min(await asyncio.gather(*busy)) > 5


async def test_a_users_limit_spans_databases(start: Start) -> None:
    pooled = start(
        '[pool]\nwait_timeout = "1s"\n[limits]\nuser_connections = 1\n'
        "[database.other]\nserver_database = 'postgres'\n[database.other.primary]\nport = PORT\n"
        "[database.other.pool]\nsize = 2\n"
    )
    ann, bob = pooled.roles
    async with pooled.client(ann, "other") as elsewhere, pooled.holding(ann):
        reply = await elsewhere.query("SELECT 1")
        assert reply.errors == ["57P03"]
        assert "limits.user_connections is reached" in reply.messages[-2].fields["M"]
        async with pooled.holding(bob) as another:
            assert (await another.query("SELECT current_user")).value == bob


async def test_clients_of_a_database_and_of_a_user(start: Start) -> None:
    pooled = start("[limits]\ndatabase_clients = 3\nuser_clients = 2\n")
    ann, bob = pooled.roles
    one, two = await pooled.login(ann), await pooled.login(ann)
    refused = await refusal(pooled.login(ann))
    assert refused["C"] == "53300"
    assert f'user "{ann}": 2' in refused["M"]
    three = await pooled.login(bob)
    refused = await refusal(pooled.login(bob))
    assert refused["C"] == "53300"
    assert "too many clients already for database" in refused["M"]
    await one.leave()
    async with asyncio.timeout(5):
        while True:
            try:
                one = await pooled.login(bob)
                break
            except LoginRefused:
                await asyncio.sleep(0.01)
    for each in (one, two, three):
        assert (await each.query("SELECT 1")).value == "1"
        await each.leave()


async def test_an_admin_finds_a_place_when_all_are_taken(start: Start) -> None:
    pooled = start(
        "[limits]\nadmin_clients = 1\n", {"PENSTOCK_SERVER__MAX_CLIENT_CONNECTIONS": "2"}
    )
    ann, _ = pooled.roles
    async with pooled.client(ann), pooled.client(ann):
        assert (await refusal(pooled.login(ann)))["C"] == "53300"
        async with pooled.client(database="penstock") as console:
            assert len((await console.query("SHOW CLIENTS")).rows) >= 2
        async with pooled.client():  # the application's role is an admin
            assert (await refusal(pooled.login()))["C"] == "53300"
