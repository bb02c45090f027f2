"""The tables in PostgreSQL that say how far a stream has been applied, and what was rejected."""

from collections.abc import Iterable
from typing import Final

from proxy.cache.writeback.entry import Position
from proxy.sql.quoting import identifier, literal

SCHEMA: Final = "penstock_write_back"

INSTALL: Final = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.progress (
    stream text PRIMARY KEY,
    generation bigint NOT NULL,
    applied_generation bigint NOT NULL DEFAULT 0,
    applied_milliseconds bigint NOT NULL DEFAULT 0,
    applied_sequence bigint NOT NULL DEFAULT 0,
    applied_at timestamptz
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.rejected (
    stream text NOT NULL,
    generation bigint NOT NULL,
    milliseconds bigint NOT NULL,
    sequence bigint NOT NULL,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    relation oid NOT NULL,
    write json NOT NULL,
    sqlstate text NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (stream, generation, milliseconds, sequence)
);
COMMENT ON SCHEMA {SCHEMA} IS 'Penstock: writes that were acknowledged before they were applied';
COMMENT ON TABLE {SCHEMA}.progress IS 'The last write of each stream in Redis that was applied';
COMMENT ON TABLE {SCHEMA}.rejected IS 'Acknowledged writes that PostgreSQL has refused';
"""

UNINSTALL: Final = f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE"


def grants(user: str) -> str:
    """What the login that applies writes needs besides rights on the tables themselves."""
    name = identifier(user)
    return (
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO {name}; "
        f"GRANT SELECT, INSERT, UPDATE ON {SCHEMA}.progress TO {name}; "
        f"GRANT SELECT, INSERT ON {SCHEMA}.rejected TO {name}"
    )


def claim(stream: str, above: int) -> str:
    """Take a generation above all that were given, and above `above`."""
    return (
        f"INSERT INTO {SCHEMA}.progress AS p (stream, generation) "
        f"VALUES ({literal(stream)}, {above + 1}) ON CONFLICT (stream) DO UPDATE "
        f"SET generation = greatest(p.generation, {above}) + 1 RETURNING generation"
    )


def begin(stream: str) -> str:
    """Begin to apply: the position of the last write that was, its row locked."""
    return (
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; "
        "SELECT applied_generation, applied_milliseconds, applied_sequence "
        f"FROM {SCHEMA}.progress WHERE stream = {literal(stream)} FOR UPDATE"
    )


def advance(stream: str, position: Position) -> str:
    """All up to this position has been applied."""
    return (
        f"UPDATE {SCHEMA}.progress SET applied_generation = {position.generation}, "
        f"applied_milliseconds = {position.milliseconds}, "
        f"applied_sequence = {position.sequence}, applied_at = now() "
        f"WHERE stream = {literal(stream)}"
    )


def reject(
    stream: str, position: Position, relation: int, write: str, sqlstate: str, message: str
) -> str:
    """Keep a write that PostgreSQL has refused."""
    values = (
        literal(stream),
        str(position.generation),
        str(position.milliseconds),
        str(position.sequence),
        str(relation),
        literal(write),
        literal(sqlstate),
        literal(message),
    )
    return (
        f"INSERT INTO {SCHEMA}.rejected (stream, generation, milliseconds, sequence, relation, "
        f"write, sqlstate, message) VALUES ({', '.join(values)})"
    )


def relations(oids: Iterable[int]) -> str:
    """The names of tables as SQL spells them."""
    listed = ", ".join(map(str, sorted(oids))) or "0"
    return (
        "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c "
        f"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({listed})"
    )
