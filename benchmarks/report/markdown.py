"""Results as Markdown: the targets, a table for each scenario, and notes."""

from collections.abc import Sequence

from benchmarks.measuring.measurement import Round
from benchmarks.report.results import Results
from benchmarks.report.summary import Figure, Row, summarise
from benchmarks.report.targets import Verdict, judge
from benchmarks.scenarios import SCENARIOS, Scenario

BUSY = 2.0
"""So many tasks of others are too many."""


def to_markdown(results: Results, plots: Sequence[tuple[str, str]] = ()) -> str:
    """The whole report.

    Args:
        plots: title and path of each.
    """
    lines = [*_taken(results), "", *_targets(judge(results.taken)), ""]
    for title, path in plots:
        lines += [f"![{title}]({path})", ""]
    rows = summarise(results.taken)
    for scenario in SCENARIOS:
        own = [row for row in rows if row.scenario == scenario.name]
        if own:
            taken = [one for one in results.taken if one.scenario == scenario.name]
            lines += [*_scenario(scenario, own, taken, results), ""]
    return "\n".join([*lines, *_notes(results)]) + "\n"


def _taken(results: Results) -> list[str]:
    """When, where, how."""
    machine = results.machine
    text = (
        f"Taken {results.taken_at} on {machine['cpus']} CPUs ({machine['processor']}), which the "
        "clients, the servers and the proxies share; "
        f"{machine['memory']} of memory, {machine['kernel']}, "
        f"Python {machine['python']}, {results.versions['servers']}"
        f"{_version(results, 'pgbouncer', 'PgBouncer')}{_version(results, 'pgpool', 'pgpool-II')}, "
        f"Penstock {_commit(results)}. Figures are medians of interleaved rounds "
        f"({results.rounds}, each measurement of {results.seconds} s), in brackets the least and "
        "the greatest."
    )
    lines = [text + (" It was interrupted and taken up again." if results.taken_up else "")]
    busiest = max((one.bustle.others for one in results.taken), default=0.0)
    if busiest > BUSY:
        busy = len([one for one in results.taken if one.bustle.others > BUSY])
        lines += [
            "",
            f"**Warning: the machine had other work.** Before {busy} of {len(results.taken)} "
            f"rounds more than {BUSY:g} tasks of others wanted to run (at most {busiest:.1f}): "
            "figures of such rounds say little, ratios a little more.",
        ]
    return lines


def _version(results: Results, side: str, name: str) -> str:
    return f", {name} {results.versions[side]}" if side in results.versions else ""


def _commit(results: Results) -> str:
    found = [v for side, v in results.versions.items() if side.startswith(("pen", "int"))]
    return found[0].partition(",")[0] if found else "(none)"


def _targets(verdicts: Sequence[Verdict]) -> list[str]:
    lines = [_line(["target", "bound", "found", "reached"]), _line(["---", "---:", "---:", "---"])]
    for verdict in verdicts:
        target, found = verdict.target, verdict.found
        bound = f"{'≤' if target.most else '≥'} {target.bound:g}"
        if found is None:
            lines.append(_line([target.what, bound, "", "not measured"]))
        else:
            answer = "yes" if target.reached(found) else "no"
            lines.append(_line([target.what, bound, _spread(found, 2), answer]))
    return lines


def _scenario(
    scenario: Scenario, rows: Sequence[Row], taken: Sequence[Round], results: Results
) -> list[str]:
    about = [f"{scenario.clients:,} client{'s' if scenario.clients > 1 else ''}"]
    if scenario.scripts and scenario.mode != "simple":
        about.append(f"protocol: {scenario.mode}")
    if scenario.pool != 16:
        about.append(f"pool: {scenario.pool}")
    if scenario.keys:
        about.append(f"{scenario.keys:,} different statements")
    if (rate := taken[0].rate) is not None:
        about.append(f"{rate:,.0f} queries/s asked for")
    lines = [
        f"### {scenario.title}",
        "",
        f"`{scenario.name}`: {', '.join(about)}; {_bustle(taken)}",
        *([f"{_sentence(scenario.remark)}."] if scenario.remark else []),
        "",
        *_table(scenario, rows),
    ]
    missing = [
        f"- {name.partition(': ')[2]}: {_first_line(why)}."
        for name, why in results.left_out.items()
        if name.startswith(f"{scenario.name}: ")
    ]
    return lines + (["", *missing] if missing else [])


