"""PostgreSQL's own regression tests on the server itself, and through Penstock.

`python -m tests.suites.postgres [--mode MODE] [--only FILE …]`; `make regress` runs it whole. Fails
when a file that passes on the server itself has another output through Penstock, unless lost.toml
names it with a reason; and when lost.toml names one that passes.
"""

import argparse
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from proxy.local.account import server_account
from proxy.local.errors import LocalStackError
from tests.suites.postgres import surroundings
from tests.suites.postgres.cluster import Cluster, running_cluster
from tests.suites.postgres.penstock import running_penstock
from tests.suites.postgres.schedule import Outcome, excerpt, run_schedule
from tests.suites.postgres.source import Suite, SuiteError, get_suite
from tests.suites.postgres.tools import Ports, run_tools

MODES = ("session", "transaction", "routed")
"""The last is transaction pooling with reads on a standby, and all results in the cache."""
HERE = Path(__file__).parent
BUILD = HERE.parents[2] / "build" / "suites" / "postgres"


def main() -> int:
    """The exit code: 0 if nothing was lost without a reason."""
    arguments = _arguments()
    known = tomllib.loads((HERE / "lost.toml").read_text())
    try:
        suite = get_suite(BUILD)
        failed = _on_server(suite, arguments.only)
        modes = [arguments.mode] if arguments.mode else MODES
        wrong = [
            _judge(mode, _through_penstock(suite, mode, arguments.only), failed, known[mode])
            for mode in modes
        ]
    except (SuiteError, LocalStackError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(any(wrong))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.postgres")
    parser.add_argument("--mode", choices=MODES, help="only this way of pooling")
    parser.add_argument("--only", nargs="+", default=[], metavar="FILE", help="only these files")
    return parser.parse_args()


def _on_server(suite: Suite, only: list[str]) -> set[str]:
    """The names of the files that do not pass on the server itself."""
    with _cluster(suite, "direct") as cluster:
        outcomes = list(run_schedule(cluster, cluster.port, "direct", only))
    failed = {one.name for one in outcomes if not one.passed}
    print(f"direct: {len(outcomes)} files, not as expected: {', '.join(sorted(failed)) or 'none'}")
    return failed


def _through_penstock(suite: Suite, mode: str, only: list[str]) -> list[Outcome]:
    with _cluster(suite, mode) as cluster, _penstock(cluster, mode) as port:
        outcomes = list(run_schedule(cluster, port, mode, only))
        if not only:
            ports = Ports(cluster.port, port)
            outcomes += run_tools(cluster, ports, mode, jobs=mode == "session")
    return outcomes


@contextmanager
def _penstock(cluster: Cluster, mode: str) -> Iterator[int]:
    if mode != "routed":
        with running_penstock(cluster, mode) as port:
            yield port
        return
    with surroundings.standby(cluster) as standby, surroundings.redis(cluster) as redis:
        extra = surroundings.configuration(standby, redis)
        with running_penstock(cluster, "transaction", extra) as port:
            yield port


@contextmanager
def _cluster(suite: Suite, name: str) -> Iterator[Cluster]:
    """A new server; what a failed run needs to be understood is kept in build/."""
    home = Path(tempfile.mkdtemp(prefix=f"penstock-regress-{name}-"))
    try:
        with running_cluster(suite, server_account(), home) as cluster:
            yield cluster
            kept = BUILD / "results" / name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(cluster.outputs(name) / "results", kept, ignore=_dumps)
            for log in home.glob("*.log"):
                shutil.copy(log, kept)
    finally:
        shutil.rmtree(home, ignore_errors=True)


_dumps = shutil.ignore_patterns("*.dump")


def _judge(
    mode: str, outcomes: Sequence[Outcome], failed: set[str], known: Mapping[str, Mapping[str, str]]
) -> bool:
    """Print what a mode came to; whether that is wrong.

    `failed`: files whose output is not the expected one on the server itself either. `known`: of
    lost.toml, reasons by name: those of `lost` must differ, those of `unsteady` may.
    """
    lost, unsteady = known.get("lost", {}), known.get("unsteady", {})
    differing = {one.name: one for one in outcomes if not one.passed and one.name not in failed}
    unexplained = [one for name, one in differing.items() if name not in {*lost, *unsteady}]
    passed = [one.name for one in outcomes if one.passed and one.name in lost]
    print(f"{mode}: {len(outcomes)} run, {len(differing)} differ, {len(unexplained)} unexplained")
    for name in differing.keys() - {one.name for one in unexplained}:
        print(f"  {name}: {lost.get(name) or unsteady[name]}")
    for one in unexplained:
        print(f"  LOST {one.name}\n{excerpt(one.difference)}")
    for name in passed:
        print(f"  {name} passes now: take it out of {mode}.lost in lost.toml")
    return bool(unexplained or passed)


if __name__ == "__main__":
    sys.exit(main())
