"""What the change feed needs on the primary: looked at, made, and taken away again.

Over a connection of asyncpg's, as the operator's role; methods raise what asyncpg raises.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from proxy.cache.feed.slot import OLDEST_SERVER
from proxy.config.cache_settings import CacheRule
from proxy.routing.relations import resolve_reads
from proxy.sql.catalogue import Catalogue
from proxy.sql.quoting import identifier, literal
from proxy.topology.catalogue_loader import EVENT_TRIGGER
from proxy.topology.connect import Connection

Table = tuple[str, str]
"""Schema and name."""

_SERVER = """
SELECT current_setting('server_version_num')::int AS version,
       current_setting('wal_level') AS wal_level,
       current_setting('max_replication_slots')::int AS slots,
       (SELECT count(*) FROM pg_replication_slots) AS slots_used,
       current_setting('max_wal_senders')::int AS senders,
       (SELECT count(*) FROM pg_stat_replication) AS senders_used,
       current_setting('max_slot_wal_keep_size') AS keep_size,
       (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = $1) AS may_replicate,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
       EXISTS (SELECT FROM pg_event_trigger WHERE evtname = $2 AND evtenabled <> 'D') AS ddl_seen
"""

_SLOT = """
SELECT plugin, database, active, wal_status,
       pg_size_pretty(pg_current_wal_insert_lsn() - restart_lsn) AS retained
FROM pg_replication_slots WHERE slot_name = $1
"""

# UPDATE and DELETE fail on a published table without one.
_TABLES = """
SELECT n.nspname::text AS schema, c.relname::text AS name, c.relpersistence = 'u' AS unlogged,
       c.relkind = 'r' AND (
           c.relreplident = 'n'
           OR c.relreplident = 'd' AND NOT EXISTS (
               SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
           OR c.relreplident = 'i' AND NOT EXISTS (
               SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisreplident)
       ) AS unidentified
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
ORDER BY 1, 2
"""

_PUBLICATION = """
SELECT puballtables AS all_tables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AS whole,
       pubviaroot AS via_root
FROM pg_publication WHERE pubname = $1
"""

_PUBLISHED = (
    "SELECT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = $1"
)

SCHEMA = "penstock_feed"
_DROP_TRIGGER = f"{EVENT_TRIGGER}_drop"
_HARMLESS = "'COMMENT', 'CREATE INDEX', 'CREATE STATISTICS', 'REINDEX'"
"""Commands that change no result."""

_INSTALL = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
GRANT USAGE ON SCHEMA {SCHEMA} TO PUBLIC;
CREATE OR REPLACE FUNCTION {SCHEMA}.note_ddl() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $body$
BEGIN
    IF tg_tag NOT IN ({_HARMLESS}) AND EXISTS (
        SELECT FROM pg_event_trigger_ddl_commands()
        WHERE schema_name IS DISTINCT FROM 'pg_temp')
    THEN
        PERFORM pg_logical_emit_message(true, 'penstock.ddl', tg_tag);
    END IF;
END $body$;
CREATE OR REPLACE FUNCTION {SCHEMA}.note_drop() RETURNS event_trigger LANGUAGE plpgsql
SET search_path = pg_catalog AS $body$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary) THEN
        PERFORM pg_logical_emit_message(true, 'penstock.ddl', tg_tag);
    END IF;
END $body$;
DROP EVENT TRIGGER IF EXISTS {EVENT_TRIGGER};
DROP EVENT TRIGGER IF EXISTS {_DROP_TRIGGER};
CREATE EVENT TRIGGER {EVENT_TRIGGER} ON ddl_command_end EXECUTE FUNCTION {SCHEMA}.note_ddl();
CREATE EVENT TRIGGER {_DROP_TRIGGER} ON sql_drop EXECUTE FUNCTION {SCHEMA}.note_drop();
ALTER EVENT TRIGGER {EVENT_TRIGGER} ENABLE ALWAYS;
ALTER EVENT TRIGGER {_DROP_TRIGGER} ENABLE ALWAYS;
"""

_UNINSTALL = f"""
DROP EVENT TRIGGER IF EXISTS {EVENT_TRIGGER};
DROP EVENT TRIGGER IF EXISTS {_DROP_TRIGGER};
DROP SCHEMA IF EXISTS {SCHEMA} CASCADE;
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the configuration asks for. `login`: the role that reads the feed. `tables`: those
    whose results rules cache; None: all."""

    publication: str
    slot: str
    login: str
    tables: frozenset[str] | None


@dataclass(slots=True)
class Inspection:
    """What was found. `problems` keep the feed from working, `advice` doesn't."""

    facts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)
    missing: list[Table] = field(default_factory=list)
    """Tables that the publication should have and doesn't."""
    unidentified: bool = False
    """There are tables whose UPDATE and DELETE would fail if they were published."""
    has_publication: bool = False
    superuser: bool = False
    sees_ddl: bool = False


