"""How far the feed may be said to have come, and what it makes of the messages."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.feed.gathering import Gathering, Transaction, epochs_touched
from proxy.cache.feed.position import Position, follows
from proxy.cache.feed.progress import Progress, Snapshot
from proxy.cache.feed.slot import slot_name, start_command
from proxy.cache.keys import EVERYTHING
from proxy.sql.catalogue import Catalogue
from proxy.sql.quoting import literal
from proxy.topology.health import Lineage
from proxy.wire import pgoutput
from proxy.wire.errors import ProtocolViolation

ORDERS = pgoutput.Relation(5, "public", "orders", "d", ())
ITEMS = pgoutput.Relation(6, "public", "items", "d", ())
EVENT = pgoutput.Message(True, 1, "penstock.ddl", b"ALTER TABLE")


def transaction(xid: int, commit: int, *names: str, schema: bool = False) -> Transaction:
    return Transaction(xid, frozenset(names), schema, commit, commit + 5, len(names))


def snapshot(xmax: int, *running: int) -> Snapshot:
    return Snapshot(min((*running, xmax)), xmax, frozenset(running))


def names(due: Iterable[object]) -> list[frozenset[str]]:
    return [getattr(one, "relations") for one in due]  # noqa: B009


class TestProgress:
    def test_without_changes_the_position_is_what_was_sent(self) -> None:
        progress = Progress(100)
        assert progress.position == 100
        progress.reached(150)
        progress.reached(120)
        assert progress.position == 150

    def test_a_transaction_without_tables_holds_nothing_up(self) -> None:
        progress = Progress(100)
        progress.committed(transaction(7, 110))
        assert (progress.position, progress.waiting) == (115, 0)

    def test_a_commit_that_nobody_can_see_is_not_passed(self) -> None:
        progress = Progress(100)
        progress.committed(transaction(7, 110, "orders"))
        progress.reached(200)
        assert progress.due(snapshot(9, 7)) == []
        assert progress.due(snapshot(7)) == []
        assert progress.position == 110

    def test_the_position_passes_once_it_is_moved(self) -> None:
        progress = Progress(100)
        progress.committed(transaction(7, 110, "orders"))
        progress.reached(200)
        due = progress.due(snapshot(9))
        assert names(due) == [{"orders"}]
        assert progress.position == 110
        progress.moved(due)
        assert progress.position == 200

    def test_later_ones_move_while_an_earlier_one_waits(self) -> None:
        progress = Progress(100)
        progress.committed(transaction(7, 110, "orders"))
        progress.committed(transaction(8, 120, "items"))
        due = progress.due(snapshot(9, 7))
        assert names(due) == [{"items"}]
        progress.moved(due)
        assert progress.position == 110
        assert progress.due(snapshot(9, 7)) == []  # not twice
        progress.moved(progress.due(snapshot(10)))
        assert (progress.position, progress.waiting) == (125, 0)

    def test_nothing_is_said_until_the_past_is_done_with(self) -> None:
        progress = Progress(100)
        progress.distrust(horizon=20)
        progress.committed(transaction(21, 110, "orders"))
        assert progress.position is None
        progress.moved(progress.due(snapshot(30, 19)))
        assert progress.position is None
        due = progress.due(snapshot(30, 25))
        assert names(due) == [{EVERYTHING}]
        progress.moved(due)
        assert progress.position == 115

    def test_schema_changes_are_counted(self) -> None:
        progress = Progress(100, schema=4)
        progress.committed(transaction(7, 110, schema=True))
        assert (progress.position, progress.schema) == (110, 4)
        progress.moved(progress.due(snapshot(9)))
        assert (progress.position, progress.schema) == (115, 5)

    @given(st.lists(st.integers(0, 30), max_size=12, unique=True), st.randoms())
    def test_no_position_passes_what_has_not_moved(self, xids: list[int], chance: object) -> None:
        progress = Progress(0)
        open_ones: dict[int, int] = {}
        for place, xid in enumerate(xids, 1):
            progress.committed(transaction(xid, place * 10, "t"))
            open_ones[xid] = place * 10
        running = set(xids)
        while running:
            ended = chance.choice(sorted(running))  # type: ignore[attr-defined]
            running.remove(ended)
            progress.moved(progress.due(snapshot(31, *running)))
            open_ones.pop(ended)
            assert progress.position is not None
            assert all(progress.position <= commit for commit in open_ones.values())
        assert progress.waiting == 0


class TestSnapshot:
    def test_its_text(self) -> None:
        assert Snapshot.parse("10:20:10,14") == Snapshot(10, 20, frozenset({10, 14}))
        assert Snapshot.parse("10:10:") == Snapshot(10, 10, frozenset())

    @pytest.mark.parametrize("text", ["", "10", "1:2", "a:b:c", "1:2:3:4"])
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ValueError):
            Snapshot.parse(text)

    @pytest.mark.parametrize("turns", [0, 1, 5])
    @pytest.mark.parametrize("low", [3, 2**31 - 1, 2**31, 2**32 - 2])
    def test_numbers_of_32_bits_begin_anew(self, turns: int, low: int) -> None:
        xmax = (turns << 32) + low
        for distance in (1, 2, 1000, 2**31 - 1):
            full = xmax - distance
            if full < 0:
                continue
            assert Snapshot(xmax, xmax, frozenset()).has_ended(full % 2**32)
            assert not Snapshot(full, xmax, frozenset({full})).has_ended(full % 2**32)
        for distance in (0, 1, 1000):
            assert not Snapshot(xmax, xmax, frozenset()).has_ended((xmax + distance) % 2**32)


class TestGathering:
    def take(self, *messages: pgoutput.Output) -> list[Transaction]:
        gathering = Gathering()
        return [done for one in messages if (done := gathering.take(one)) is not None]

    def test_a_transaction(self) -> None:
        (done,) = self.take(
            pgoutput.Begin(110, 0, 7),
            ORDERS,
            pgoutput.Change("I", 5, b"N"),
            pgoutput.Change("U", 5, b"N"),
            ITEMS,
            pgoutput.Truncate((5, 6), False, False),
            pgoutput.Commit(110, 115, 0),
        )
        assert done == Transaction(7, frozenset({"orders", "items"}), False, 110, 115, 4)

    def test_the_next_one_begins_with_nothing(self) -> None:
        _, second = self.take(
            pgoutput.Begin(110, 0, 7),
            ORDERS,
            EVENT,
            pgoutput.Change("I", 5, b"N"),
            pgoutput.Commit(110, 115, 0),
            pgoutput.Begin(120, 0, 8),
            pgoutput.Commit(120, 125, 0),
        )
        assert second == Transaction(8, frozenset(), False, 120, 125, 0)

    @pytest.mark.parametrize(
        ("messages", "changed"),
        [
            ([ORDERS, ORDERS], False),
            ([ORDERS, pgoutput.Relation(5, "public", "renamed", "d", ())], True),
            ([EVENT], True),
            ([pgoutput.Message(False, 1, "penstock.ddl", b"")], False),
            ([pgoutput.Message(True, 1, "another", b"")], False),
        ],
    )
    def test_what_tells_of_the_schema(self, messages: list[pgoutput.Output], changed: bool) -> None:
        (done,) = self.take(pgoutput.Begin(110, 0, 7), *messages, pgoutput.Commit(110, 115, 0))
        assert done.schema_changed is changed

    @pytest.mark.parametrize(
        "messages",
        [
            [pgoutput.Commit(1, 2, 0)],
            [pgoutput.Begin(1, 0, 1), pgoutput.Begin(1, 0, 1)],
            [ORDERS, pgoutput.Change("I", 5, b"N")],
            [pgoutput.Begin(1, 0, 1), pgoutput.Change("I", 5, b"N")],
            [pgoutput.Begin(1, 0, 1), pgoutput.Truncate((5,), False, False)],
        ],
    )
    def test_what_makes_no_sense(self, messages: list[pgoutput.Output]) -> None:
        with pytest.raises(ProtocolViolation):
            self.take(*messages)


CATALOGUE = Catalogue(
    relations=frozenset({"orders", "orders_1", "items"}),
    parents={"orders_1": frozenset({"orders"})},
    triggers=frozenset({"items"}),
    loaded=True,
)


@pytest.mark.parametrize(
    ("relations", "catalogue", "expected"),
    [
        ({"items"}, CATALOGUE, {"items"}),  # its triggers' writes come by themselves
        ({"orders_1"}, CATALOGUE, {"orders_1", "orders"}),
        ({"orders", "new"}, CATALOGUE, {EVERYTHING}),
        ({"orders"}, Catalogue(), {EVERYTHING}),
        ({EVERYTHING}, CATALOGUE, {EVERYTHING}),
        (set(), CATALOGUE, set()),
    ],
)
def test_epochs(relations: set[str], catalogue: Catalogue, expected: set[str]) -> None:
    assert epochs_touched(relations, catalogue) == expected


HERE = Lineage(6_999_999_999_999_999_999, 3)


def test_a_position_and_its_text() -> None:
    position = Position(HERE, 0x16B374D848, 4)
    assert Position.decode(position.encode()) == position
    for other in (None, b"", b"1 2", b"a b c d", b"1 2 3 4 5", b"\xff"):
        assert Position.decode(other) is None


@pytest.mark.parametrize(
    ("stored", "confirmed", "gapless"),
    [
        (Position(HERE, 100, 0), 100, True),
        (Position(HERE, 100, 0), 40, True),
        (Position(HERE, 100, 0), 101, False),
        (Position(Lineage(HERE.system, 2), 100, 0), 100, False),
        (Position(Lineage(1, 3), 100, 0), 100, False),
        (None, 0, False),
    ],
)
def test_what_leaves_no_gap(stored: Position | None, confirmed: int, gapless: bool) -> None:
    assert follows(stored, HERE, confirmed) is gapless


def test_names_of_slots() -> None:
    assert slot_name("penstock", "app") == "penstock_app"
    odd = [slot_name("penstock", name) for name in ("App", "app-1", "app_1", "äpp", "a" * 80)]
    assert len(set(odd)) == len(odd)
    assert all(
        len(name) <= 63 and set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_")
        for name in odd
    )


def test_quoting() -> None:
    assert literal("it's") == "'it''s'"
    assert literal("a\\b") == "E'a\\\\b'"
    assert "publication_names '\"o''dd\"\"\"'" in start_command("s", "o'dd\"")
