"""What the planner says besides plans, and how parameters pin a statement to a shard."""

import struct
import uuid

import pytest

from proxy.config.cache_settings import CacheRule, CacheSettings
from proxy.config.settings import RoutingSettings
from proxy.routing.plan import Access, ShardPlan
from proxy.routing.planner import Planner
from proxy.routing.route import ShardRefused
from proxy.sharding.hash import shard_of
from proxy.sql.analyse import analyse
from proxy.sql.catalogue import Catalogue
from proxy.sql.statement import Analysis
from tests.unit.routing.shop import CACHE, CATALOGUE, PLANNER

TOKEN = uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")


def _planner(*rules: CacheRule, read_your_writes: str = "session") -> Planner:
    routing = RoutingSettings.model_validate({"read_your_writes": read_your_writes})
    return Planner(routing, CacheSettings(rule=rules), CATALOGUE, hints_cache=False)


def _shard(statement: str) -> ShardPlan:
    plan = PLANNER.plan(analyse(statement))
    assert plan.shard is not None, plan.reason
    return plan.shard


def test_any_table_may_be_cached_while_hints_may_ask_for_it() -> None:
    assert Planner(RoutingSettings(), CACHE, CATALOGUE).cached_tables() is None


def test_a_rule_without_tables_may_cache_any_table() -> None:
    assert _planner(CacheRule(name="counts", statement="select count*")).cached_tables() is None


def test_tables_that_rules_may_cache() -> None:
    planner = _planner(
        CacheRule(name="views", tables=("big_*",)),
        CacheRule(name="partitions", tables=("app.events",), statement="select *"),
        CacheRule(name="never", tables=("stock",), enabled=False),
    )
    expected = "order_items orders users events events_2024 events_2025"
    assert planner.cached_tables() == frozenset(expected.split())


def test_nothing_is_cached_without_rules_or_catalogue() -> None:
    assert _planner().cached_tables() == frozenset()
    rules = CacheSettings(rule=(CacheRule(name="all", tables=("*",)),))
    unloaded = Planner(RoutingSettings(), rules, Catalogue(), hints_cache=False)
    assert unloaded.cached_tables() == frozenset()


def test_writes_of_uncached_tables_are_kept_where_reads_wait_for_them_by_table() -> None:
    analysis = analyse("INSERT INTO countries VALUES (1)")
    assert _planner().plan(analysis).writes == frozenset()
    assert _planner(read_your_writes="table").plan(analysis).writes == {"countries"}


def test_an_error_without_statements_is_a_write_of_anything() -> None:
    plan = PLANNER.plan(Analysis("?", (), error="not understood"))
    assert (plan.kind, plan.access) == ("unknown", Access.WRITE)
    assert plan.writes == {"*"}
    plan = PLANNER.plan(Analysis("", ()))
    assert (plan.kind, plan.access) == ("empty", Access.READ)
    assert plan.writes == frozenset()


def test_parameters_in_text_and_binary_find_the_same_shard() -> None:
    resolve = _shard("SELECT * FROM accounts WHERE id = $2").resolve
    expected = shard_of(1, 3)
    assert expected == 2
    assert resolve((None, b"1"), (), ()) == expected
    assert resolve((b"x", b"1"), (0,), (25, 20)) == expected
    assert resolve((b"", struct.pack("!q", 1)), (1,), (0, 20)) == expected
    assert resolve((b"x", struct.pack("!i", 1)), (0, 1), (25, 23)) == expected
    assert resolve((b"x", struct.pack("!h", 1)), (0, 1), (25, 21)) == expected


def test_uuid_parameters() -> None:
    resolve = _shard("DELETE FROM sessions WHERE token = $1").resolve
    expected = shard_of(TOKEN.bytes, 3)
    assert expected == 1
    assert resolve((str(TOKEN).encode(),), (), ()) == expected
    assert resolve((TOKEN.bytes,), (1,), (2950,)) == expected


def test_text_parameters() -> None:
    resolve = _shard("SELECT FROM notes WHERE owner = $1").resolve
    assert resolve((b"ada",), (), ()) == resolve((b"ada",), (1,), (1043,)) == 2


def test_a_cast_tells_the_binary_type() -> None:
    resolve = _shard("SELECT * FROM accounts WHERE id = $1::int").resolve
    assert resolve((struct.pack("!i", 3),), (1,), ()) == shard_of(3, 3) == 1


def test_every_row_and_every_table_must_be_on_one_shard() -> None:
    resolve = _shard("INSERT INTO accounts (id) VALUES ($1), ($2), (1)").resolve
    assert resolve((b"1", b"5"), (), ()) == 2
    with pytest.raises(ShardRefused, match="on shards 1 and 2") as refused:
        resolve((b"1", b"3"), (), ())
    assert refused.value.sqlstate == "0A000"
    join = "SELECT FROM accounts a, transfers t WHERE a.id = $1 AND t.account_id = $2"
    assert _shard(join).resolve((b"1", b"5"), (), ()) == 2
    with pytest.raises(ShardRefused):
        _shard(join).resolve((b"1", b"2"), (), ())


def test_null_has_a_shard_only_where_it_is_stored() -> None:
    assert _shard("INSERT INTO accounts (id) VALUES ($1)").resolve((None,), (), ()) == 0
    with pytest.raises(ShardRefused):
        _shard("INSERT INTO accounts (id) VALUES ($1), (1)").resolve((None,), (), ())
    # No row equals NULL, so it decides nothing.
    resolve = _shard("SELECT FROM accounts WHERE id IN ($1, $2)").resolve
    assert resolve((None, b"1"), (), ()) == 2
    assert resolve((None, None), (), ()) == 0


@pytest.mark.parametrize(
    ("values", "formats", "oids", "sqlstate"),
    [
        ((), (), (), "08P01"),
        ((b"1",), (0, 0), (), "08P01"),
        ((b"one",), (), (), "22P02"),
        ((b"1.0",), (), (1700,), "0A000"),
        ((b"1",), (1,), (20,), "22P02"),
    ],
)
def test_parameters_that_pin_nothing(
    values: tuple[bytes, ...], formats: tuple[int, ...], oids: tuple[int, ...], sqlstate: str
) -> None:
    with pytest.raises(ShardRefused) as refused:
        _shard("SELECT FROM accounts WHERE id = $1").resolve(values, formats, oids)
    assert refused.value.sqlstate == sqlstate
    assert refused.value.hint


def test_literals_are_resolved_without_parameters() -> None:
    shard = _shard("SELECT FROM accounts WHERE id = 1")
    assert shard.shard == shard.resolve((), (), ()) == 2
