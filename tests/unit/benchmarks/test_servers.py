"""The sides, and what starts and watches their programs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import scenarios
from benchmarks.measuring.cost import Cost, cost_of, family_of, memory_of
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers.penstock import compiled_tree, fingerprint
from benchmarks.servers.pgbouncer import keeps_prepared
from benchmarks.servers.programs import BenchmarkError, accepts, running
from benchmarks.sides import Side, all_sides, taking_part
from proxy.local.ports import free_port

TREE = Path(__file__).parents[3]
BURN = "import time\nwhile time.process_time() < 0.3: pass\n"
SELECT, MANY = SCENARIOS[0], next(one for one in SCENARIOS if one.clients == 1000)


def test_cost_is_what_was_spent_since() -> None:
    assert Cost(5.0, 7.0).since(Cost(2.0, 3.0)) == Cost(3.0, 4.0)


def test_the_cost_of_a_process_counts_its_children() -> None:
    burn_in_child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    before = cost_of(os.getpid())
    subprocess.run([sys.executable, "-c", burn_in_child], check=True)
    spent = cost_of(os.getpid()).since(before)
    assert spent.user + spent.system >= 250_000


def test_a_family_has_its_children_and_their_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {os.getpid(), child.pid} <= set(family_of(os.getpid()))
        assert memory_of(os.getpid()) > memory_of(child.pid) > 0
        child.kill()


def test_every_scenario_names_sides_that_exist() -> None:
    roles = {side.role for side in all_sides(TREE)}
    for scenario in SCENARIOS:
        assert set(scenario.sides) <= roles


def test_another_tree_takes_part_beside_it() -> None:
    everybody = all_sides(TREE, {"other": TREE})
    others = [side for side in everybody if side.name.endswith("@other")]
    assert "penstock@other" in [side.name for side in others]
    assert others[0] in taking_part(everybody, SELECT)


def test_who_is_not_installed_takes_no_part() -> None:
    absent = Side(scenarios.PGPOOL, scenarios.PGPOOL, missing="is not installed")
    assert taking_part([absent], SELECT) == []
    assert absent.left_out(SELECT) == "is not installed"


def test_who_lacks_a_protocol_takes_no_part_where_it_is_spoken() -> None:
    (direct,) = [one for one in all_sides(TREE) if one.name == scenarios.DIRECT]
    side = replace(direct, without={"prepared": "has none"})
    assert side.left_out(SELECT) is None
    assert side.left_out(replace(SELECT, mode="prepared")) == "has none"


def test_one_instance_serves_scenarios_with_the_same_pool() -> None:
    side = Side(scenarios.PENSTOCK, scenarios.PENSTOCK)
    assert side.instance(SELECT) == side.instance(MANY)
    assert side.instance(SELECT) != side.instance(replace(SELECT, pool=4))


def test_more_clients_need_another_instance_where_each_has_a_process() -> None:
    side = Side(scenarios.PGPOOL, scenarios.PGPOOL, processes=True)
    assert side.instance(SELECT) == side.instance(replace(SELECT, clients=64, pool=4))
    assert side.instance(SELECT) != side.instance(MANY)


@pytest.mark.parametrize(
    ("version", "known"), [("1.18.0", False), ("1.20.1", False), ("1.21", True), ("1.24.0", True)]
)
def test_prepared_statements_by_version_of_pgbouncer(version: str, known: bool) -> None:
    assert keeps_prepared(version) == known


def make_tree(root: Path, *, compiled: bool) -> Path:
    """A source tree with a copy of it that is, or could not be, compiled."""
    for place in (root, root / "build" / "compiled"):
        (place / "proxy" / "session").mkdir(parents=True)
        (place / "proxy" / "session" / "relay.py").write_text("one = 1\n")
    if compiled:
        (root / "build" / "compiled" / "proxy" / "session" / "relay.cpython-311.so").touch()
    return root


def test_the_compiled_copy(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, compiled=True)
    assert compiled_tree(tree) == tree / "build" / "compiled"
    assert fingerprint(tree) == fingerprint(tree / "build" / "compiled")


def test_a_stale_copy_is_refused(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, compiled=True)
    (tree / "proxy" / "session" / "relay.py").write_text("one = 2\n")
    with pytest.raises(BenchmarkError, match="make compiled"):
        compiled_tree(tree)


def test_a_copy_that_could_not_be_compiled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"compile\.log"):
        compiled_tree(make_tree(tmp_path, compiled=False))


def test_there_is_no_copy(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="make compiled"):
        compiled_tree(tmp_path)


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
