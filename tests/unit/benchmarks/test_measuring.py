"""The parts of the relay benchmark that need no server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.relay import cases
from benchmarks.relay.bouncers import keeps_prepared
from benchmarks.relay.cases import CASES
from benchmarks.relay.contenders import Contender, contenders
from benchmarks.relay.cost import Cost, cost_of
from benchmarks.relay.penstock import chosen_tree
from benchmarks.relay.pgbench import percentile
from benchmarks.relay.programs import BenchmarkError, accepts, running
from proxy.local.ports import free_port

TREE = Path(__file__).parents[3]
BURN = "import time\nwhile time.process_time() < 0.3: pass\n"


def test_percentiles_in_milliseconds() -> None:
    assert percentile(list(range(1000, 2000)), 0.5) == 1.5
    assert percentile(list(range(1000, 2000)), 0.99) == 1.99


def test_no_percentile_of_too_few() -> None:
    assert percentile(list(range(999)), 0.99) is None
    assert percentile([], 0.5) is None


def test_cost_is_what_was_spent_since() -> None:
    assert Cost(5.0, 7.0, 30).since(Cost(2.0, 3.0, 20)) == Cost(3.0, 4.0, 30)


def test_the_cost_of_a_process_counts_its_children() -> None:
    burn_in_child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    before = cost_of(os.getpid())
    subprocess.run([sys.executable, "-c", burn_in_child], check=True)
    spent = cost_of(os.getpid()).since(before)
    assert spent.user + spent.system >= 250_000
    assert spent.resident > 1 << 20


def test_every_case_names_contenders_that_exist() -> None:
    roles = {contender.role for contender in contenders(TREE, {})}
    for case in CASES:
        assert set(case.contenders) <= roles


def test_another_tree_takes_the_same_parts() -> None:
    everybody = contenders(TREE, {"other": TREE})
    own = [one for one in everybody if one.name.startswith("penstock")]
    assert [one.name for one in own[3:]] == [f"{one.name}@other" for one in own[:3]]
    assert [one.role for one in own[3:]] == [one.role for one in own[:3]]


def test_who_is_not_installed_takes_no_part() -> None:
    absent = Contender(cases.PGPOOL, cases.PGPOOL, "", None)
    assert not any(absent.takes_part(case) for case in CASES)


@pytest.mark.parametrize(
    ("version", "known"), [("1.18.0", False), ("1.20.1", False), ("1.21", True), ("1.24.0", True)]
)
def test_prepared_statements_by_version_of_pgbouncer(version: str, known: bool) -> None:
    assert keeps_prepared(version) == known


def test_sources_are_run_where_nothing_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "proxy").mkdir()
    assert chosen_tree(tmp_path) == tmp_path


def test_a_compiled_copy_goes_first_unless_it_is_stale(tmp_path: Path) -> None:
    copy = tmp_path / "build" / "compiled"
    for place in (tmp_path, copy):
        (place / "proxy").mkdir(parents=True)
        (place / "proxy" / "module.py").write_text("one = 1\n")
    assert chosen_tree(tmp_path) == copy
    (tmp_path / "proxy" / "module.py").write_text("one = 2\n")
    with pytest.raises(BenchmarkError, match="make compiled"):
        chosen_tree(tmp_path)


def test_programs_run_for_the_length_of_a_block(tmp_path: Path) -> None:
    port = free_port(set())
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    with running(command, tmp_path / "log", lambda: accepts(port)) as pid:
        assert Path(f"/proc/{pid}").exists()
    assert not accepts(port)


def test_a_program_that_does_not_start_tells_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    with (
        pytest.raises(BenchmarkError, match="no such luck"),
        running(command, tmp_path / "log", lambda: False),
    ):
        pass
