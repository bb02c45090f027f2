"""Whose writes a read must see, where that depends on the tables (`read_your_writes = "table"`)."""

from proxy.routing.plan import Access, Plan
from proxy.session.combine import combine
from proxy.session.context import WriteClock
from proxy.sql.statement import Analysis


def _read(*tables: str, hint: str | None = None) -> Plan:
    return Plan(
        Analysis("", ()), "select", Access.READ, "reads", reads=frozenset(tables), node_hint=hint
    )


def test_a_table_has_its_own_last_write() -> None:
    clock = WriteClock()
    first = clock.tick(frozenset({"a"}))
    second = clock.tick(frozenset({"b", "c"}))
    assert clock.of_tables(frozenset({"a"})) == first
    assert clock.of_tables(frozenset({"a", "c"})) == second
    assert clock.of_tables(frozenset({"d"})) == float("-inf")


def test_a_write_of_what_could_not_be_told_counts_for_every_table() -> None:
    for unknown in (frozenset[str](), frozenset({"*"})):
        clock = WriteClock()
        at = clock.tick(unknown)
        assert clock.of_tables(frozenset({"a"})) == at


def test_a_read_of_what_can_not_be_told_must_see_every_write() -> None:
    """Such as a stable function of the users' own, which reads tables that nobody names."""
    clock = WriteClock()
    at = clock.tick(frozenset({"a"}))
    assert clock.of_tables(frozenset({"*"})) == at
    assert clock.of_tables(frozenset({"*", "b"})) == at


def test_a_pipeline_reads_what_all_its_statements_read() -> None:
    plan = combine([_read("a"), _read("b", "c"), _read("d", hint="primary")])
    assert plan.reads == {"a", "b", "c", "d"}
    assert plan.node_hint == "primary"
    assert combine([_read("a", hint="replica"), _read("b")]).node_hint == "replica"
