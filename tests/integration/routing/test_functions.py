"""Plans by a real catalogue, and what is said of PostgreSQL's own functions, on real servers."""

import asyncio

import asyncpg
import psycopg
import pytest

from proxy.config.cache_settings import CacheRule, CacheSettings
from proxy.config.settings import RoutingSettings
from proxy.routing import functions
from proxy.routing.plan import Access
from proxy.routing.planner import Planner
from proxy.sql.analyse import analyse
from proxy.sql.catalogue import Catalogue, Volatility
from proxy.topology.catalogue_loader import load_catalogue
from tests.databases import Database

SCHEMA = """
CREATE TABLE orders (id bigint PRIMARY KEY, total int);
CREATE TABLE lines (id bigint REFERENCES orders ON DELETE CASCADE);
CREATE VIEW big_orders AS SELECT * FROM orders WHERE total > 100;
CREATE FUNCTION charge(bigint) RETURNS int VOLATILE LANGUAGE sql
    AS 'UPDATE orders SET total = 0 WHERE id = $1 RETURNING total';
CREATE FUNCTION tax(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 / 5';
"""

# Each runs and is a read: a standby must take it.
READS = """
SELECT clock_timestamp(), timeofday(), random(), random_normal(), gen_random_uuid()
SELECT pg_sleep(0), pg_sleep_for('0'), pg_sleep_until(now())
SELECT pg_relation_size('pg_proc'::regclass), pg_database_size(current_database())
SELECT pg_table_size('pg_proc'), pg_indexes_size('pg_proc'), pg_total_relation_size('pg_proc')
SELECT pg_tablespace_size('pg_default')
SELECT * FROM pg_partition_tree('pg_proc')
SELECT * FROM pg_partition_ancestors('pg_proc')
SELECT now(), version(), current_database(), to_char(now(), 'YYYY'), age(now())
SELECT count(*), sum(total), max(id), array_agg(id), json_agg(total) FROM orders
SELECT id, row_number() OVER (ORDER BY id), coalesce(total, 0), tax(total) FROM big_orders
SELECT extract(year FROM now()), substring('abc' FROM 2), position('a' IN 'b'), trim('a')
SELECT generate_series(1, 3), lower('A') || upper('a')
EXPLAIN SELECT * FROM orders
COPY orders TO STDOUT
""".strip().split("\n")

# Each is refused by a standby, or answered otherwise than by the primary.
WRITES = """
SELECT charge(1)
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT pg_is_in_recovery()
SELECT pg_backend_pid()
SELECT lo_create(0)
SELECT pg_notify('a', 'b')
SELECT * FROM orders FOR UPDATE
SELECT * FROM pg_stat_activity
SHOW transaction_read_only
EXPLAIN ANALYZE DELETE FROM orders
""".strip().split("\n")


@pytest.fixture(scope="module")
def database(module_database: Database) -> Database:
    """A table, a view and two functions."""
    with psycopg.connect(module_database.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMA)
    return module_database


@pytest.fixture(scope="module")
def catalogue(database: Database) -> Catalogue:
    """The catalogue of `database`."""

    async def load() -> Catalogue:
        connection = await asyncpg.connect(database.dsn())
        try:
            return await load_catalogue(connection)
        finally:
            await connection.close()

    return asyncio.run(load())


def _planner(catalogue: Catalogue) -> Planner:
    cache = CacheSettings(rule=(CacheRule(name="all", tables=("*",)),))
    return Planner(RoutingSettings(), cache, catalogue)


def test_the_lists_name_functions_of_postgresql(catalogue: Catalogue, database: Database) -> None:
    """A name that was misspelt, or changed its volatility, would be of no use in its list."""
    known = catalogue.functions
    volatile, stable, immutable = Volatility.VOLATILE, Volatility.STABLE, Volatility.IMMUTABLE
    special = functions.READS_CONNECTION | functions.RUNS_QUERIES | frozenset(functions.PINS)
    groups = (
        (functions.HARMLESS_VOLATILE, (volatile,)),
        (functions.DIFFERS_BY_NODE | functions.DETERMINED, (stable, immutable)),
        (special, (volatile, stable)),
    )
    expected = {name: allowed for names, allowed in groups for name in names}
    with psycopg.connect(database.dsn()) as connection:
        newest = connection.info.server_version >= 180000
    later = set() if newest else {"uuidv4", "uuidv7", "array_sample", "array_shuffle"}
    wrong = {
        name: known.get(name)
        for name, allowed in expected.items()
        if known.get(name) not in allowed and name not in later
    }
    assert wrong == {}
    assert set(expected) - later <= catalogue.builtin_functions


def test_plain_functions_are_harmless(catalogue: Catalogue) -> None:
    """Before the catalogue is loaded, no volatile function may pass for a harmless one."""
    worst = {catalogue.functions.get(name) for name in functions.PLAIN}
    assert worst == {Volatility.IMMUTABLE, Volatility.STABLE, None}


@pytest.mark.parametrize("statement", READS)
def test_a_standby_takes_what_is_judged_a_read(
    catalogue: Catalogue, database: Database, statement: str
) -> None:
    plan = _planner(catalogue).plan(analyse(statement))
    assert plan.access is Access.READ, plan.reason
    assert plan.writes == frozenset()
    standby = database.stack.replicas[0]
    with psycopg.connect(database.dsn(), autocommit=True) as primary:
        position = primary.execute("SELECT pg_current_wal_lsn()::text").fetchone()
    with psycopg.connect(database.dsn(standby), autocommit=True) as connection:
        query = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        while connection.execute(query, position).fetchone() != (True,):
            connection.execute("SELECT pg_sleep(0.005)")
        if statement.startswith("COPY"):
            with connection.cursor().copy(statement) as rows:
                assert list(rows) == []
        else:
            connection.execute(statement)


@pytest.mark.parametrize("statement", WRITES)
def test_what_only_the_primary_may_run(catalogue: Catalogue, statement: str) -> None:
    plan = _planner(catalogue).plan(analyse(statement))
    assert plan.access is Access.WRITE
    assert plan.cache is None


def test_epochs_and_cache_by_a_real_catalogue(catalogue: Catalogue) -> None:
    planner = _planner(catalogue)
    assert planner.plan(analyse("DELETE FROM orders")).writes == {"orders", "lines"}
    assert planner.plan(analyse("INSERT INTO big_orders VALUES (1)")).writes >= {"orders"}
    cached = planner.plan(analyse("SELECT tax(total) FROM big_orders")).cache
    assert cached is not None
    assert "orders" in cached.reads
    assert planner.plan(analyse("SELECT charge(id) FROM orders")).writes == {"*"}
