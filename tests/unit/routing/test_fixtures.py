"""The planner on fixtures/*.sql: each statement is followed by what its plan must say.

A case is a paragraph: the statement, then lines `--> property: expected`. What each property means
is in `PROPERTIES`; a value after `~` must occur in the property, others must equal it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.routing.plan import Plan
from proxy.sql.analyse import analyse
from tests.unit.routing.shop import PLANNERS

FIXTURES = Path(__file__).parent / "fixtures"
FLAGS = (
    "ends_transaction",
    "rolls_back",
    "settings_unknown",
    "resets_all",
    "sets_transaction",
    "deallocates_all",
    "changes_schema",
    "needs_session",
)


def _listed(names: object) -> str:
    assert isinstance(names, frozenset | tuple)
    return " ".join(sorted(names)) or "nothing"


def _begin(plan: Plan) -> str:
    if plan.begin is None:
        return "no"
    return f"{plan.begin.read_only} {plan.begin.isolation}"


def _shard(plan: Plan) -> str:
    if plan.shard is None:
        return "no"
    return "by parameters" if plan.shard.shard is None else str(plan.shard.shard)


PROPERTIES: dict[str, Callable[[Plan], str]] = {
    "kind": lambda plan: plan.kind,
    "access": lambda plan: plan.access.value,
    "because": lambda plan: plan.reason,
    "reads": lambda plan: _listed(plan.reads),
    "writes": lambda plan: _listed(plan.writes),
    "cache": lambda plan: plan.cache.rule if plan.cache else f"no: {plan.uncached_reason}",
    "ttl": lambda plan: f"{plan.cache.ttl_seconds:g}" if plan.cache else "no",
    "depends on": lambda plan: _listed(plan.cache.reads) if plan.cache else "no",
    "label": lambda plan: plan.cache.label if plan.cache else "no",
    "shard": _shard,
    "keys": lambda plan: (
        " ".join(f"{k.table}.{k.column}" for k in plan.shard.keys) if plan.shard else "no"
    ),
    "sqlstate": lambda plan: plan.refusal.sqlstate if plan.refusal else "no",
    "refused": lambda plan: plan.refusal.message if plan.refusal else "no",
    "advice": lambda plan: plan.refusal.hint if plan.refusal else "no",
    "node hint": lambda plan: plan.node_hint or "no",
    "flags": lambda plan: " ".join(flag for flag in FLAGS if getattr(plan, flag)) or "none",
    "tables": lambda plan: "yes" if plan.touches_tables else "no",
    "settings": lambda plan: _listed(plan.settings),
    "pins": lambda plan: plan.pins or "no",
    "ends": lambda plan: _listed(plan.ends),
    "begin": _begin,
    "executes": lambda plan: plan.executes or "no",
    "deallocates": lambda plan: plan.deallocates or "no",
}


def _cases() -> Iterator[object]:
    for file in sorted(FIXTURES.glob("*.sql")):
        line = 1
        for paragraph in file.read_text().split("\n\n"):
            lines = paragraph.strip("\n").split("\n")
            statement = "\n".join(each for each in lines if not each.startswith("--> "))
            expected = [each.removeprefix("--> ") for each in lines if each.startswith("--> ")]
            if expected:
                yield pytest.param(
                    file.stem, statement, expected, id=f"{file.name}:{line} {statement[:60]}"
                )
            line += paragraph.count("\n") + 2


CASES = list(_cases())


@pytest.mark.parametrize(("file", "statement", "expected"), CASES)
def test_plan(file: str, statement: str, expected: list[str]) -> None:
    planner = PLANNERS.get(file, PLANNERS["default"])
    plan = planner.plan(analyse(statement))
    wanted = dict(each.split(": ", 1) for each in expected)
    found = {name: PROPERTIES[name](plan) for name in wanted}
    for name, value in wanted.items():
        if value.startswith("~"):
            assert value[1:].strip() in found[name]
        else:
            assert found[name] == value


def test_every_file_has_cases() -> None:
    counts = {file.stem: 0 for file in FIXTURES.glob("*.sql")}
    for case in CASES:
        counts[case.values[0]] += 1  # type: ignore[attr-defined]
    assert set(PLANNERS) - {"default"} <= set(counts)
    assert min(counts.values()) >= 3
