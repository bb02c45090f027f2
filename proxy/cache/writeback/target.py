"""What the catalogue says of the tables that rules name for write-back: may they be, and how.

A write that was acknowledged must not fail later. So a table is taken only if nothing but its
columns' types, NOT NULL and unique indexes can refuse a row: those are looked at before a write is
acknowledged (see `check`).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from proxy.pool.backend import Backend
from proxy.pool.own_query import ask
from proxy.sql.quoting import literal

_TABLES = """
SELECT c.oid::int8, n.nspname, c.relname, CASE
    WHEN c.relkind <> 'r' OR c.relispartition THEN 'it is no plain table, or a partition'
    WHEN c.relhassubclass OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid)
        THEN 'it inherits, or is inherited from'
    WHEN c.relpersistence <> 'p' THEN 'it is temporary or unlogged'
    WHEN c.relrowsecurity THEN 'it has row security'
    WHEN c.relhasrules THEN 'it has rules'
    WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
        THEN 'it has triggers'
    WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
        THEN 'it has check constraints'
    WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f')
        THEN 'it has foreign keys'
    WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'x')
        THEN 'it has exclusion constraints'
    WHEN EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                 AND NOT a.attisdropped AND a.attgenerated <> '')
        THEN 'it has generated columns'
    WHEN NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'INSERT')
              AND has_table_privilege(c.oid, 'UPDATE'))
        THEN 'the user ' || current_user || ' of write-back may not read and write it'
    END,
    (SELECT json_agg(json_build_object(
         'name', a.attname, 'oid', a.atttypid::int8, 'type', t.typname,
         'shown', format_type(a.atttypid, a.atttypmod), 'typmod', a.atttypmod,
         'not_null', a.attnotnull, 'identity', a.attidentity,
         'default', pg_get_expr(d.adbin, d.adrelid), 'base', t.typtype IN ('b', 'e'),
         'system', tn.nspname = 'pg_catalog' OR t.typtype = 'e') ORDER BY a.attnum)
     FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
     JOIN pg_namespace tn ON tn.oid = t.typnamespace
     LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    (SELECT json_agg(json_build_object(
         'oid', i.indexrelid::int8,
         'plain', i.indpred IS NULL AND i.indexprs IS NULL AND i.indimmediate AND i.indisvalid
             AND coalesce(to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'false'
             AND NOT EXISTS (SELECT FROM pg_collation l WHERE l.oid = ANY (i.indcollation::oid[])
                             AND NOT l.collisdeterministic),
         'columns', (SELECT json_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
                     WHERE a.attrelid = c.oid
                     AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))))
     FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relname IN (%s)
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
      AND n.nspname NOT LIKE 'pg\\_temp\\_%%' AND n.nspname NOT LIKE 'pg\\_toast\\_temp\\_%%'
"""

_SETTLED_DEFAULT = re.compile(
    r"nextval\('[^']+'::regclass\)|(?:pg_catalog\.)?gen_random_uuid\(\)|NULL(?:::[\w\s.\"]+)?"
    r"|'(?:[^']|'')*'::(?!date|time|interval)[\w\s.\"]+(?:\(\d+(?:,\s*\d+)?\))?(?:\[\])?"
    r"|\(?-?\d+(?:\.\d+)?\)?(?:::[\w ]+(?:\(\d+(?:,\d+)?\))?)?|true|false",
    re.IGNORECASE,
)
"""Defaults that are the same, or as good, whenever the row is stored. (Not now(); and constants of
time may be 'now' or 'today', which PostgreSQL has turned into values, but who knows.)"""

_FRESH = re.compile(r"nextval\(|(?:pg_catalog\.)?gen_random_uuid\(")

_LIMITED = frozenset({"bit", "bpchar", "interval", "varbit", "varchar"})
"""Types whose explicit casts cut off what an assignment refuses."""
_KEYS = frozenset(
    {"bytea", "date", "int2", "int4", "int8", "text", "timestamp", "timestamptz", "uuid", "varchar"}
)
"""Types of which equal values have equal bytes."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `obstacle`: why no value may be given to it by write-back."""

    name: str
    type_oid: int
    type: str
    """pg_type.typname."""
    shown: str
    """The type as SQL spells it, with its limits."""
    length: int | None
    """Of a varchar(n), the n."""
    not_null: bool
    obstacle: str | None
    omissible: bool
    """An INSERT may leave it out."""
    fresh: bool
    """Left out it is NULL, or what no other row has."""


@dataclass(frozen=True, slots=True)
class Unique:
    """A unique index."""

    oid: int
    columns: tuple[str, ...]
    plain: bool
    """Whether equality of all columns' values is all that it looks at."""


@dataclass(frozen=True, slots=True)
class Target:
    """A table. `obstacle`: why nothing is written back to it; None if it may be."""

    oid: int
    schema: str
    name: str
    obstacle: str | None
    columns: dict[str, Column] = field(default_factory=dict)
    unique: tuple[Unique, ...] = ()


def tables_named(names: Iterable[str]) -> str:
    """The query for the tables of these bare names, of whichever schema."""
    return _TABLES % ", ".join(literal(name) for name in sorted(names))


async def load_targets(backend: Backend, names: frozenset[str]) -> tuple[Target, ...]:
    """The tables of these names, in all schemas. Raises PgError."""
    if not names:
        return ()
    answer = await ask(backend, tables_named(names).encode())
    return tuple(
        _target([None if one is None else one.decode() for one in row]) for row in answer.rows
    )


def _target(row: list[str | None]) -> Target:
    oid, schema, name, obstacle, columns, unique = row
    described = [_column(one) for one in json.loads(columns or "[]")]
    return Target(
        int(oid or 0),
        schema or "",
        name or "",
        obstacle,
        {one.name: one for one in described},
        tuple(
            Unique(one["oid"], tuple(one["columns"] or ()), one["plain"])
            for one in json.loads(unique or "[]")
        ),
    )


def _column(one: dict[str, Any]) -> Column:
    kind, typmod, default = one["type"], one["typmod"], one["default"]
    length = typmod - 4 if kind == "varchar" and typmod > 4 else None
    obstacle = None
    if not (one["base"] and one["system"]):
        obstacle = f"its type {one['shown']} is none of PostgreSQL's own"
    elif typmod != -1 and kind in _LIMITED and length is None:
        obstacle = f"its type {one['shown']} has a limit"
    elif one["identity"] == "a":
        obstacle = "it is GENERATED ALWAYS"
    filled = bool(one["identity"]) or (
        default is not None and _SETTLED_DEFAULT.fullmatch(default) is not None
    )
    return Column(
        one["name"],
        one["oid"],
        kind,
        one["shown"],
        length,
        one["not_null"],
        obstacle,
        filled or (default is None and not one["not_null"]),
        bool(one["identity"]) or default is None or _FRESH.match(default) is not None,
    )


def may_be_key(column: Column) -> bool:
    """Whether equal values of it always have equal bytes."""
    return column.type in _KEYS
