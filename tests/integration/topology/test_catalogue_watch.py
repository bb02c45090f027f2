import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from proxy.sql.catalogue import Catalogue
from proxy.topology.catalogue_watch import CatalogueWatch
from proxy.topology.connect import Connection
from proxy.topology.node import Address
from tests.databases import Database
from tests.integration.topology.watching import becomes, connected

FAR_AWAY = 3600.0


@dataclass(slots=True)
class Seen:
    """A watch, and what it reported."""

    watch: CatalogueWatch
    changes: list[Catalogue]


@asynccontextmanager
async def watching(
    database: Database, poll_interval: float = FAR_AWAY, password: str | None = None
) -> AsyncIterator[Seen]:
    changes: list[Catalogue] = []
    watch = CatalogueWatch(
        Address("127.0.0.1", database.stack.primary.port, database.name),
        (database.user, password or database.password),
        changes.append,
        poll_interval,
    )
    await watch.start()
    try:
        yield Seen(watch, changes)
    finally:
        await watch.stop()


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    opened = await connected(database.stack.primary, database.name)
    yield opened
    await opened.close()


async def test_nothing_is_known_before_the_first_load(database: Database) -> None:
    async with watching(database) as seen:
        assert not seen.watch.current.loaded
        assert not seen.watch.usable_for_cache
        assert await seen.watch.refresh()
        assert seen.watch.usable_for_cache
        assert seen.changes == [seen.watch.current]


async def test_a_change_through_the_proxy_is_loaded_once_it_has_ended(
    database: Database, connection: Connection
) -> None:
    async with watching(database) as seen:
        await seen.watch.refresh()
        seen.watch.schema_change_begins()
        assert not seen.watch.usable_for_cache
        await connection.execute("CREATE TABLE t (id int)")
        seen.watch.schema_change_ends()
        assert not seen.watch.usable_for_cache
        await becomes(lambda: seen.watch.usable_for_cache, 5, "a load")
        assert seen.watch.current.relations == {"t"}
        assert seen.changes[-1] is seen.watch.current


async def test_overlapping_changes_all_have_to_end(database: Database) -> None:
    async with watching(database) as seen:
        await seen.watch.refresh()
        seen.watch.schema_change_begins()
        seen.watch.schema_change_begins()
        seen.watch.schema_change_ends()
        assert await seen.watch.refresh()
        assert not seen.watch.usable_for_cache
        seen.watch.schema_change_ends()
        await becomes(lambda: seen.watch.usable_for_cache, 5, "a load")


async def test_a_load_that_a_change_overtook_does_not_count(
    database: Database, connection: Connection
) -> None:
    """The load waits for the lock of the first change while the second begins and ends."""
    await connection.execute("CREATE TABLE t (id int); CREATE VIEW v AS SELECT id FROM t")
    async with watching(database) as seen:
        await seen.watch.refresh()
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        loading = asyncio.ensure_future(seen.watch.refresh())
        await waits_for_a_lock(database)
        other = await connected(database.stack.primary, database.name)
        seen.watch.schema_change_begins()
        await other.execute("CREATE TABLE later (id int)")
        seen.watch.schema_change_ends()
        await other.close()
        await transaction.rollback()
        assert await loading
        assert not seen.watch.usable_for_cache
        assert "later" not in seen.watch.current.relations
        await becomes(lambda: seen.watch.usable_for_cache, 5, "another load")
        assert "later" in seen.watch.current.relations


async def waits_for_a_lock(database: Database) -> None:
    observer = await connected(database.stack.primary, database.name)
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'penstock catalogue' AND wait_event_type = 'Lock'"
    )
    async with asyncio.timeout(5):
        while not await observer.fetchval(query):
            await observer.execute("SELECT pg_sleep(0.01)")
    await observer.close()


async def test_a_lock_held_for_long_only_delays(database: Database, connection: Connection) -> None:
    await connection.execute("CREATE TABLE t (id int); CREATE VIEW v AS SELECT id FROM t")
    async with watching(database) as seen:
        await seen.watch.refresh()
        async with connection.transaction():
            await connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            assert not await seen.watch.refresh()
            assert seen.watch.current.loaded
        assert await seen.watch.refresh()


async def test_what_has_changed_nothing_needs_no_load(
    database: Database, connection: Connection
) -> None:
    """As nearly every DO and CALL. The lock would hold up a load, and everything cached with it."""
    await connection.execute("CREATE TABLE t (id int); CREATE VIEW v AS SELECT id FROM t")
    async with watching(database) as seen:
        await seen.watch.refresh()
        async with connection.transaction():
            await connection.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            seen.watch.invalidate()
            assert not seen.watch.usable_for_cache
            await becomes(lambda: seen.watch.usable_for_cache, 1.5, "a look at the catalogue")


async def test_other_changes_are_found_by_polling(
    database: Database, connection: Connection
) -> None:
    async with watching(database, poll_interval=0.05) as seen:
        await seen.watch.refresh()
        await connection.execute("CREATE TABLE t (id int)")
        await becomes(lambda: "t" in seen.watch.current.relations, 5, "the table")
        await connection.execute("CREATE VIEW v AS SELECT id FROM t")
        await becomes(lambda: "v" in seen.watch.current.views, 5, "the view")


async def test_a_change_that_changes_no_fact_is_not_reported(
    database: Database, connection: Connection
) -> None:
    await connection.execute("CREATE TABLE t (id int)")
    async with watching(database) as seen:
        await seen.watch.refresh()
        before = seen.watch.current
        await connection.execute("CREATE INDEX ON t (id); ALTER TABLE t ADD COLUMN a int")
        assert await seen.watch.refresh()
        assert seen.watch.current is before
        assert len(seen.changes) == 1


async def test_a_listener_that_fails_is_told_again_before_caching(database: Database) -> None:
    told: list[Catalogue] = []

    def listener(catalogue: Catalogue) -> None:
        told.append(catalogue)
        if len(told) == 1:
            raise ValueError("not now")

    address = Address("127.0.0.1", database.stack.primary.port, database.name)
    watch = CatalogueWatch(address, (database.user, database.password), listener)
    await watch.start()
    assert not await watch.refresh()
    assert not watch.usable_for_cache
    await becomes(lambda: watch.usable_for_cache, 5, "a second try")
    assert len(told) == 2
    await watch.stop()


async def test_a_wrong_password_raises_nothing(database: Database) -> None:
    async with watching(database, password="wrong") as seen:
        assert not await seen.watch.refresh()
        assert not seen.watch.usable_for_cache


async def test_who_waits_at_a_stop_goes_on(database: Database) -> None:
    async with watching(database) as seen:
        loading = asyncio.ensure_future(seen.watch.refresh())
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        assert await loading is False
