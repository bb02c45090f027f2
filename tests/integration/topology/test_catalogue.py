"""The catalogue of a real database."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from proxy.sql.catalogue import Catalogue, View, Volatility
from proxy.topology.catalogue_loader import load_catalogue, read_fingerprint
from proxy.topology.connect import Connection
from tests.databases import Database
from tests.integration.topology.watching import connected

SCHEMA = """
CREATE SCHEMA other;

CREATE TABLE customers (id bigint PRIMARY KEY, name text);
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer bigint REFERENCES customers ON DELETE CASCADE, total int);
CREATE TABLE lines (
    id bigint, "order" bigint REFERENCES orders ON UPDATE SET NULL, note text);
CREATE TABLE plain_reference (customer bigint REFERENCES customers);

CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE events_new PARTITION OF events
    FOR VALUES FROM ('2026-01-01') TO (MAXVALUE) PARTITION BY RANGE (at);
CREATE TABLE events_2026 PARTITION OF events_new FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE INDEX ON events (at);
CREATE TABLE vehicles (id int);
CREATE TABLE cars (doors int) INHERITS (vehicles);

CREATE VIEW big_orders AS SELECT * FROM orders WHERE total > 100;
CREATE VIEW big_spenders AS
    WITH big AS (SELECT customer, count(*) AS n FROM big_orders GROUP BY 1)
    SELECT upper(c.name) AS name, big.n FROM customers c JOIN big ON big.customer = c.id;
CREATE VIEW mine AS SELECT * FROM customers WHERE name = CURRENT_USER;
CREATE VIEW activity AS SELECT pid FROM pg_stat_activity;
CREATE MATERIALIZED VIEW totals AS SELECT customer, sum(total) FROM orders GROUP BY 1;

CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER touched BEFORE INSERT ON lines FOR EACH ROW EXECUTE FUNCTION touch();
CREATE TRIGGER asleep BEFORE INSERT ON cars FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE cars DISABLE TRIGGER asleep;
CREATE TABLE ruled (id int);
CREATE RULE elsewhere AS ON INSERT TO ruled DO ALSO INSERT INTO customers VALUES (new.id);
CREATE TABLE secrets (id int);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;

