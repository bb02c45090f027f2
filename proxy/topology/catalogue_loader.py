"""Reads a database's catalogue: a handful of queries, whatever its size."""

import asyncio
import time
from collections.abc import Iterable, MutableMapping, Sequence

from proxy.sql.catalogue import Catalogue, View
from proxy.sql.setters import SEEDS
from proxy.topology.catalogue_facts import Rows, analyse_view, assemble
from proxy.topology.connect import Connection

# An aggregate's own volatility is always "immutable": that of its support functions tells. A
# procedure may do anything, transactions included.
_FUNCTIONS = """
WITH judged AS MATERIALIZED (
    SELECT p.oid, p.proname, p.prokind, p.proretset, n.nspname = 'pg_catalog' AS builtin,
           CASE WHEN p.prokind = 'p' OR p.provolatile = 'v' THEN 2
                WHEN p.provolatile = 's' THEN 1 ELSE 0 END AS volatility
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname !~ '^pg_temp'
), support AS (
    SELECT a.aggfnoid::oid AS oid, max(s.volatility) AS volatility
    FROM pg_aggregate a
    CROSS JOIN unnest(ARRAY[
        a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
        a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[]) AS used (oid)
    JOIN judged s ON s.oid = used.oid
    GROUP BY 1
)
SELECT proname::text AS name,
       max(greatest(judged.volatility, support.volatility)) AS volatility,
       bool_and(builtin) AS builtin,
       bool_or(proretset) AS returns_set
FROM judged LEFT JOIN support USING (oid)
GROUP BY proname
"""

_RELATIONS = """
SELECT c.oid, c.relname::text AS name, c.relkind::text AS kind,
       c.relrowsecurity AS row_security,
       n.nspname IN ('pg_catalog', 'information_schema') AS system,
       CASE WHEN c.relkind = 'v' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
            THEN pg_get_viewdef(c.oid) END AS definition
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
      AND n.nspname <> 'pg_toast'
"""

# 16384 is the first OID that is not PostgreSQL's own.
_VIEW_READS = """
SELECT DISTINCT
       r.ev_class AS view, d.refclassid = 'pg_proc'::regclass AS is_function,
       coalesce(p.proname, c.relname)::text AS name
FROM pg_rewrite r
JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
                AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass)
LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
WHERE r.rulename = '_RETURN' AND r.ev_class >= 16384 AND d.refobjid <> r.ev_class
      AND coalesce(p.proname, c.relname) IS NOT NULL
"""

_INHERITS = """
SELECT i.inhrelid AS child, i.inhparent AS parent
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE c.relkind IN ('r', 'p', 'f')
"""

_CASCADES = """
SELECT DISTINCT confrelid AS referenced, conrelid AS referencing
FROM pg_constraint
WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
"""

# Besides triggers and rules: defaults and checks that call what may write.
_TRIGGERS = """
SELECT tgrelid AS relation FROM pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
UNION
SELECT ev_class FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_enabled <> 'D'
UNION
SELECT coalesce(a.adrelid, c.conrelid)
FROM pg_depend d JOIN pg_proc p ON p.oid = d.refobjid
LEFT JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid
LEFT JOIN pg_constraint c ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
WHERE d.refclassid = 'pg_proc'::regclass AND p.oid >= 16384 AND p.provolatile = 'v'
      AND coalesce(a.adrelid, c.conrelid, 0) <> 0
"""

_OF_USERS = """
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_temp'
      AND p.prokind <> 'a' AND l.lanname NOT IN ('c', 'internal')
"""

_SETTERS = f"""
SELECT p.proname::text AS name, p.prosrc AS body {_OF_USERS} AND p.prosrc ~* '{SEEDS}'
UNION ALL
SELECT p.proname::text, pg_get_functiondef(p.oid) {_OF_USERS} AND p.prosrc = ''
"""

