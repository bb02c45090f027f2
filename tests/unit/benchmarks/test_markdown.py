"""Results as JSON and Markdown, and their way into a page."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measuring.machine import Bustle
from benchmarks.measuring.measurement import Calls
from benchmarks.report.document import BEGIN, END, document, insert, write
from benchmarks.report.markdown import to_markdown
from benchmarks.report.results import Results, from_json, to_json
from tests.unit.benchmarks.samples import a_round, measured

SIMPLE = a_round(
    measured("direct", 1, 40_000.0),
    measured("pgbouncer", 1, 30_000.0, 10.0, p99=1.5),
    calls=(Calls("select-simple", "pgbouncer", {"sendto": 2.0, "recvfrom": 2.5}),),
)
TPCB = a_round(measured("pgbouncer", 1, 900.0, 10.0, scenario="tpcb"))
RESULTS = Results(
    taken_at="2026-01-02 03:04 UTC",
    machine={
        "cpus": "2",
        "processor": "a processor",
        "memory": "8 GiB",
        "kernel": "Linux 6",
        "python": "3.11.2",
    },
    seconds=5,
    rounds=1,
    taken_up=False,
    versions={"servers": "PostgreSQL 18", "pgbouncer": "1.18.0"},
    notes={"pgbouncer": "a note"},
    left_out={"pgpool": "is not installed", "tpcb: direct": "no\nluck"},
    calls="",
    taken=(SIMPLE, TPCB),
)


def test_json_gives_back_the_results(tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    file.write_text(to_json(RESULTS))
    assert from_json(file) == RESULTS


def test_json_holds_the_summary_too() -> None:
    content = json.loads(to_json(RESULTS))
    assert content["summary"][1]["cpu"] == {"median": 10.0, "low": 10.0, "high": 10.0}


def test_json_of_another_format_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "benchmark.json"
    file.write_text('{"format": 0}')
    with pytest.raises(ValueError, match="format 2"):
        from_json(file)


def test_a_table_for_each_scenario_that_was_run() -> None:
    text = to_markdown(RESULTS)
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### Select by key, simple protocol",
        "### TPC-B, simple protocol",
    ]
    assert "| pgbouncer | 30,000 (30,000–30,000) | 0.40 | 1.50 (1.50–1.50) | 10.0" in text
    assert "| 2.0 + 8.0 | 4.5 | 8 MiB |" in text


def test_columns_that_nobody_fills_are_not_shown() -> None:
    assert "p99.9 ms" not in to_markdown(RESULTS)
    assert "hits" not in to_markdown(RESULTS)


def test_all_lines_of_a_table_have_the_same_cells() -> None:
    for block in to_markdown(RESULTS).split("\n\n"):
        if block.startswith("|"):
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_who_was_missing_is_told() -> None:
    text = to_markdown(RESULTS)
    assert "- **pgpool** is left out: is not installed." in text
    assert "- direct: no luck." in text


def test_a_calm_machine_is_no_reason_to_warn() -> None:
    text = to_markdown(RESULTS)
    assert "16 clients; 1 round; load average before each: 0.5; others' tasks: 0.1." in text
    assert "Warning" not in text


def test_a_busy_machine_is_told() -> None:
    busy = replace(TPCB, bustle=Bustle(3.0, 2.5))
    text = to_markdown(replace(RESULTS, taken=(SIMPLE, busy)))
    assert "Before 1 of 2 rounds more than 2 tasks of others wanted to run (at most 2.5)" in text
    assert "others' tasks: 2.5 **(busy)**." in text


def test_why_calls_were_not_counted_is_told() -> None:
    text = to_markdown(replace(RESULTS, calls="strace is not installed"))
    assert "System calls were not counted: strace is not installed." in text


def test_a_report_has_its_data_and_plots_beside_it(tmp_path: Path) -> None:
    page = write(RESULTS, tmp_path / "out")
    names = {path.name for path in page.parent.iterdir()}
    assert {"benchmark.json", "cpu.svg"} <= names
    assert "![CPU per query](cpu.svg)" in page.read_text()


def test_a_page_refers_to_the_plots_in_its_folder(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    document(RESULTS, page)
    assert "![CPU per query](performance/cpu.svg)" in page.read_text()
    assert (tmp_path / "performance" / "cpu.svg").exists()
    assert from_json(tmp_path / "performance" / "benchmark.json") == RESULTS


def test_a_report_replaces_what_was_between_the_marks() -> None:
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
