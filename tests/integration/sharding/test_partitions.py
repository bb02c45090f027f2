"""A key's shard is the partition that PostgreSQL itself would choose."""

import random
import uuid
from collections.abc import Sequence

import psycopg
import pytest
from psycopg import sql

from proxy.sharding.hash import shard_of
from proxy.sharding.keys import (
    BIGINT,
    INTEGER,
    SMALLINT,
    TEXT,
    UUID,
    VARCHAR,
    KeyType,
    UnreadableKey,
    key_from_text,
)
from tests.databases import Database

MODULI = (1, 2, 3, 7, 16)
SEED = 20240229
VALUES_PER_TYPE = 2000


def _integers(bits: int, chance: random.Random) -> list[str]:
    limit = 1 << (bits - 1)
    edges = {0, 1, -1, limit - 1, -limit, limit // 2, -limit // 2 - 1}
    while len(edges) < min(VALUES_PER_TYPE, limit):
        # Of every magnitude, not only the largest.
        edges.add(chance.randrange(-limit, limit) >> chance.randrange(bits))
    return [str(value) for value in edges]


def _texts(chance: random.Random) -> list[str]:
    alphabet = "abcXYZ019 _-'\\\"\n\tßéЖ漢字😀\u0301"
    lengths = [*range(60), 255, 1000, 5000]
    texts = {"", " ", "a", "größe"}
    while len(texts) < VALUES_PER_TYPE:
        texts.add("".join(chance.choices(alphabet, k=chance.choice(lengths))))
    return list(texts)


def _uuids(chance: random.Random) -> list[str]:
    return [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(VALUES_PER_TYPE)]


def _values(key: KeyType) -> list[str]:
    chance = random.Random(SEED)
    if key.size is not None and key.family == "integer":
        return _integers(8 * key.size, chance)
    if key is VARCHAR:
        return [text for text in _texts(chance) if not text.endswith(" ")]
    return _texts(chance) if key is TEXT else _uuids(chance)


@pytest.mark.parametrize(
    "key", [BIGINT, INTEGER, SMALLINT, TEXT, VARCHAR, UUID], ids=lambda key: str(key.name)
)
def test_shard_is_the_partition(database: Database, key: KeyType) -> None:
    values = _values(key)
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        for modulus in MODULI:
            partitions = _partitions_of(connection, key, modulus, values)
            differing = {
                value: (ours, theirs)
                for value, theirs in partitions.items()
                if (ours := shard_of(key_from_text(value, key), modulus)) != theirs
            }
            assert differing == {}
            assert len(partitions) == len(values)


def test_null_is_stored_in_shard_0(database: Database) -> None:
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (k bigint) PARTITION BY HASH (k)")
        for remainder in range(5):
            connection.execute(_partition("kept", 5, remainder))
        connection.execute("INSERT INTO kept VALUES (NULL)")
        found = connection.execute("SELECT tableoid::regclass::text FROM kept").fetchone()
    assert found == (f"kept_{shard_of(None, 5)}",)


def _partitions_of(
    connection: psycopg.Connection[tuple[object, ...]],
    key: KeyType,
    modulus: int,
    values: Sequence[str],
) -> dict[str, int]:
    """Each value and the remainder of the partition that it is stored in."""
    name = f"by_{modulus}"
    type_name = sql.SQL(key.name)
    connection.execute(
        sql.SQL("CREATE TABLE {} (given text, k {}) PARTITION BY HASH (k)").format(
            sql.Identifier(name), type_name
        )
    )
    for remainder in range(modulus):
        connection.execute(_partition(name, modulus, remainder))
    connection.execute(
        sql.SQL("INSERT INTO {} SELECT v, v::{} FROM unnest(%s::text[]) v").format(
            sql.Identifier(name), type_name
        ),
        [list(values)],
    )
    query = sql.SQL("SELECT given, tableoid::regclass::text FROM {}").format(sql.Identifier(name))
    rows = connection.execute(query).fetchall()
    return {str(given): int(str(stored).removeprefix(f"{name}_")) for given, stored in rows}


def _partition(table: str, modulus: int, remainder: int) -> sql.Composed:
    return sql.SQL(
        "CREATE TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS {}, REMAINDER {})"
    ).format(
        sql.Identifier(f"{table}_{remainder}"),
        sql.Identifier(table),
        sql.Literal(modulus),
        sql.Literal(remainder),
    )


def _spellings(key: KeyType, chance: random.Random) -> list[str]:
    """Texts near to what the type's input function takes."""
    if key is UUID:
        alphabet, plain = "0aF-{} g", str(uuid.UUID(int=chance.getrandbits(128)))
    else:
        alphabet, plain = "0 +-_xXoObB19afAF.\t\n", str(chance.randrange(-70000, 70000))
    texts = []
    for _ in range(3000):
        text = plain
        for _ in range(chance.randrange(4)):
            at = chance.randrange(len(text) + 1)
            text = text[:at] + chance.choice(alphabet) + text[at + chance.randrange(2) :]
        texts.append(text)
    short = ["".join(chance.choices(alphabet, k=chance.randrange(7))) for _ in range(3000)]
    return texts + short


@pytest.mark.parametrize("key", [BIGINT, SMALLINT, UUID], ids=lambda key: str(key.name))
def test_texts_are_read_as_postgresql_reads_them(database: Database, key: KeyType) -> None:
    spellings = _spellings(key, random.Random(SEED))
    with psycopg.connect(database.dsn(), autocommit=True) as connection:
        if connection.info.server_version < 160000:
            pytest.skip("before version 16 PostgreSQL takes neither 0x10 nor 1_000")
        rows = connection.execute(
            sql.SQL(
                "SELECT v, CASE WHEN pg_input_is_valid(v, {0}) THEN v::{1}::text END, "
                "(pg_input_error_info(v, {0})).sql_error_code FROM unnest(%s::text[]) v"
            ).format(sql.Literal(key.name), sql.SQL(key.name)),
            [spellings],
        ).fetchall()
    assert sum(theirs is not None for _, theirs, _ in rows) > 100
    assert sum(theirs is None for _, theirs, _ in rows) > 100
    for text, theirs, sqlstate in rows:
        if theirs is None:
            assert _read(text, key) in ("unreadable", f"error {sqlstate}"), text
        else:
            assert _read(text, key) == theirs, text


def _read(text: str, key: KeyType) -> str:
    """The value in PostgreSQL's spelling, or what is wrong with it."""
    try:
        value = key_from_text(text, key)
    except UnreadableKey:
        return "unreadable"
    if value is None:
        return "error 22003"  # numeric_value_out_of_range: no row has it
    return str(uuid.UUID(bytes=value)) if isinstance(value, bytes) else str(value)
