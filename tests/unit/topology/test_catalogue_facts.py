from collections.abc import Sequence
from typing import Any

import pytest

from proxy.sql.catalogue import View, Volatility
from proxy.topology.catalogue_facts import Rows, analyse_view, assemble

ISOLATION = {"seen": "read committed", "source": "default", "configured": []}
PLAIN = View(frozenset({"a"}), frozenset())
HARD = View(frozenset(), frozenset({"now"}), cacheable=False)


def relation(oid: int, name: str, kind: str = "r", **facts: Any) -> dict[str, Any]:
    defaults = {"row_security": False, "system": False, "definition": None}
    return {"oid": oid, "name": name, "kind": kind} | defaults | facts


def rows(relations: Sequence[dict[str, Any]] = (), **others: Any) -> Rows:
    empty: dict[str, Any] = {
        "functions": [],
        "view_reads": [],
        "inherits": [],
        "cascades": [],
        "triggers": [],
        "isolation": ISOLATION,
    }
    return Rows(relations=relations, **(empty | others))


def test_an_empty_database_is_loaded_all_the_same() -> None:
    catalogue = assemble(rows(), {})
    assert catalogue.loaded
    assert catalogue.relations == frozenset()


def test_a_function_that_was_dropped_meanwhile_has_no_text() -> None:
    kept = {"name": "f", "body": "BEGIN PERFORM g(); END"}
    sets = {"name": "g", "body": "BEGIN PERFORM set_config('a.b', '1', false); END"}
    gone = {"name": "h", "body": None}
    found = assemble(rows(setters=[sets], definitions=[gone, kept]), {}).setters
    assert found.keys() == {"f", "g"}


def test_descendants_and_ancestors_are_transitive() -> None:
    tables = [relation(oid, name) for oid, name in enumerate("abcd", 1)]
    catalogue = assemble(rows(tables, inherits=[(2, 1), (3, 2), (4, 1)]), {})
    assert catalogue.children == {"a": frozenset("bcd"), "b": frozenset("c")}
    assert catalogue.parents == {
        "b": frozenset("a"),
        "c": frozenset("ab"),
        "d": frozenset("a"),
    }


def test_cascades_are_transitive_and_may_be_circular() -> None:
    tables = [relation(oid, name) for oid, name in enumerate("abc", 1)]
    catalogue = assemble(rows(tables, cascades=[(1, 2), (2, 3), (3, 1)]), {})
    assert catalogue.cascades == dict.fromkeys("abc", frozenset("abc"))


def test_one_name_in_two_schemas_has_what_either_has() -> None:
    tables = [
        relation(1, "t"),
        relation(2, "t", row_security=True),
        relation(3, "x"),
        relation(4, "y"),
    ]
    catalogue = assemble(rows(tables, inherits=[(3, 1), (4, 2)], triggers=[2, 99]), {})
    assert catalogue.children == {"t": frozenset("xy")}
    assert catalogue.row_security == catalogue.triggers == frozenset("t")


@pytest.mark.parametrize("texts", [("plain", "hard"), ("hard", "plain")])
def test_a_view_reads_what_its_text_and_what_the_server_say(texts: tuple[str, str]) -> None:
    views = [relation(oid, "v", "v", definition=text) for oid, text in enumerate(texts, 1)]
    reads = [
        {"view": 1, "is_function": False, "name": "b"},
        {"view": 2, "is_function": True, "name": "f"},
        {"view": 77, "is_function": False, "name": "not_a_views"},
    ]
    found = assemble(rows(views, view_reads=reads), {"plain": PLAIN, "hard": HARD}).views
    assert found == {"v": View(frozenset("ab"), frozenset({"now", "f"}), cacheable=False)}


def test_functions() -> None:
    functions = [
        {"name": "now", "volatility": 1, "builtin": True, "returns_set": False},
        {"name": "mine", "volatility": 2, "builtin": False, "returns_set": True},
    ]
    catalogue = assemble(rows(functions=functions), {})
    assert catalogue.functions == {"now": Volatility.STABLE, "mine": Volatility.VOLATILE}
    assert catalogue.builtin_functions == frozenset({"now"})
    assert catalogue.set_functions == frozenset({"mine"})


@pytest.mark.parametrize(
    ("seen", "source", "configured", "expected"),
    [
        ("read committed", "default", [], "read committed"),
        ("serializable", "configuration file", [], "serializable"),
        ("serializable", "database", ["serializable"], "serializable"),
        ("read committed", "default", ["serializable"], "mixed"),
        ("serializable", "user", ["serializable"], "mixed"),
        ("serializable", "client", [], "mixed"),
    ],
)
def test_isolation_is_mixed_where_the_role_decides(
    seen: str, source: str, configured: list[str], expected: str
) -> None:
    isolation = {"seen": seen, "source": source, "configured": configured}
    assert assemble(rows(isolation=isolation), {}).default_isolation == expected


def test_a_views_text() -> None:
    view = analyse_view(" SELECT t.id, upper(t.a) AS a FROM s.t JOIN u USING (id);")
    assert view.reads == frozenset("tu")
    assert "upper" in view.functions
    assert view.cacheable


@pytest.mark.parametrize(
    "text",
    [
        "SELECT CURRENT_USER AS me FROM t",
        "SELECT t.id FROM t TABLESAMPLE bernoulli (10)",
        "SELECT pg_class.relname FROM pg_class",
        "SELECT FROM WHERE",
        "SELECT 1; SELECT 2",
        "DELETE FROM t",
    ],
)
def test_views_that_cannot_be_cached(text: str) -> None:
    assert not analyse_view(text).cacheable