CREATE FUNCTION price(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION other.price(text) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION steady(int) RETURNS int STABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION upper(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION several() RETURNS SETOF int IMMUTABLE LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE proceed() LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION add_up(int, int) RETURNS int VOLATILE LANGUAGE sql AS 'SELECT $1 + $2';
CREATE AGGREGATE careless(int) (SFUNC = add_up, STYPE = int, INITCOND = '0');
CREATE AGGREGATE careful(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');

CREATE TABLE twice (id int);
CREATE TABLE twice_part (id int);
CREATE VIEW other.twice AS SELECT id FROM public.twice_part;
"""
RELATIONS = """
customers orders lines plain_reference events events_new events_2026 vehicles cars
big_orders big_spenders mine activity totals ruled secrets twice twice_part
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    opened = await connected(database.stack.primary, database.name)
    yield opened
    await opened.close()


async def test_the_facts_of_a_schema(connection: Connection) -> None:
    await connection.execute(SCHEMA)
    catalogue = await load_catalogue(connection)
    assert catalogue.loaded
    relations(catalogue)
    views(catalogue)
    functions(catalogue)


def relations(catalogue: Catalogue) -> None:
    assert catalogue.relations == set(RELATIONS.split())
    assert {"pg_class", "pg_stat_activity", "columns"} <= catalogue.system_relations
    assert not catalogue.system_relations & catalogue.relations
    assert catalogue.children == {
        "events": frozenset({"events_new", "events_2026"}),
        "events_new": frozenset({"events_2026"}),
        "vehicles": frozenset({"cars"}),
    }
    assert catalogue.parents["events_2026"] == frozenset({"events", "events_new"})
    assert catalogue.parents["cars"] == frozenset({"vehicles"})
    assert catalogue.cascades == {
        "customers": frozenset({"orders", "lines"}),
        "orders": frozenset({"lines"}),
    }
    assert catalogue.triggers == frozenset({"lines", "ruled"})
    assert catalogue.row_security == frozenset({"secrets"})
    assert catalogue.foreign == frozenset()
    assert catalogue.default_isolation == "read committed"


def views(catalogue: Catalogue) -> None:
    assert catalogue.views.keys() == {"big_orders", "big_spenders", "mine", "activity", "twice"}
    assert catalogue.views["big_orders"] == View(frozenset({"orders"}), frozenset())
    spenders = catalogue.views["big_spenders"]
    assert spenders.reads == frozenset({"big_orders", "customers"})
    assert spenders.functions >= {"upper", "count"}
    assert spenders.cacheable
    assert catalogue.views["mine"].reads == frozenset({"customers"})
    assert not catalogue.views["mine"].cacheable
    assert catalogue.views["activity"].reads == frozenset({"pg_stat_activity"})
    assert not catalogue.views["activity"].cacheable
    assert catalogue.views["twice"].reads == frozenset({"twice_part"})


def functions(catalogue: Catalogue) -> None:
    expected = {
        "price": Volatility.VOLATILE,
        "steady": Volatility.STABLE,
        "upper": Volatility.IMMUTABLE,
        "proceed": Volatility.VOLATILE,
        "careless": Volatility.VOLATILE,
        "careful": Volatility.IMMUTABLE,
        "count": Volatility.IMMUTABLE,
        "row_number": Volatility.IMMUTABLE,
        "json_agg": Volatility.STABLE,
        "now": Volatility.STABLE,
        "random": Volatility.VOLATILE,
        "nextval": Volatility.VOLATILE,
    }
    assert {name: catalogue.functions[name] for name in expected} == expected
    assert {"count", "now", "nextval"} <= catalogue.builtin_functions
    assert not {"price", "upper", "careful"} & catalogue.builtin_functions
    assert {"several", "generate_series"} <= catalogue.set_functions


async def test_a_foreign_table(connection: Connection) -> None:
    await connection.execute(
        "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing;"
        "CREATE FOREIGN TABLE abroad (id int) SERVER far"
    )
    catalogue = await load_catalogue(connection)
    assert catalogue.foreign == catalogue.relations == frozenset({"abroad"})


async def test_temporary_tables_of_others_do_not_count(
    database: Database, connection: Connection
) -> None:
    owner = await connected(database.stack.primary, database.name)
    await owner.execute("CREATE TEMP TABLE scratch (id int)")
    assert (await load_catalogue(connection)).relations == frozenset()
    await owner.close()


async def test_a_setting_for_this_database_counts(
    database: Database, connection: Connection
) -> None:
    await connection.execute(
        f"ALTER DATABASE {database.name} SET default_transaction_isolation = 'repeatable read'"
    )
    assert (await load_catalogue(connection)).default_isolation == "mixed"
    reconnected = await connected(database.stack.primary, database.name)
    assert (await load_catalogue(reconnected)).default_isolation == "repeatable read"
    await reconnected.close()


async def test_the_catalogue_of_a_standby_is_the_same(
    database: Database, connection: Connection
) -> None:
    await connection.execute(SCHEMA)
    catalogue = await load_catalogue(connection)
    standby = await connected(database.stack.replicas[0], database.name)
    async with asyncio.timeout(10):
        while await load_catalogue(standby) != catalogue:
            await standby.execute("SELECT pg_sleep(0.02)")
    await standby.close()


async def test_an_unchanged_view_is_not_analysed_again(connection: Connection) -> None:
    await connection.execute("CREATE TABLE t (id int); CREATE VIEW v AS SELECT id FROM t")
    analysed: dict[str, View] = {}
    await load_catalogue(connection, analysed)
    (text,) = analysed
    analysed[text] = View(frozenset({"kept"}), frozenset())
    assert "kept" in (await load_catalogue(connection, analysed)).views["v"].reads
    await connection.execute("DROP VIEW v")
    await load_catalogue(connection, analysed)
    assert analysed == {}


CHANGES = (
    "CREATE TABLE added (id int)",
    "CREATE OR REPLACE VIEW big_orders AS SELECT * FROM orders WHERE total > 200",
    "ALTER TABLE vehicles SET SCHEMA other",
    "ALTER TABLE customers ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE cars NO INHERIT other.vehicles",
    "ALTER TABLE cars ENABLE TRIGGER asleep",
    "CREATE TRIGGER more BEFORE DELETE ON lines FOR EACH ROW EXECUTE FUNCTION touch()",
    "DROP TRIGGER touched ON lines",
    "ALTER TABLE lines RENAME TO parts",
    "DROP RULE elsewhere ON ruled",
    "ALTER TABLE orders DROP CONSTRAINT orders_customer_fkey",
    "CREATE FUNCTION new() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION steady(int) VOLATILE",
    "ALTER FUNCTION steady(int) RENAME TO wobbly",
    "CREATE OR REPLACE AGGREGATE careful(int) (SFUNC = add_up, STYPE = int, INITCOND = '0')",
    "DROP FUNCTION several()",
    "ALTER TABLE events DETACH PARTITION events_new",
    "ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'",
)
NO_CHANGES = (
    "INSERT INTO customers VALUES (1, 'x'); UPDATE customers SET name = 'y'",
    "CREATE TEMP TABLE scratch (id int)",
    "ANALYZE",
    "VACUUM customers",
)


async def test_the_fingerprint_tells_every_change_and_no_other(
    database: Database, connection: Connection
) -> None:
    await connection.execute(SCHEMA)
    fingerprint = await read_fingerprint(connection)
    for statement in NO_CHANGES:
        await connection.execute(statement)
        assert await read_fingerprint(connection) == fingerprint, statement
    for statement in CHANGES:
        await connection.execute(statement.format(name=database.name))
        changed = await read_fingerprint(connection)
        assert changed != fingerprint, statement
        fingerprint = changed


async def test_many_tables_are_loaded_quickly(connection: Connection) -> None:
    await connection.execute(
        "DO $$ BEGIN FOR i IN 1..2000 LOOP "
        "EXECUTE format('CREATE TABLE t%s (id int)', i); END LOOP; END $$"
    )
    started = time.process_time()
    catalogue = await load_catalogue(connection)
    assert len(catalogue.relations) == 2000
    assert time.process_time() - started < 0.5  # 0.02 s where nothing else runs
