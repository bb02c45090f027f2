"""Runs as JSON and Markdown, and their way into a page."""

import json
from pathlib import Path

import pytest

from benchmarks.relay.document import BEGIN, END, insert
from benchmarks.relay.measure import Run
from benchmarks.relay.report import Report, from_json, to_json, to_markdown

REPORT = Report(
    taken_at="2026-01-02 03:04 UTC",
    machine={
        "cpus": "2",
        "processor": "a processor",
        "load": "0.5",
        "memory": "8 GiB",
        "kernel": "Linux 6",
        "python": "3.11.2",
    },
    seconds=5,
    rounds=1,
    versions={"servers": "PostgreSQL 18", "pgbouncer": "1.18.0"},
    notes={"pgbouncer": "a note", "pgpool": "not installed"},
    runs=(
        Run("select-simple", "direct", 1, 40_000.0, 0.25, None),
        Run("select-simple", "pgbouncer", 1, 30_000.0, 0.4, 1.5, 2.0, 8.0, 8 << 20),
        Run("tpcb-simple", "pgbouncer", 1, 900.0, 6.0, 9.0, 2.0, 8.0, 8 << 20),
    ),
)


def test_json_gives_back_the_report(tmp_path: Path) -> None:
    file = tmp_path / "relay.json"
    file.write_text(to_json(REPORT))
    assert from_json(file) == REPORT


def test_json_holds_the_summary_too() -> None:
    content = json.loads(to_json(REPORT))
    assert content["summary"][1]["cpu"] == {"median": 10.0, "low": 10.0, "high": 10.0}


def test_json_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "relay.json"
    file.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 1"):
        from_json(file)


def test_a_table_for_each_case_that_was_run() -> None:
    text = to_markdown(REPORT)
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### Select by key, simple",
        "### TPC-B, simple",
    ]
    assert "| pgbouncer | 30,000 | 0.40 | 1.50 | 10.0 (10.0–10.0) | 2.0 + 8.0 |" in text
    assert "| direct | 40,000 | 0.25 |  |  |" in text


def test_all_lines_of_a_table_have_the_same_cells() -> None:
    for block in to_markdown(REPORT).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_who_was_missing_is_told() -> None:
    assert "- **pgpool**: not installed." in to_markdown(REPORT)


def test_tables_replace_what_was_between_the_marks() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    once = insert(page, "new\n")
    assert once == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert insert(once, "new\n") == once


@pytest.mark.parametrize("page", ["no marks", f"{BEGIN} only", f"{END} {BEGIN}", BEGIN * 2 + END])
def test_a_page_without_its_marks_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="marks"):
        insert(page, "new")


def test_the_documented_page_has_its_marks() -> None:
    page = Path(__file__).parents[3] / "docs" / "performance.md"
    assert "tables" in insert(page.read_text(), "tables")