def _bustle(taken: Sequence[Round]) -> str:
    loads = ", ".join(f"{one.bustle.load:.1f}" for one in taken)
    others = ", ".join(f"{one.bustle.others:.1f}" for one in taken)
    warning = " **(busy)**" if any(one.bustle.others > BUSY for one in taken) else ""
    rounds = "1 round" if len(taken) == 1 else f"{len(taken)} rounds"
    return f"{rounds}; load average before each: {loads}; others' tasks: {others}{warning}."


def _table(scenario: Scenario, rows: Sequence[Row]) -> list[str]:
    columns = [
        ("", [row.side for row in rows]),
        (f"{scenario.unit}/s", [_spread(row.per_second, _digits(row.per_second)) for row in rows]),
        ("p50 ms", [_plain(row.p50, 2) for row in rows]),
        ("p99 ms", [_spread(row.p99, 2) for row in rows]),
        ("p99.9 ms", [_plain(row.p999, 2) for row in rows]),
        ("p99 − direct's", [_spread(row.p99_added, 2) for row in rows]),
        ("CPU µs/query", [_spread(row.cpu, 1) for row in rows]),
        ("user + system", [_halves(row) for row in rows]),
        ("calls/query", [_calls(row) for row in rows]),
        ("memory", [_megabytes(row.memory) for row in rows]),
        ("CPU ÷ PgBouncer's", [_spread(row.cpu_to_pgbouncer, 2) for row in rows]),
        ("throughput ÷ PgBouncer's", [_spread(row.throughput_to_pgbouncer, 2) for row in rows]),
        ("throughput ÷ direct", [_spread(row.throughput_to_direct, 2) for row in rows]),
        ("hits", [_percent(row.hits) for row in rows]),
    ]
    if not scenario.half_load:
        columns = [column for column in columns if not column[0].startswith("p99 −")]
    shown = [(title, cells) for title, cells in columns if any(cells)]
    lines = [_line([title for title, _ in shown]), _line(["---", *["---:"] * (len(shown) - 1)])]
    return lines + [_line([cells[n] for _, cells in shown]) for n in range(len(rows))]


def _notes(results: Results) -> list[str]:
    lines = []
    for name, note in results.notes.items():
        version = results.versions.get(name)
        lines.append(f"- **{name}**{f' ({version})' if version else ''}: {note}.")
    lines += [
        f"- **{name}** is left out: {_first_line(why)}."
        for name, why in results.left_out.items()
        if ": " not in name
    ]
    if results.calls:
        lines.append(f"- System calls were not counted: {results.calls}.")
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(figure: Figure | None, digits: int) -> str:
    return "" if figure is None else f"{figure.median:.{digits}f}"


def _spread(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return ""
    low, high = f"{figure.low:,.{digits}f}", f"{figure.high:,.{digits}f}"
    return f"{figure.median:,.{digits}f} ({low}–{high})"


def _digits(figure: Figure) -> int:
    return 0 if figure.median >= 100 else 1


def _halves(row: Row) -> str:
    if row.user is None or row.system is None:
        return ""
    return f"{_plain(row.user, 1)} + {_plain(row.system, 1)}"


def _calls(row: Row) -> str:
    return "" if row.calls is None else f"{sum(row.calls.values()):.1f}"


def _megabytes(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.median / 2**20:.0f} MiB"


def _percent(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.median:.1%}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _first_line(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")
