"""The question before a write, what is made of its answer, and the SQL that applies the write."""

from dataclasses import replace

import pytest

from proxy.cache.writeback.check import Check, Given, Unsuited, check
from proxy.cache.writeback.entry import (
    Cell,
    Entry,
    Position,
    key_member,
    position_of,
    statement,
)
from proxy.cache.writeback.target import Column, Target, Unique
from proxy.sql.single_row import single_row


def column(name: str, oid: int, kind: str, **more: object) -> Column:
    plain = Column(name, oid, kind, kind, None, False, None, True, True)
    return replace(plain, **more)  # type: ignore[arg-type]


COLUMNS = (
    column("id", 23, "int4", not_null=True, omissible=False),
    column("name", 1043, "varchar", shown="character varying(5)", length=5),
    column("n", 20, "int8"),
    column("at", 1184, "timestamptz", omissible=False, fresh=False),
    column("kind", 25, "text", fresh=False),
    column("note", 25, "text"),
    column("shape", 600, "point", obstacle="it is odd"),
)
TARGET = Target(
    99,
    "public",
    "t",
    None,
    {one.name: one for one in COLUMNS},
    (Unique(7, ("id",), True), Unique(8, ("name", "kind"), True)),
)
INSERT = "INSERT INTO t (id, name, at, kind) VALUES (1, 'x', $1, 'k')"


def ask(text: str, *oids: int, targets: tuple[Target, ...] = (TARGET,)) -> Check:
    row = single_row(text)
    assert row is not None
    return check(row, targets, oids)


def test_constants_are_parameters_of_the_question() -> None:
    one = ask("UPDATE t SET n = 5, note = 'x' WHERE id = 3")
    other = ask("UPDATE t SET n = 66, note = 'yy' WHERE id = 4")
    assert one.sql == other.sql
    assert [given.constant for given in one.given] == [b"5", b"x", b"3"]


def test_the_client_s_parameters_keep_their_types() -> None:
    asked = ask("UPDATE t SET n = $2 WHERE id = $1", 23, 20)
    assert asked.given == (Given(2, b"", 20), Given(1, b"", 23))


@pytest.mark.parametrize(
    ("text", "oids", "why"),
    [
        ("INSERT INTO other (id) VALUES (1)", (), "0 tables"),
        ("INSERT INTO app.t (id) VALUES (1)", (), "0 tables"),
        ("INSERT INTO t (id) VALUES (1)", (), "leaves out at"),
        ("INSERT INTO t (name, at) VALUES ('x', $1)", (), "leaves out id"),
        ("INSERT INTO t (id, at, name) VALUES (1, $1, 'x')", (), "constant default"),
        ("INSERT INTO t (id, id) VALUES (1, 2)", (), "names a column twice"),
        ("INSERT INTO t VALUES (1, 'x', 2, $1, 'k', 'n', NULL, 7)", (), "more values"),
        ("UPDATE t SET nope = 1 WHERE id = 1", (), "no column nope"),
        ("UPDATE t SET shape = '(1,2)' WHERE id = 1", (), "it is odd"),
        ("UPDATE t SET kind = 'x' WHERE id = 1", (), "changes kind"),
        ("UPDATE t SET n = 1 WHERE n = 1", (), "not the columns of a unique key"),
        ("UPDATE t SET n = 1 WHERE id = 1 AND name = 'x'", (), "not the columns"),
        ("UPDATE t SET n = 1 WHERE id = 1 AND id = 1", (), "key column twice"),
        ("UPDATE t SET n = 1 WHERE id = 1.5", (), "no whole number"),
        ("UPDATE t SET n = 1 WHERE id = $1", (1700,), "of another type"),
        ("UPDATE t SET n = true WHERE id = 1", (), "given a boolean"),
        ("UPDATE t SET at = 5 WHERE id = 1", (), "given a number"),
        ("UPDATE t SET n = $1 WHERE id = 1", (25,), "of another type"),
        ("UPDATE t SET n = $1::text WHERE id = 1", (), "of another type"),
        ("UPDATE t SET n = $1::odd WHERE id = 1", (), "casts to odd"),
        ("UPDATE t SET n = $1 WHERE id = $1", (), "parameter twice"),
        ("UPDATE t SET n = 0x1f WHERE id = 1", (), "unusual way"),
        ("UPDATE t SET at = at + 1 WHERE id = 1", (), "given a number"),
    ],
)
def test_what_does_not_suit(text: str, oids: tuple[int, ...], why: str) -> None:
    target = TARGET
    if "constant default" in why:
        kind = replace(TARGET.columns["kind"], fresh=False)
        index = (Unique(7, ("id",), True), Unique(8, ("kind",), True))
        target = replace(TARGET, columns={**TARGET.columns, "kind": kind}, unique=index)
    with pytest.raises(Unsuited, match=why):
        ask(text, *oids, targets=(target,))