# Asked only where there is a function that may leave something.
_DEFINITIONS = f"SELECT p.proname::text AS name, pg_get_functiondef(p.oid) AS body {_OF_USERS}"

_TRIGGER_FUNCTIONS = """
SELECT t.tgrelid AS relation, p.proname::text AS name
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
"""

_DEFAULTS = """
SELECT string_agg(concat_ws(' ', setdatabase, setrole, setconfig), E'\\n'
                  ORDER BY setdatabase, setrole)
FROM pg_db_role_setting
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

_ISOLATION = """
SELECT s.setting AS seen, s.source,
       ARRAY(SELECT lower(split_part(entry, '=', 2))
             FROM pg_db_role_setting r, unnest(r.setconfig) AS entry
             WHERE entry LIKE 'default_transaction_isolation=%'
               AND r.setdatabase IN (0, (SELECT oid FROM pg_database
                                         WHERE datname = current_database()))) AS configured
FROM pg_settings s WHERE s.name = 'default_transaction_isolation'
"""

# What has rows of its own, and changes that a publication leaves out: unlogged tables, tables that
# it doesn't list or only in part. A refresh of a materialised view shows as DDL alone, if at all.
_UNFED = """
WITH fed AS MATERIALIZED (
    SELECT t.schemaname, t.tablename
    FROM pg_publication p JOIN pg_publication_tables t USING (pubname)
    WHERE p.pubname = $1 AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
          AND to_jsonb(t) ->> 'rowfilter' IS NULL
)
SELECT DISTINCT c.relname::text AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'f') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND NOT EXISTS (SELECT FROM fed WHERE schemaname = n.nspname AND tablename = c.relname)
      AND NOT (c.relkind = 'm' AND EXISTS (
          SELECT FROM pg_event_trigger WHERE evtname = $2 AND evtenabled <> 'D'))
"""

# The type is null where equality is another than that of `proxy.sharding.keys`, or the column is
# made from others.
_KEYS = """
SELECT c.oid, c.relname::text AS name, a.attname::text AS column,
       CASE WHEN c.relkind = 'r' AND coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
                 AND coalesce((to_jsonb(l) ->> 'collisdeterministic')::bool, true)
            THEN CASE a.atttypid WHEN 20 THEN 'bigint' WHEN 23 THEN 'integer'
                                 WHEN 21 THEN 'smallint' WHEN 25 THEN 'text'
                                 WHEN 1043 THEN 'varchar' WHEN 2950 THEN 'uuid' END
       END AS type
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = ANY ($1)
                        AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_collation l ON l.oid = a.attcollation
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND c.relname IN (
          SELECT k.relname FROM pg_class k JOIN pg_attribute w ON w.attrelid = k.oid
          WHERE w.attname = ANY ($1) AND w.attnum > 0 AND k.oid >= 16384)
"""
_KEYS_FINGERPRINT = """
SELECT concat(count(*), ':', sum(hashint8(xmin::text::bigint << 32 | attrelid::bigint)))
FROM pg_attribute WHERE attname = ANY ($1) AND attrelid >= 16384
"""

# Whatever makes a difference to the answers above comes with a new version of a row, so with
# another xmin. (Statistics are updated in place, without one.)
_FINGERPRINTED = (
    ("pg_class", "oid", "relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't'"),
    ("pg_proc", "oid", "true"),
    ("pg_rewrite", "oid", "true"),
    ("pg_trigger", "oid", "NOT tgisinternal"),
    ("pg_constraint", "oid", "contype IN ('f', 'c')"),
    ("pg_attrdef", "oid", "true"),
    ("pg_namespace", "oid", "nspname !~ '^pg_(toast_)?temp'"),
    ("pg_inherits", "inhrelid", "true"),
    ("pg_db_role_setting", "setrole", "true"),
)
_FINGERPRINT = "SELECT concat_ws(' '{}) FROM pg_settings {}".format(
    "".join(
        f", (SELECT concat(count(*), ':', sum(hashint8(xmin::text::bigint << 32 | {key}::bigint)))"
        f" FROM {catalogue} WHERE {condition})"
        for catalogue, key, condition in _FINGERPRINTED
    )
    + ", setting, source",
    "WHERE name = 'default_transaction_isolation'",
)

_FEED_FINGERPRINT = """
SELECT concat_ws(' ',
    (SELECT concat(oid, ':', xmin) FROM pg_publication WHERE pubname = $1),
    (SELECT concat(count(*), ':', sum(hashint8(r.xmin::text::bigint << 32 | r.oid::bigint)))
     FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE pubname = $1),
    (SELECT concat(oid, ':', xmin) FROM pg_event_trigger WHERE evtname = $2))
