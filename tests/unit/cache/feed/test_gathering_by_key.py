"""Which keys a transaction has touched, as the change feed tells."""

import struct
from functools import partial

import pytest

from proxy.cache.feed.gathering import Gathering, KeyColumn, epochs_touched
from proxy.session.keyed import group_of_text
from proxy.sharding.keys import INTEGER
from proxy.sql.catalogue import Catalogue
from proxy.wire import pgoutput

KEY = KeyColumn("user_id", 23, partial(group_of_text, INTEGER))
ONE, TWO = (f"orders#{KEY.group(value)}" for value in (b"1", b"2"))


def relation(*, key: bool, type_oid: int = 23) -> pgoutput.Relation:
    columns = (pgoutput.Column(True, "id", 23, -1), pgoutput.Column(key, "user_id", type_oid, -1))
    return pgoutput.Relation(5, "public", "orders", "d", columns)


def row(kind: bytes, *values: bytes | None) -> bytes:
    encoded = b"".join(
        b"n" if one is None else b"u" if one == b"u" else b"t" + struct.pack(">I", len(one)) + one
        for one in values
    )
    return kind + struct.pack(">H", len(values)) + encoded


def touched(described: pgoutput.Relation, *changes: tuple[str, bytes]) -> set[str]:
    gathering = Gathering(lambda name: KEY if name == "orders" else None)
    gathering.take(pgoutput.Begin(110, 0, 7))
    gathering.take(described)
    for kind, data in changes:
        gathering.take(pgoutput.Change(kind, 5, data))
    done = gathering.take(pgoutput.Commit(110, 115, 0))
    assert done is not None
    assert done.changes == len(changes)
    return set(done.relations)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("I", row(b"N", b"9", b"1")), {ONE}),
        (("U", row(b"N", b"9", b"1")), {ONE}),
        (("U", row(b"K", b"9", b"1") + row(b"N", b"9", b"2")), {ONE, TWO}),
        (("U", row(b"O", b"9", b"1") + row(b"N", b"9", b"1")), {ONE}),
        (("D", row(b"K", b"9", b"1")), {ONE}),
        (("I", row(b"N", b"9", None)), {"orders"}),
        (("U", row(b"N", b"9", b"u")), {"orders"}),
        (("U", row(b"K", b"9", None) + row(b"N", b"9", b"2")), {"orders"}),
    ],
)
def test_a_change_touches_the_keys_that_its_row_had_and_has(
    change: tuple[str, bytes], expected: set[str]
) -> None:
    assert touched(relation(key=True), change) == expected


@pytest.mark.parametrize("kind", ["U", "D"])
def test_outside_of_the_replica_identity_the_old_key_is_not_known(kind: str) -> None:
    first = b"N" if kind == "U" else b"K"
    assert touched(relation(key=False), (kind, row(first, b"9", b"1"))) == {"orders"}
    assert touched(relation(key=False), ("I", row(b"N", b"9", b"1"))) == {ONE}


def test_one_change_that_is_not_known_stands_for_the_table() -> None:
    known, unknown = ("I", row(b"N", b"9", b"1")), ("I", row(b"N", b"9", None))
    for changes in ([known, unknown], [unknown, known]):
        assert touched(relation(key=True), *changes) == {"orders"}


def test_another_type_and_many_keys_stand_for_the_table() -> None:
    insert = ("I", row(b"N", b"9", b"1"))
    assert touched(relation(key=True, type_oid=25), insert) == {"orders"}
    many = [("I", row(b"N", b"9", b"%d" % number)) for number in range(200)]
    assert touched(relation(key=True), *many) == {"orders"}


def test_keys_are_epochs_of_tables_that_the_catalogue_knows() -> None:
    known = Catalogue(relations=frozenset({"orders"}), loaded=True)
    assert epochs_touched({ONE, TWO}, known) == {ONE, TWO}
    assert epochs_touched({ONE}, Catalogue(loaded=True)) == {"*"}
    partition = Catalogue(
        relations=frozenset({"orders"}), parents={"orders": frozenset({"all"})}, loaded=True
    )
    assert epochs_touched({ONE}, partition) == {ONE, "orders", "all"}
