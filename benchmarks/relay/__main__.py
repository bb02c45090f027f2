"""The command: `python -m benchmarks.relay`."""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.relay.cases import CASES
from benchmarks.relay.contenders import Contender, contenders
from benchmarks.relay.document import document
from benchmarks.relay.machine import describe_machine
from benchmarks.relay.measure import Options, Run, measure
from benchmarks.relay.penstock import chosen_tree
from benchmarks.relay.programs import BenchmarkError
from benchmarks.relay.report import Report, from_json, make_report, to_json, to_markdown
from proxy.local.errors import LocalStackError
from proxy.local.programs import find_postgres, find_redis

HERE = Path(__file__).resolve().parents[2]
PAGE = HERE / "docs" / "performance.md"
PAGE_DATA = HERE / "docs" / "performance" / "relay.json"


def main() -> int:
    """Run, or show a report of an earlier run; the exit status."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # cleans up
    try:
        report = from_json(arguments.show) if arguments.show else _measured(arguments)
        _write(report, arguments.out, arguments.document)
    except (BenchmarkError, LocalStackError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    print(to_markdown(report))
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.relay",
        description="pgbench through Penstock, PgBouncer, pgpool-II and without proxy",
    )
    parser.add_argument("--seconds", type=int, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of all measurements")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a case or a contender, or how its name begins; may be repeated",
    )
    parser.add_argument(
        "--tree", type=Path, help="whose Penstock to measure; default: what is compiled, or this"
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=TREE",
        help="measure the Penstock of another tree beside it; may be repeated",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench"), help="folder for relay.md and relay.json"
    )
    parser.add_argument("--document", action="store_true", help=f"also update {PAGE.name}")
    parser.add_argument("--data", type=Path, help="folder for the servers' data while it runs")
    parser.add_argument("--show", type=Path, metavar="JSON", help="an earlier run: measure nothing")
    return parser.parse_args()


def _measured(arguments: argparse.Namespace) -> Report:
    others = dict(_named_tree(one) for one in arguments.also)
    everybody = contenders(arguments.tree or chosen_tree(HERE), others)
    cases = _chosen(arguments.only, [case.name for case in CASES])
    names = _chosen(arguments.only, [one.name for one in everybody])
    unknown = [
        one for one in arguments.only if not any(n.startswith(one) for n in (*cases, *names))
    ]
    if unknown:
        raise ValueError(f"--only {unknown[0]}: choose from {', '.join((*cases, *names))}")
    taking_part: list[Contender] = [one for one in everybody if one.name in names]
    machine = describe_machine()
    options = Options(arguments.seconds, arguments.rounds, arguments.data)
    chosen = [case for case in CASES if case.name in cases]
    runs: list[Run] = list(measure(chosen, taking_part, options, _progress))
    servers = f"{find_postgres(system=False).label}, {find_redis(system=False).label}"
    return make_report(runs, taking_part, options, machine, servers)


def _named_tree(argument: str) -> tuple[str, Path]:
    name, _, tree = argument.partition("=")
    if not name or not (Path(tree) / "proxy").is_dir():
        raise ValueError(f"--also {argument}: write NAME=TREE, with proxy/ in TREE")
    return name, Path(tree)


def _chosen(only: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that begin like one that was asked for; all where none of them was."""
    found = [name for name in names if any(name.startswith(one) for one in only)]
    return found or list(names)


def _write(report: Report, out: Path, into_page: bool) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "relay.json").write_text(to_json(report), encoding="utf-8")
    (out / "relay.md").write_text(to_markdown(report), encoding="utf-8")
    if into_page:
        PAGE_DATA.parent.mkdir(exist_ok=True)
        PAGE_DATA.write_text(to_json(report), encoding="utf-8")
        document(PAGE, to_markdown(report))


def _progress(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
