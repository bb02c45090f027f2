"""pg_dump and pg_restore: a database taken out and put back through Penstock."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.targets import Target, direct, new_target
from tests.databases import fresh_database

SCHEMA = (
    "CREATE TYPE colour AS ENUM ('red', 'green')",
    "CREATE SEQUENCE tickets START 1000",
    "CREATE TABLE parts (id int PRIMARY KEY, name text, paint colour, made timestamptz, "
    "sizes numeric[], about jsonb, raw bytea)",
    "CREATE TABLE uses (part int REFERENCES parts, ticket bigint DEFAULT nextval('tickets'), "
    "CHECK (ticket > 0))",
    "CREATE MATERIALIZED VIEW summary AS SELECT paint, count(*) FROM parts GROUP BY paint",
    "CREATE FUNCTION label(p parts) RETURNS text LANGUAGE plpgsql STABLE "
    "AS $$ BEGIN RETURN p.name || E'\\t\\'quoted\\''; END $$",
    "CREATE TABLE events (id int, at date) PARTITION BY RANGE (at)",
    "CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "CREATE RULE quiet AS ON DELETE TO events DO INSTEAD NOTHING",
    "COMMENT ON TABLE parts IS 'line one\nline two'",
    "INSERT INTO parts SELECT n, E'na\\tme\\n' || n, CASE WHEN n % 2 = 0 THEN 'red' ELSE 'green' "
    "END::colour, timestamptz '2024-01-01' + n * interval '1 s', ARRAY[n, n / 3.0], "
    "jsonb_build_object('n', n), decode(md5(n::text), 'hex') FROM generate_series(1, 5000) n",
    "INSERT INTO uses (part) SELECT id FROM parts",
    "INSERT INTO events SELECT n, date '2024-01-01' + n % 365 FROM generate_series(1, 1000) n",
    "REFRESH MATERIALIZED VIEW summary",
    "SELECT lo_from_bytea(0, 'a large object')",
)

CONTENTS = (
    "SELECT md5(string_agg(p::text, '|' ORDER BY id)) FROM parts p",
    "SELECT count(*), min(ticket), max(ticket) FROM uses",
    "SELECT string_agg(s::text, '|' ORDER BY paint) FROM summary s",
    "SELECT count(*), min(at), max(at) FROM events_2024",
    "SELECT label(p) FROM parts p WHERE id = 1",
    "SELECT obj_description('parts'::regclass)",
    "SELECT nextval('tickets')",
    "SELECT count(*) FROM pg_largeobject_metadata",
)


@pytest.fixture(scope="module", autouse=True)
def _schema(target: Target) -> None:
    target.prepare(*SCHEMA)


@pytest.fixture(scope="module")
def copy_target(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """An empty database behind a Penstock of its own."""
    with (
        fresh_database(target.database.stack, target.database.name + "_copy") as database,
        new_target(database, tmp_path_factory.mktemp("copy")) as copy,
    ):
        yield copy


@pytest.fixture(autouse=True)
def _empty(copy_target: Target) -> None:
    copy_target.prepare(
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
        "SELECT lo_unlink(oid) FROM pg_largeobject_metadata",
    )


def program(target: Target, name: str) -> Path:
    """One of PostgreSQL's client programs."""
    return target.database.stack.programs.bin_dir / name


def must(target: Target, name: str, *arguments: str) -> str:
    """Standard output of a program that must succeed without a complaint."""
    done = target.run(program(target, name), *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def contents(target: Target) -> list[str]:
    """What the database holds, read on the primary."""
    return [must(direct(target.database), "psql", "-Atc", query) for query in CONTENTS]


def test_a_plain_dump_is_the_same_as_from_the_primary(target: Target) -> None:
    def dump(source: Target) -> list[str]:
        text = must(source, "pg_dump", "--no-owner", "--restrict-key=compat")
        return [line for line in text.splitlines() if not line.startswith("-- Dumped")]

    assert dump(target) == dump(direct(target.database))


@pytest.mark.parametrize("dump_format", ["plain", "custom", "directory", "tar"])
def test_dump_and_restore(
    target: Target, copy_target: Target, tmp_path: Path, dump_format: str
) -> None:
    dump = str(tmp_path / "dump")
    must(target, "pg_dump", f"--format={dump_format}", f"--file={dump}")
    if dump_format == "plain":
        must(copy_target, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", dump)
    else:
        arguments = [
            "--no-owner",
            "--clean",
            "--if-exists",
            f"--dbname={copy_target.database.name}",
        ]
        must(copy_target, "pg_restore", "--exit-on-error", *arguments, dump)
    assert contents(copy_target) == contents(target)


def test_restore_in_one_transaction(target: Target, copy_target: Target, tmp_path: Path) -> None:
    dump = str(tmp_path / "dump")
    must(target, "pg_dump", "-Fc", "-f", dump)
    must(
        copy_target,
        "pg_restore",
        "-1",
        "-d",
        copy_target.database.name,
        "--clean",
        "--if-exists",
        dump,
    )
    assert contents(copy_target) == contents(target)


def test_parallel_dump_and_restore(target: Target, copy_target: Target, tmp_path: Path) -> None:
    """Workers share the leader's snapshot, which all of them must read on one server."""
    dump = str(tmp_path / "dump")
    must(target, "pg_dump", "-Fd", "-j", "3", "-f", dump)
    must(
        copy_target,
        "pg_restore",
        "-j",
        "3",
        "-d",
        copy_target.database.name,
        "--clean",
        "--if-exists",
        dump,
    )
    assert contents(copy_target) == contents(target)


def test_dump_as_inserts(target: Target, copy_target: Target, tmp_path: Path) -> None:
    dump = str(tmp_path / "dump.sql")
    must(target, "pg_dump", "--rows-per-insert=100", "-f", dump)
    must(copy_target, "psql", "-qX", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", dump)
    assert contents(copy_target) == contents(target)