def test_a_table_that_may_not_be() -> None:
    with pytest.raises(Unsuited, match="it has triggers"):
        ask(INSERT, targets=(replace(TARGET, obstacle="it has triggers"),))
    with pytest.raises(Unsuited, match="2 tables"):
        ask(INSERT, targets=(TARGET, replace(TARGET, schema="app", oid=100)))


WELL = [(99).to_bytes(4), b"\1", b"\1", b"\1"]


def test_an_update_of_a_row_that_is_there() -> None:
    asked = ask("UPDATE t SET n = n + 2, note = NULL WHERE id = 3")
    entry, members = asked.entry([*WELL, b"two", None, b"three"], frozenset({"t"}))
    assert entry == Entry(
        99,
        (Cell("n", 20, b"two", 1), Cell("note", 25, None)),
        (Cell("id", 23, b"three"),),
        ("t",),
    )
    assert members == []


def test_an_insert_takes_its_keys() -> None:
    asked = ask(INSERT)
    values = [b"one", b"x", b"now", b"k"]
    entry, members = asked.entry([*WELL[:3], b"\0", *values], frozenset({"t"}))
    assert [cell.value for cell in entry.cells] == values
    assert members == [key_member(7, [b"one"]), key_member(8, [b"x", b"k"])]
    _, members = asked.entry([*WELL[:3], b"\0", b"one", None, b"now", b"k"], frozenset())
    assert members == [key_member(7, [b"one"])]


@pytest.mark.parametrize(
    ("place", "value", "why"),
    [
        (0, None, "another one here"),
        (0, (98).to_bytes(4), "another one here"),
        (1, b"\0", "may not write"),
        (2, b"\0", "does not fit"),
        (2, None, "does not fit"),
        (3, b"\0", "no row with its key"),
    ],
)
def test_answers_that_speak_against_it(place: int, value: bytes | None, why: str) -> None:
    answer: list[bytes | None] = [*WELL, b"v", b"k"]
    answer[place] = value
    with pytest.raises(Unsuited, match=why):
        ask("UPDATE t SET n = 5 WHERE id = 3").entry(answer, frozenset())


def test_an_insert_of_a_key_that_is_there() -> None:
    with pytest.raises(Unsuited, match="with its key already"):
        ask(INSERT).entry([*WELL, b"1", b"x", b"t", b"k"], frozenset())


def test_the_sql_that_applies_it() -> None:
    cells = (Cell("a", 23, b"1"), Cell('b"', 20, None, -1))
    inserted = Entry(1, (cells[0],), (), ())
    assert statement(inserted, "s.t") == 'INSERT INTO s.t ("a") VALUES ($1)'
    changed = Entry(1, cells, (Cell("k", 25, b"x"),), ())
    assert statement(changed, "s.t") == (
        'UPDATE s.t SET "a" = $1, "b""" = "b""" - $2 WHERE "k" = $3'
    )


def test_an_entry_survives_its_way() -> None:
    entry = Entry(5, (Cell("ü", 17, bytes(range(256)), 1),), (Cell("k", 23, None),), ("t", "t#4"))
    assert Entry.decode(entry.encode()) == entry
    for damaged in (b"{}", b"[]", b"x", entry.encode()[:-9]):
        with pytest.raises(ValueError):
            Entry.decode(damaged)


def test_positions_compare_in_the_order_of_writing() -> None:
    places = [position_of(1, b"900-0"), position_of(1, b"1000-2"), position_of(1, b"1000-10")]
    assert sorted(places) == places
    assert position_of(2, b"5-0") > places[-1]
    assert Position(1, 1000, 2).id == b"1000-2"