def tables_of_rules(rules: Iterable[CacheRule], catalogue: Catalogue) -> frozenset[str] | None:
    """The bare names of all tables that results may depend on by these rules; None: any."""
    active = [rule for rule in rules if rule.enabled]
    if any(not rule.tables for rule in active):
        return None
    named = {
        name
        for name in (*catalogue.relations, *catalogue.views)
        if any(fnmatchcase(name, pattern) for rule in active for pattern in rule.tables)
    }
    return resolve_reads(named, catalogue).tables


async def inspect(connection: Connection, wanted: Wanted) -> Inspection:
    """Look at everything; change nothing."""
    found = Inspection()
    await _server(connection, wanted, found)
    await _publication(connection, wanted, found)
    await _slot(connection, wanted, found)
    return found


async def _server(connection: Connection, wanted: Wanted, found: Inspection) -> None:
    row = await connection.fetchrow(_SERVER, wanted.login, EVENT_TRIGGER)
    assert row is not None
    found.superuser, found.sees_ddl = row["superuser"], row["ddl_seen"]
    if row["version"] < OLDEST_SERVER * 10_000:
        found.problems.append(f"the server is too old: the feed needs PostgreSQL {OLDEST_SERVER}")
    if row["wal_level"] != "logical":
        found.problems.append(
            f"wal_level is {row['wal_level']}: ALTER SYSTEM SET wal_level = logical, and restart"
        )
    if row["may_replicate"] is None:
        found.problems.append(f'there is no role "{wanted.login}": see cache.feed.user')
    elif not row["may_replicate"]:
        login = identifier(wanted.login)
        found.problems.append(f"the role may not replicate: ALTER ROLE {login} REPLICATION")
    taken = await connection.fetchval(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = $1", wanted.slot
    )
    if not taken and row["slots_used"] >= row["slots"]:
        found.problems.append(
            f"all {row['slots']} replication slots are in use: raise max_replication_slots, and "
            "restart"
        )
    if row["senders_used"] >= row["senders"]:
        found.problems.append(
            f"all {row['senders']} WAL senders are in use: raise max_wal_senders, and restart"
        )
    if row["keep_size"] == "-1":
        found.advice.append(
            "max_slot_wal_keep_size is -1: if no Penstock runs, nothing keeps the slot from "
            "filling the disk; set a limit on the server"
        )
    if not found.sees_ddl:
        found.advice.append(
            "no event trigger tells of schema changes by others: they are noticed within 30 s, "
            "refreshed materialised views are not cached; run setup as a superuser to install it"
        )


async def _publication(connection: Connection, wanted: Wanted, found: Inspection) -> None:
    tables = await connection.fetch(_TABLES)
    chosen = [row for row in tables if wanted.tables is None or row["name"] in wanted.tables]
    row = await connection.fetchrow(_PUBLICATION, wanted.publication)
    published = {tuple(each) for each in await connection.fetch(_PUBLISHED, wanted.publication)}
    found.has_publication = row is not None
    name = identifier(wanted.publication)
    if row is None:
        found.problems.append(f"there is no publication {name}: run penstock cache feed setup")
    else:
        scope = "all tables" if row["all_tables"] else f"{len(published)} tables"
        found.facts.append(f"publication {name}: {scope}")
        if not row["whole"]:
            found.problems.append(
                f"the publication leaves out commands: ALTER PUBLICATION {name} "
                "SET (publish = 'insert, update, delete, truncate')"
            )
        if row["via_root"]:
            found.problems.append(
                f"the publication hides partitions: ALTER PUBLICATION {name} "
                "SET (publish_via_partition_root = false)"
            )
    for each in chosen:
        table = f"{identifier(each['schema'])}.{identifier(each['name'])}"
        if each["unlogged"]:
            found.advice.append(f"{table} is unlogged: its changes are not seen, so not cached")
            continue
        if each["unidentified"]:
            found.problems.append(
                f"{table} has no replica identity, so UPDATE and DELETE would fail while it is "
                f"published; left out, it is not cached: give it a primary key, or ALTER TABLE "
                f"{table} REPLICA IDENTITY FULL, and run penstock cache feed setup"
            )
            found.unidentified = True
        elif (each["schema"], each["name"]) not in published and not (row and row["all_tables"]):
            found.missing.append((each["schema"], each["name"]))
    await _drop_partitioned(connection, wanted, found)


