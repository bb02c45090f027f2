"""The command: `python -m benchmarks`."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.measuring import syscalls
from benchmarks.measuring.machine import describe_machine
from benchmarks.measuring.measurement import Round
from benchmarks.measuring.run import Options, Part, plan, run, too_many_clients
from benchmarks.measuring.state import State
from benchmarks.report.document import document, write
from benchmarks.report.results import Results, from_json
from benchmarks.scenarios import Scenario, choose
from benchmarks.servers.programs import BenchmarkError, raise_limits
from benchmarks.sides import Side, all_sides
from benchmarks.terminal import Terminal
from proxy.local.errors import LocalStackError
from proxy.local.programs import find_postgres, find_redis

HERE = Path(__file__).resolve().parents[1]
PAGE = HERE / "docs" / "performance.md"
SECONDS, ROUNDS, MINUTES = 1, 3, 13.0


def main() -> int:
    """Run, or show a report of an earlier run; the exit status."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # cleans up
    raise_limits()
    begun = time.monotonic()
    try:
        state = State(arguments.out / "state.jsonl")
        results = from_json(arguments.show) if arguments.show else _measured(arguments, state)
        print(f"the report: {write(results, arguments.out)}")
        if arguments.document or not (arguments.draft or arguments.only or arguments.show):
            document(results, PAGE)
            print(f"and in {PAGE}")
        if not arguments.show:
            state.finish()
    except (BenchmarkError, LocalStackError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT
    print(f"it took {(time.monotonic() - begun) / 60:.1f} minutes")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Penstock beside PgBouncer, pgpool-II and no proxy, on servers of its own. "
        "Interrupted, it goes on where it was when it is run again.",
    )
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each scenario")
    parser.add_argument(
        "--minutes",
        type=float,
        help="that it may take at most, about: scenarios then have fewer rounds "
        f"(default: {MINUTES:g}, or no limit with other --seconds or --rounds)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="a scenario or a side, or how its name begins; may be repeated",
    )
    parser.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="NAME=TREE",
        help="measure the Penstock of another tree beside it; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="name the scenarios with their sides")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--draft", action="store_true", help=f"leave {PAGE.name} as it is")
    parser.add_argument(
        "--document", action="store_true", help=f"write {PAGE.name} also after a part of it all"
    )
    parser.add_argument(
        "--out", type=Path, default=HERE / "build" / "bench", help="folder for the report"
    )
    parser.add_argument("--data", type=Path, help="folder for the servers' data while it runs")
    parser.add_argument("--show", type=Path, metavar="JSON", help="an earlier run: measure nothing")
    return parser.parse_args()


def _measured(arguments: argparse.Namespace, state: State) -> Results:
    everybody = all_sides(HERE, dict(_named_tree(one) for one in arguments.also))
    chosen = choose(arguments.only, [side.name for side in everybody])
    sides = [one for one in everybody if chosen.sides is None or one.name in chosen.sides]
    parts = plan(chosen.scenarios, sides, arguments.seconds)
    if arguments.list:
        for part in parts:
            print(f"{part.scenario.name}: {', '.join(side.name for side in part.sides)}")
        sys.exit(0)
    if arguments.fresh:
        state.finish()
    there = sum(min(len(state.rounds(part.key)), arguments.rounds) for part in parts)
    if there:
        print(
            f"an interrupted run is taken up: {there} rounds are there already "
            "(--fresh forgets them)",
            file=sys.stderr,
        )
    taken = _take(parts, state, _options(arguments))
    measured = {side.name for part in parts for side in part.sides}
    servers = f"{find_postgres(system=False).label}, {find_redis(system=False).label}"
    return Results(
        taken_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=describe_machine(),
        seconds=arguments.seconds,
        rounds=arguments.rounds,
        taken_up=bool(there),
        versions={"servers": servers, **{one.name: one.version for one in sides if one.version}},
        notes={one.name: one.note for one in sides if one.name in measured and one.note},
        left_out=_left_out(chosen.scenarios, sides, taken),
        calls=syscalls.why_not() or "",
        taken=tuple(taken),
    )


def _options(arguments: argparse.Namespace) -> Options:
    seconds, rounds, minutes = arguments.seconds, arguments.rounds, arguments.minutes
    if min(seconds, rounds) < 1:
        raise ValueError("--seconds and --rounds must be at least 1")
    if minutes is None and (seconds, rounds) == (SECONDS, ROUNDS):
        minutes = MINUTES
    return Options(seconds, rounds, minutes, arguments.data)


def _take(parts: Sequence[Part], state: State, options: Options) -> list[Round]:
    with Terminal(sum(part.steps(options.rounds) for part in parts)) as terminal:
        return list(run(parts, state, options, terminal))


def _left_out(
    scenarios: Sequence[Scenario], sides: Sequence[Side], taken: Sequence[Round]
) -> dict[str, str]:
    """Why there are no figures: of a side, of a scenario, of a side in a scenario."""
    roles = {role for scenario in scenarios for role in scenario.sides}
    found = {side.name: side.missing for side in sides if not side.start and side.role in roles}
    for scenario in scenarios:
        if why := too_many_clients(scenario):
            found[scenario.name] = why
        for side in sides:
            if side.role in scenario.sides and side.start and (why := side.left_out(scenario)):
                found[f"{scenario.name}: {side.name}"] = why
    for one in taken:
        found |= {f"{one.scenario}: {name}": why for name, why in one.failed.items()}
    return found


def _named_tree(argument: str) -> tuple[str, Path]:
    name, _, tree = argument.partition("=")
    if not name or not (Path(tree) / "proxy").is_dir():
        raise ValueError(f"--also {argument}: write NAME=TREE, with proxy/ in TREE")
    return name, Path(tree)


if __name__ == "__main__":
    sys.exit(main())