"""

EVENT_TRIGGER = "penstock_ddl"
"""Installed by `penstock cache feed setup`: it puts schema changes into the feed."""

_TURN = 0.004


async def read_fingerprint(
    connection: Connection, publication: str | None = None, keys: Sequence[str] = ()
) -> str:
    """A text that differs once anything has changed that `load_catalogue` reads."""
    text = str(await connection.fetchval(_FINGERPRINT))
    if keys:
        columns = await connection.fetchval(_KEYS_FINGERPRINT, list(keys))
        text = f"{text} {list(keys)} {columns}"
    if publication is not None:
        fed = await connection.fetchval(_FEED_FINGERPRINT, publication, EVENT_TRIGGER)
        text = f"{text} {publication} {fed}"
    return text


async def load_catalogue(
    connection: Connection,
    analysed: MutableMapping[str, View] | None = None,
    publication: str | None = None,
    keys: Sequence[str] = (),
) -> Catalogue:
    """The catalogue as of one moment. Raises what asyncpg raises. `publication`: of the change
    feed, if there is one. `keys`: names of columns that rules invalidate by.

    `analysed` keeps the analysis of each view's text from one load to the next: texts that no view
    has any more leave it.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        rows = await _read(connection, publication, keys)
    kept = await _analyse((row["definition"] for row in rows.relations), analysed or {})
    if analysed is not None:
        analysed.clear()
        analysed.update(kept)
    return assemble(rows, kept)


async def _read(connection: Connection, publication: str | None, keys: Sequence[str]) -> Rows:
    setters = await connection.fetch(_SETTERS)
    unfed = []
    if publication is not None:
        unfed = [row[0] for row in await connection.fetch(_UNFED, publication, EVENT_TRIGGER)]
    return Rows(
        functions=await connection.fetch(_FUNCTIONS),
        relations=await connection.fetch(_RELATIONS),
        view_reads=await connection.fetch(_VIEW_READS),
        inherits=[(row[0], row[1]) for row in await connection.fetch(_INHERITS)],
        cascades=[(row[0], row[1]) for row in await connection.fetch(_CASCADES)],
        triggers=[row[0] for row in await connection.fetch(_TRIGGERS)],
        defaults=await connection.fetchval(_DEFAULTS) or "",
        isolation=(await connection.fetch(_ISOLATION))[0],
        setters=setters,
        definitions=await connection.fetch(_DEFINITIONS) if setters else (),
        trigger_functions=await connection.fetch(_TRIGGER_FUNCTIONS) if setters else (),
        unfed=unfed,
        keys=await connection.fetch(_KEYS, list(keys)) if keys else (),
    )


async def _analyse(
    definitions: Iterable[str | None], known: MutableMapping[str, View]
) -> dict[str, View]:
    """Analyse each text, letting others have the loop every few milliseconds."""
    found: dict[str, View] = {}
    turn_ends = time.monotonic() + _TURN
    for text in definitions:
        if text is None:
            continue
        found[text] = known.get(text) or analyse_view(text)
        if time.monotonic() > turn_ends:
            await asyncio.sleep(0)
            turn_ends = time.monotonic() + _TURN
    return found