async def _drop_partitioned(connection: Connection, wanted: Wanted, found: Inspection) -> None:
    """A partitioned table is published by its partitions: it never stands in the list itself."""
    covered = await connection.fetch(
        "SELECT n.nspname::text, c.relname::text FROM pg_publication_rel r "
        "JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = $1",
        wanted.publication,
    )
    known = {tuple(each) for each in covered}
    found.missing = [table for table in found.missing if table not in known]
    if found.missing and found.has_publication:
        names = ", ".join(".".join(table) for table in found.missing)
        found.problems.append(
            f"not in the publication, so not cached: {names}: run penstock cache feed setup"
        )


async def _slot(connection: Connection, wanted: Wanted, found: Inspection) -> None:
    row = await connection.fetchrow(_SLOT, wanted.slot)
    if row is None:
        found.facts.append(f"slot {wanted.slot}: not there; the first Penstock to run makes it")
        return
    state = "is read from" if row["active"] else "nobody reads from it"
    found.facts.append(
        f"slot {wanted.slot}: {state}, keeps {row['retained']} of WAL ({row['wal_status']})"
    )
    if not row["active"]:
        found.advice.append(
            f"slot {wanted.slot} grows while no Penstock reads from it: "
            "penstock cache feed drop removes it"
        )


async def install(
    connection: Connection, wanted: Wanted, found: Inspection, *, all_tables: bool
) -> list[str]:
    """Make the publication and, for a superuser, the event triggers; what was done, in words."""
    done = []
    name = identifier(wanted.publication)
    tables = ", ".join(f"{identifier(schema)}.{identifier(one)}" for schema, one in found.missing)
    if not found.has_publication:
        scope = "FOR ALL TABLES" if all_tables else f"FOR TABLE {tables}" if tables else ""
        await connection.execute(f"CREATE PUBLICATION {name} {scope}")
        done.append(f"created publication {name} {scope.lower() or 'of no table yet'}")
    elif tables:
        await connection.execute(f"ALTER PUBLICATION {name} ADD TABLE {tables}")
        done.append(f"added to publication {name}: {tables}")
    if found.superuser and not found.sees_ddl:
        await connection.execute(_INSTALL)
        done.append(f"installed the event triggers {EVENT_TRIGGER} and {_DROP_TRIGGER}")
    return done


async def uninstall(connection: Connection, wanted: Wanted) -> list[str]:
    """Drop slot, publication and event triggers; what was done, in words."""
    done: list[str] = []
    for row in await connection.fetch(
        "SELECT active_pid FROM pg_replication_slots WHERE slot_name = $1", wanted.slot
    ):
        if row[0] is not None:
            await connection.execute(f"SELECT pg_terminate_backend({int(row[0])}, 5000)")
        await connection.execute(f"SELECT pg_drop_replication_slot({literal(wanted.slot)})")
        done.append(f"dropped slot {wanted.slot}")
    if await connection.fetchrow(_PUBLICATION, wanted.publication) is not None:
        await connection.execute(f"DROP PUBLICATION {identifier(wanted.publication)}")
        done.append(f"dropped publication {wanted.publication}")
    if await connection.fetchval(
        "SELECT count(*) FROM pg_event_trigger WHERE evtname = $1", EVENT_TRIGGER
    ):
        await connection.execute(_UNINSTALL)
        done.append("dropped the event triggers")
    return done
