"""Known ways in which a cache between clients and PostgreSQL serves what it must not.

Two proxies share one Redis and have no change feed: the second one reads, the first one writes, and
each learns of the other from Redis alone. Entries live for longer than any test, so that nothing is
right by having expired. docs/cache-proof.md tells which guard each test stands for.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import sql as composing
from psycopg.rows import TupleRow

from proxy.local.stack import Stack
from tests.databases import Database, superuser_connection
from tests.integration.cache.feed.feeds import Reader, eventually
from tests.integration.session.raw import SYNC, RawClient, bind, execute, parse
from tests.proxies import Proxy, running_proxy

CONFIG = """
[routing]
enabled = false
[[cache.rule]]
name = "all"
tables = ["*"]
ttl = "300s"
"""
SLOW_LOCK = 7701

SCHEMA = f"""
CREATE TABLE c_plain (id int PRIMARY KEY, version int NOT NULL);
INSERT INTO c_plain VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0);
CREATE TABLE c_late (id int PRIMARY KEY, version int NOT NULL); INSERT INTO c_late VALUES (1, 0);
CREATE FUNCTION f_slow(v int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock_shared({SLOW_LOCK}); RETURN v; END $$;

CREATE TABLE c_before (id int, version int); INSERT INTO c_before VALUES (1, 0);
CREATE TABLE c_after (id int, version int); INSERT INTO c_after VALUES (1, 100);
CREATE VIEW v_switched AS SELECT version FROM c_before;
CREATE VIEW v_nested AS SELECT version FROM v_switched;
CREATE TABLE c_altered (id int); INSERT INTO c_altered VALUES (1);

CREATE TABLE s_source (id int);
CREATE TABLE c_target (version int); INSERT INTO c_target VALUES (0);
CREATE FUNCTION f_target() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN UPDATE c_target SET version = version + 1; RETURN NULL; END $$;
CREATE TRIGGER t_target AFTER INSERT ON s_source EXECUTE FUNCTION f_target();
CREATE TABLE s_later (id int); CREATE TABLE c_later (version int); INSERT INTO c_later VALUES (0);
CREATE FUNCTION f_later() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN UPDATE c_later SET version = version + 1; RETURN NULL; END $$;
CREATE TABLE s_ruled (id int); CREATE TABLE c_ruled (id int);
CREATE RULE r_ruled AS ON INSERT TO s_ruled DO ALSO INSERT INTO c_ruled VALUES (NEW.id);
CREATE TABLE c_defaulted (version int); INSERT INTO c_defaulted VALUES (0);
CREATE FUNCTION f_defaulted() RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN UPDATE c_defaulted SET version = version + 1; RETURN 1; END $$;
CREATE TABLE s_defaulted (id int, number int DEFAULT f_defaulted());
CREATE TABLE s_checked (id int CHECK (f_defaulted() > 0));

CREATE TABLE c_parent (id int PRIMARY KEY);
CREATE TABLE c_child (id int PRIMARY KEY REFERENCES c_parent ON DELETE CASCADE);
CREATE TABLE c_grandchild (id int PRIMARY KEY REFERENCES c_child ON DELETE CASCADE);
INSERT INTO c_parent VALUES (1), (2); INSERT INTO c_child VALUES (1), (2);
INSERT INTO c_grandchild VALUES (1), (2);

CREATE SCHEMA a; CREATE TABLE a.c_pathed (version int); INSERT INTO a.c_pathed VALUES (1);
CREATE SCHEMA b; CREATE TABLE b.c_pathed (version int); INSERT INTO b.c_pathed VALUES (2);

CREATE TABLE c_tenants (tenant text, version int);
INSERT INTO c_tenants VALUES ('one', 1), ('two', 2);
CREATE POLICY own ON c_tenants USING (tenant = current_setting('app.tenant', true));
CREATE VIEW v_tenants AS SELECT version FROM c_tenants;

CREATE TABLE c_grants (tenant text);
CREATE TABLE c_guarded (tenant text, version int);
INSERT INTO c_guarded VALUES ('one', 1), ('two', 2);
CREATE POLICY granted ON c_guarded USING (tenant IN (SELECT tenant FROM c_grants));
ALTER TABLE c_guarded ENABLE ROW LEVEL SECURITY; ALTER TABLE c_guarded FORCE ROW LEVEL SECURITY;

CREATE TABLE c_time (at timestamptz); INSERT INTO c_time VALUES ('2024-03-04 12:00:00+00');
CREATE TABLE c_real (x float8, y bytea, z interval);
INSERT INTO c_real VALUES (0.1::float8 + 0.2, '\\x00ff', '1 day 02:03:04');

CREATE TABLE c_base (version int); INSERT INTO c_base VALUES (0);
CREATE MATERIALIZED VIEW c_kept AS SELECT version FROM c_base;

CREATE TABLE c_part (id int, version int) PARTITION BY LIST (id);
CREATE TABLE c_part_1 PARTITION OF c_part FOR VALUES IN (1);
CREATE TABLE c_part_2 PARTITION OF c_part FOR VALUES IN (2);
INSERT INTO c_part VALUES (1, 0), (2, 0);
CREATE TABLE c_root (id int, version int); CREATE TABLE c_heir () INHERITS (c_root);
INSERT INTO c_heir VALUES (1, 0);

CREATE TABLE c_emptied (id int); INSERT INTO c_emptied VALUES (1);
CREATE TABLE c_copied (id int); INSERT INTO c_copied VALUES (1);
CREATE FUNCTION f_writes() RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN UPDATE c_plain SET version = version + 1 WHERE id = 5; END $$;
CREATE FUNCTION f_switches(source text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW v_made AS SELECT version FROM ' || source; END $$;
CREATE VIEW v_made AS SELECT version FROM c_before;
CREATE TABLE c_shadowed (version int); INSERT INTO c_shadowed VALUES (0);
"""

Connection = psycopg.Connection[TupleRow]


def connected(proxy: Proxy, **parameters: str) -> Connection:
    return psycopg.connect(proxy.dsn(None, **parameters), autocommit=True, prepare_threshold=None)


@pytest.fixture(scope="module")
def database(module_database: Database) -> Database:
    with psycopg.connect(module_database.dsn(), autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    return module_database


@pytest.fixture(scope="module")
def first(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running_proxy(database, tmp_path_factory.mktemp("first"), extra=CONFIG) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def second(
    database: Database, first: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    with running_proxy(database, tmp_path_factory.mktemp("second"), extra=CONFIG) as proxy:
        yield proxy


@pytest.fixture
def writer(first: Proxy) -> Iterator[Connection]:
    with closing(connected(first)) as connection:
        yield connection


@pytest.fixture
def reader(second: Proxy) -> Iterator[Reader]:
    with Reader(second) as reader:
        yield reader


@pytest.fixture
def admin(stack: Stack, database: Database) -> Iterator[Connection]:
    """A superuser at the primary itself."""
    with superuser_connection(stack.primary, database.name) as connection:
        yield connection


@pytest.fixture
def role(admin: Connection, database: Database) -> Iterator[str]:
    """A role that the application may take on, and that may do nothing."""
    name = f"trap_{uuid.uuid4().hex[:8]}"
    admin.execute(f"CREATE ROLE {name}; GRANT {name} TO {database.user}".encode())
    yield name
    admin.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}".encode())


@contextmanager
def beside(work: Callable[[], object]) -> Iterator[None]:
    """Do it in a thread, which has ended when the block has."""
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join(20)
    assert not thread.is_alive()


def waits_for_a_lock(admin: Connection, beginning: str) -> None:
    """Return when a statement that begins so is waiting for a lock."""

    def waiting() -> bool:
        found = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
            "AND datname = current_database() AND query LIKE %s",
            [f"{beginning}%"],
        ).fetchone()
        return found == (1,)

    eventually(waiting, f"{beginning} waits")


# Orders of events


def test_a_late_fill(reader: Reader, second: Proxy, writer: Connection, admin: Connection) -> None:
    """The read began before the write and its result comes after."""
    sql = "SELECT f_slow(version) FROM c_late WHERE id = 1"
    assert reader.keep(sql) == [(0,)]
    writer.execute("UPDATE c_late SET version = 1")
    admin.execute("SELECT pg_advisory_lock(%s)", [SLOW_LOCK])
    found: list[object] = []

    def read() -> None:
        with closing(connected(second)) as slow:
            found.extend(slow.execute(sql.encode()).fetchall())

    with beside(read):
        waits_for_a_lock(admin, "SELECT f_slow")
        writer.execute("UPDATE c_late SET version = 2")
        admin.execute("SELECT pg_advisory_unlock(%s)", [SLOW_LOCK])
    assert found == [(1,)]  # or this test shows nothing
    for _ in range(3):
        assert reader.read(sql) == [(2,)]


def test_a_transaction_reads_its_own_write_and_rolls_back(
    reader: Reader, writer: Connection
) -> None:
    sql = "SELECT version FROM c_plain WHERE id = 1"
    assert reader.keep(sql) == [(0,)]
    for _ in range(2):
        writer.execute("BEGIN")
        writer.execute("UPDATE c_plain SET version = 9 WHERE id = 1")
        assert writer.execute(sql.encode()).fetchall() == [(9,)]
        assert reader.read(sql) == [(0,)]
        writer.execute("ROLLBACK")
        assert reader.read(sql) == [(0,)]
        assert writer.execute(sql.encode()).fetchall() == [(0,)]


def test_a_read_beside_a_transaction_that_commits(reader: Reader, writer: Connection) -> None:
    """It fills between the statement's move and the commit."""
    sql = "SELECT version FROM c_plain WHERE id = 2"
    writer.execute("BEGIN")
    writer.execute("UPDATE c_plain SET version = 1 WHERE id = 2")
    assert reader.keep(sql) == [(0,)]
    writer.execute("COMMIT")
    assert reader.read(sql) == [(1,)]


async def test_a_client_that_leaves_before_the_outcome(
    reader: Reader, first: Proxy, writer: Connection, admin: Connection
) -> None:
    """The write is committed when nobody waits for it any more."""
    sql = "SELECT version FROM c_plain WHERE id = 3"
    writer.execute("BEGIN")
    writer.execute("SELECT FROM c_plain WHERE id = 3 FOR UPDATE")
    leaving = await RawClient.login(first)
    leaving.send(parse("UPDATE c_plain SET version = 1 WHERE id = 3"), bind(), execute(), SYNC)
    waits_for_a_lock(admin, "UPDATE c_plain SET version = 1 WHERE id = 3")
    leaving.vanish()
    assert reader.keep(sql) == [(0,)]
    writer.execute("COMMIT")
    eventually(lambda: admin.execute(sql.encode()).fetchall() == [(1,)], "it is committed")
    reader.sees(sql, [(1,)])


def test_a_prepared_transaction(reader: Reader, writer: Connection, first: Proxy) -> None:
    """Another session commits it, through a proxy that knows nothing of what it wrote."""
    sql = "SELECT version FROM c_plain WHERE id = 4"
    writer.execute("BEGIN")
    writer.execute("UPDATE c_plain SET version = 1 WHERE id = 4")
    writer.execute("PREPARE TRANSACTION 'trap'")
    assert reader.keep(sql) == [(0,)]
    with closing(connected(first)) as other:
        other.execute("COMMIT PREPARED 'trap'")
    assert reader.read(sql) == [(1,)]


# What is written without being named


def test_a_trigger_that_writes_another_table(reader: Reader, writer: Connection) -> None:
    assert reader.keep("SELECT version FROM c_target") == [(0,)]
    writer.execute("INSERT INTO s_source VALUES (1)")
    assert reader.read("SELECT version FROM c_target") == [(1,)]


def test_a_trigger_made_through_another_proxy(
    reader: Reader, second: Proxy, writer: Connection
) -> None:
    """Who writes first after that is the one that wasn't told."""
    sql = "SELECT version FROM c_later"
    with closing(connected(second)) as other:
        other.execute("INSERT INTO s_later VALUES (1)")
    writer.execute("INSERT INTO s_later VALUES (1)")
    with closing(connected(second)) as other:
        other.execute("CREATE TRIGGER t_later AFTER INSERT ON s_later EXECUTE FUNCTION f_later()")
    assert reader.keep(sql) == [(0,)]
    writer.execute("INSERT INTO s_later VALUES (1)")
    assert reader.read(sql) == [(1,)]


def test_a_rule_that_writes_another_table(reader: Reader, writer: Connection) -> None:
    assert reader.keep("SELECT id FROM c_ruled") == []
    writer.execute("INSERT INTO s_ruled VALUES (1)")
    assert reader.read("SELECT id FROM c_ruled") == [(1,)]


@pytest.mark.parametrize("table", ["s_defaulted", "s_checked"])
def test_a_default_or_check_that_writes_another_table(
    reader: Reader, writer: Connection, table: str
) -> None:
    sql = "SELECT version FROM c_defaulted"
    ((before,),) = reader.keep(sql)
    writer.execute(f"INSERT INTO {table} (id) VALUES (1)".encode())
    assert isinstance(before, int)
    assert reader.read(sql) == [(before + 1,)]


def test_what_a_foreign_key_deletes(reader: Reader, writer: Connection) -> None:
    for table in ("c_child", "c_grandchild"):
        assert len(reader.keep(f"SELECT id FROM {table}")) == 2
    writer.execute("DELETE FROM c_parent WHERE id = 1")
    for table in ("c_child", "c_grandchild"):
        assert reader.read(f"SELECT id FROM {table}") == [(2,)]


def test_a_writing_cte(reader: Reader, writer: Connection) -> None:
    sql = "SELECT version FROM c_plain WHERE id = 6"
    assert reader.keep(sql) == [(0,)]
    writer.execute(
        "WITH w AS (UPDATE c_plain SET version = 1 WHERE id = 6 RETURNING id) SELECT * FROM w"
    )
    assert reader.read(sql) == [(1,)]


def test_a_function_that_writes(reader: Reader, writer: Connection) -> None:
    sql = "SELECT version FROM c_plain WHERE id = 5"
    assert reader.keep(sql) == [(0,)]
    writer.execute("SELECT f_writes()")
    assert reader.read(sql) == [(1,)]


def test_truncate(reader: Reader, writer: Connection) -> None:
    assert reader.keep("SELECT id FROM c_emptied") == [(1,)]
    writer.execute("TRUNCATE c_emptied")
    assert reader.read("SELECT id FROM c_emptied") == []


def test_copy(reader: Reader, writer: Connection) -> None:
    assert reader.keep("SELECT count(*) FROM c_copied") == [(1,)]
    with writer.cursor() as cursor, cursor.copy("COPY c_copied FROM STDIN") as copy:
        copy.write_row((2,))
    assert reader.read("SELECT count(*) FROM c_copied") == [(2,)]


def test_partitions_and_children(reader: Reader, writer: Connection) -> None:
    assert reader.keep("SELECT version FROM c_part WHERE id = 1") == [(0,)]
    assert reader.keep("SELECT version FROM c_part_2") == [(0,)]
    writer.execute("UPDATE c_part_1 SET version = 1")
    assert reader.read("SELECT version FROM c_part WHERE id = 1") == [(1,)]
    writer.execute("UPDATE c_part SET version = 2")
    assert reader.read("SELECT version FROM c_part_2") == [(2,)]
    assert reader.keep("SELECT version FROM c_root") == [(0,)]
    writer.execute("UPDATE c_heir SET version = 1")
    assert reader.read("SELECT version FROM c_root") == [(1,)]


def test_a_partition_made_through_another_proxy(
    reader: Reader, second: Proxy, writer: Connection
) -> None:
    """It is written to by its own name, by who has not seen it made."""
    with closing(connected(second)) as other:
        other.execute("CREATE TABLE c_part_3 PARTITION OF c_part FOR VALUES IN (3)")
    assert reader.keep("SELECT version FROM c_part WHERE id = 3") == []
    writer.execute("INSERT INTO c_part_3 VALUES (3, 3)")
    assert reader.read("SELECT version FROM c_part WHERE id = 3") == [(3,)]


def test_a_materialised_view(reader: Reader, writer: Connection) -> None:
    """Until it is refreshed it is old, by its own nature."""
    assert reader.keep("SELECT version FROM c_kept") == [(0,)]
    writer.execute("UPDATE c_base SET version = 1")
    assert reader.read("SELECT version FROM c_kept") == [(0,)]
    writer.execute("REFRESH MATERIALIZED VIEW c_kept")
    assert reader.read("SELECT version FROM c_kept") == [(1,)]


# Changes of the schema


@pytest.mark.parametrize("view", ["v_switched", "v_nested"])
def test_a_view_replaced_through_another_proxy(
    reader: Reader, writer: Connection, view: str
) -> None:
    """What is read from it afterwards depends on another table."""
    sql = f"SELECT version FROM {view}"
    writer.execute("CREATE OR REPLACE VIEW v_switched AS SELECT version FROM c_before")
    ((before,),) = reader.keep("SELECT version FROM c_before")
    assert reader.keep(sql) == [(before,)]
    writer.execute("CREATE OR REPLACE VIEW v_switched AS SELECT version FROM c_after")
    ((after,),) = reader.keep("SELECT version FROM c_after")
    assert reader.keep(sql) == [(after,)]
    writer.execute("UPDATE c_after SET version = version + 1")
    assert isinstance(after, int)
    assert reader.read(sql) == [(after + 1,)]


def test_a_view_that_a_function_replaces(reader: Reader, writer: Connection) -> None:
    sql = "SELECT version FROM v_made"
    ((before,),) = reader.keep("SELECT version FROM c_before")
    assert reader.keep(sql) == [(before,)]
    writer.execute("SELECT f_switches('c_after')")
    ((after,),) = reader.keep("SELECT version FROM c_after")
    assert reader.keep(sql) == [(after,)]
    writer.execute("UPDATE c_after SET version = version + 1")
    assert isinstance(after, int)
    assert reader.read(sql) == [(after + 1,)]


def test_a_view_replaced_in_a_prepared_transaction(
    reader: Reader, writer: Connection, first: Proxy
) -> None:
    writer.execute("CREATE TABLE c_new (version int); INSERT INTO c_new VALUES (1)")
    writer.execute("CREATE VIEW v_prepared AS SELECT version FROM c_before")
    sql = "SELECT version FROM v_prepared"
    ((before,),) = reader.keep("SELECT version FROM c_before")
    assert reader.keep(sql) == [(before,)]
    writer.execute("BEGIN")
    writer.execute("CREATE OR REPLACE VIEW v_prepared AS SELECT version FROM c_new")
    writer.execute("PREPARE TRANSACTION 'trap'")
    with closing(connected(first)) as other:
        other.execute("COMMIT PREPARED 'trap'")
    assert reader.keep(sql) == [(1,)]
    writer.execute("UPDATE c_new SET version = 2")
    assert reader.read(sql) == [(2,)]


def test_a_table_that_is_altered(reader: Reader, writer: Connection) -> None:
    assert reader.keep("SELECT * FROM c_altered") == [(1,)]
    writer.execute("ALTER TABLE c_altered ADD COLUMN more int DEFAULT 5")
    assert reader.read("SELECT * FROM c_altered") == [(1, 5)]
    writer.execute(
        "BEGIN; ALTER TABLE c_altered RENAME TO c_gone;"
        "CREATE TABLE c_altered AS SELECT 2 AS id; COMMIT"
    )
    assert reader.read("SELECT * FROM c_altered") == [(2,)]


def test_a_long_write_that_meets_a_new_trigger(
    reader: Reader, second: Proxy, writer: Connection, admin: Connection
) -> None:
    """It was planned before the trigger was there, and fires it."""
    writer.execute(
        "CREATE TABLE s_met (id int); CREATE TABLE c_met (version int);"
        "INSERT INTO c_met VALUES (0);"
        "CREATE FUNCTION f_met() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM pg_advisory_xact_lock_shared({SLOW_LOCK}); "
        "UPDATE c_met SET version = 1; RETURN NULL; END $$"
    )
    sql = "SELECT version FROM c_met"
    assert reader.keep(sql) == [(0,)]
    admin.execute("SELECT pg_advisory_lock(%s)", [SLOW_LOCK])
    other = connected(second)
    other.execute("BEGIN")
    other.execute("CREATE TRIGGER t_met AFTER INSERT ON s_met EXECUTE FUNCTION f_met()")
    with beside(lambda: writer.execute("INSERT INTO s_met VALUES (1)")):
        waits_for_a_lock(admin, "INSERT INTO s_met")
        other.execute("COMMIT")
        other.close()
        waits_for_a_lock(admin, "INSERT INTO s_met")
        assert reader.keep(sql) == [(0,)]
        admin.execute("SELECT pg_advisory_unlock(%s)", [SLOW_LOCK])
    assert reader.read(sql) == [(1,)]


# Who asks, and how


def test_roles(reader: Reader, writer: Connection, role: str) -> None:
    """One that may not read is not answered from what another has read."""
    sql = "SELECT version FROM c_plain WHERE id = 7"
    assert reader.keep(sql) == [(0,)]
    reader.connection.execute(f"SET ROLE {role}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.read(sql)
    writer.execute(f"GRANT SELECT ON c_plain TO {role}".encode())
    assert reader.keep(sql) == [(0,)]
    writer.execute(f"REVOKE SELECT ON c_plain FROM {role}".encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.read(sql)
    reader.connection.execute("RESET ROLE")
    assert reader.read(sql) == [(0,)]


def test_search_paths(reader: Reader) -> None:
    sql = "SELECT version FROM c_pathed"
    for _ in range(2):
        for schema, version in (("a", 1), ("b", 2)):
            reader.connection.execute(f"SET search_path = {schema}".encode())
            assert reader.keep(sql) == [(version,)]


def test_search_paths_for_one_transaction(reader: Reader) -> None:
    sql = "SELECT version FROM c_pathed"
    reader.connection.execute("SET search_path = a")
    assert reader.keep(sql) == [(1,)]
    for setting in ("SET LOCAL search_path = b", "SELECT set_config('search_path', 'b', true)"):
        reader.connection.execute("BEGIN")
        reader.connection.execute(setting.encode())
        assert reader.read(sql) == [(2,)]
        reader.connection.execute("COMMIT")
        assert reader.read(sql) == [(1,)]


def test_a_path_that_names_the_user(
    reader: Reader, writer: Connection, admin: Connection, role: str
) -> None:
    """`"$user"` stands for the role taken on."""
    admin.execute(
        f"CREATE SCHEMA {role} AUTHORIZATION {role}; CREATE TABLE {role}.c_own AS SELECT 2 AS v; "
        f"GRANT SELECT ON {role}.c_own TO {role}; CREATE TABLE c_own AS SELECT 1 AS v; "
        f"GRANT SELECT ON c_own TO PUBLIC".encode()
    )
    writer.execute("CREATE TABLE c_told (id int)")  # of others' tables only a change tells
    assert reader.keep("SELECT v FROM c_own") == [(1,)]
    reader.connection.execute(f"SET ROLE {role}".encode())
    assert reader.keep("SELECT v FROM c_own") == [(2,)]
    reader.connection.execute("RESET ROLE")
    assert reader.read("SELECT v FROM c_own") == [(1,)]


def test_settings_of_a_role(second: Proxy, writer: Connection, database: Database) -> None:
    """ALTER ROLE … SET: connections made before and after it must not share answers."""
    of_this = composing.SQL("ALTER ROLE {} IN DATABASE {} ").format(
        composing.Identifier(database.user), composing.Identifier(database.name)
    )
    sql = "SELECT version FROM c_pathed"
    for schema, version in (("a", 1), ("b", 2), ("a", 1)):
        writer.execute(of_this + composing.SQL("SET search_path = {}").format(schema))
        with Reader(second) as reader:
            reader.sees(sql, [(version,)])
            for _ in range(3):
                assert reader.keep(sql) == [(version,)]
    writer.execute(of_this + composing.SQL("RESET search_path"))
    with Reader(second) as reader:
        reader.sees("SELECT version FROM c_shadowed", [(0,)])


def test_row_level_security(reader: Reader, writer: Connection, database: Database) -> None:
    """Switched on while results of before are there."""
    for sql in ("SELECT version FROM c_tenants", "SELECT version FROM v_tenants"):
        assert len(reader.keep(sql)) == 2
    writer.execute(
        "ALTER TABLE c_tenants ENABLE ROW LEVEL SECURITY;"
        "ALTER TABLE c_tenants FORCE ROW LEVEL SECURITY"
    )
    for sql in ("SELECT version FROM c_tenants", "SELECT version FROM v_tenants"):
        for tenant, version in (("one", 1), ("two", 2), ("one", 1)):
            reader.connection.execute(f"SET app.tenant = '{tenant}'".encode())
            for _ in range(3):
                assert reader.read(sql) == [(version,)]


def test_a_policy_that_reads_another_table(reader: Reader, writer: Connection) -> None:
    sql = "SELECT version FROM c_guarded"
    for tenant, rows in (("one", [(1,)]), ("two", [(1,), (2,)])):
        for _ in range(5):
            reader.read(sql)
        writer.execute("INSERT INTO c_grants VALUES (%s)", [tenant])
        assert sorted(reader.read(sql)) == rows


def test_time_zones_and_date_styles(reader: Reader) -> None:
    sql = "SELECT at::text FROM c_time"
    expected = {
        "SET timezone = 'UTC'": "2024-03-04 12:00:00+00",
        "SET timezone = 'Asia/Tokyo'": "2024-03-04 21:00:00+09",
        "SET datestyle = 'SQL, DMY'": "04/03/2024 21:00:00 JST",
        "SET datestyle = 'SQL, MDY'": "03/04/2024 21:00:00 JST",
    }
    for _ in range(2):
        reader.connection.execute("SET datestyle = 'ISO'")
        for setting, shown in expected.items():
            reader.connection.execute(setting.encode())
            assert reader.keep(sql) == [(shown,)]


@pytest.mark.parametrize(
    ("column", "settings"),
    [
        ("x", ("extra_float_digits = 1", "extra_float_digits = 0")),
        ("y", ("bytea_output = 'hex'", "bytea_output = 'escape'")),
        ("z", ("intervalstyle = 'postgres'", "intervalstyle = 'iso_8601'")),
    ],
)
def test_other_settings(reader: Reader, column: str, settings: tuple[str, str]) -> None:
    sql = f"SELECT {column}::text FROM c_real"
    shown = []
    for setting in settings * 2:
        reader.connection.execute(f"SET {setting}".encode())
        shown.append(reader.keep(sql))
    assert shown[0] == shown[2] != shown[1] == shown[3]


def test_formats_of_results(reader: Reader) -> None:
    """Binary and text of the same statement."""
    before = reader.hits()
    for _ in range(2):
        for binary in (False, True):
            for _ in range(3):
                cursor = reader.connection.execute(
                    "SELECT at FROM c_time WHERE %s = 1", [1], binary=binary
                )
                assert cursor.fetchall() == [(datetime(2024, 3, 4, 12, tzinfo=UTC),)]
                assert cursor.description is not None
                assert cursor.pgresult is not None
                assert cursor.pgresult.fformat(0) == binary
    assert reader.hits() >= before + 8


async def test_parameters(second: Proxy) -> None:
    """The same bytes, of another type or in another place."""
    client = await RawClient.login(second)
    integer, text = 23, 25

    async def ask(sql: str, oids: tuple[int, ...], *values: bytes | None) -> str | None:
        reply = await client.ask(parse(sql, oids=oids), bind(*values), execute(), SYNC)
        return reply.value

    for _ in range(3):
        sql = "SELECT version || pg_typeof($1)::text FROM c_base"
        assert (await ask(sql, (integer,), b"1") or "").endswith("integer")
        assert (await ask(sql, (text,), b"1") or "").endswith("text")
        sql = "SELECT $1::text || ',' || coalesce($2::text, 'null') FROM c_base"
        assert await ask(sql, (), b"a", b"b") == "a,b"
        assert await ask(sql, (), b"b", b"a") == "b,a"
        assert await ask(sql, (), b"a", b"") == "a,"
        assert await ask(sql, (), b"a", None) == "a,null"
    await client.leave()


def test_a_temporary_table_in_front_of_another(reader: Reader, second: Proxy) -> None:
    sql = "SELECT version FROM c_shadowed"
    assert reader.keep(sql) == [(0,)]
    with closing(connected(second)) as other:
        other.execute("CREATE TEMP TABLE c_shadowed AS SELECT 7 AS version")
        for _ in range(3):
            assert other.execute(sql.encode()).fetchall() == [(7,)]
            assert reader.read(sql) == [(0,)]
        other.execute("DROP TABLE pg_temp.c_shadowed")
        assert other.execute(sql.encode()).fetchall() == [(0,)]
        other.execute("BEGIN")
        other.execute("CREATE TEMP TABLE c_shadowed ON COMMIT DROP AS SELECT 8 AS version")
        assert other.execute(sql.encode()).fetchall() == [(8,)]
        other.execute("COMMIT")
        assert other.execute(sql.encode()).fetchall() == [(0,)]
    assert reader.read(sql) == [(0,)]


def test_a_snapshot_is_not_answered_with_what_is_newer(reader: Reader, second: Proxy) -> None:
    sql = "SELECT version FROM c_plain WHERE id = 8"
    with closing(connected(second)) as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        assert other.execute(sql.encode()).fetchall() == [(0,)]
        reader.connection.execute("UPDATE c_plain SET version = 1 WHERE id = 8")
        assert reader.keep(sql) == [(1,)]
        assert other.execute(sql.encode()).fetchall() == [(0,)]
        other.execute("COMMIT")
        assert other.execute(sql.encode()).fetchall() == [(1,)]
