"""A run as JSON, and as Markdown tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.relay.cases import CASES, Case
from benchmarks.relay.contenders import Contender
from benchmarks.relay.measure import Options, Run
from benchmarks.relay.summary import Figure, Row, summarise

FORMAT = 1
"""Of the JSON; grows when a reader of the last one would be misled."""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one run of the benchmark."""

    taken_at: str
    machine: Mapping[str, str]
    seconds: int
    rounds: int
    versions: Mapping[str, str]
    """By contender, and of the servers behind them."""
    notes: Mapping[str, str]
    """By contender, also of those that are missing."""
    runs: Sequence[Run]


def make_report(
    runs: Sequence[Run],
    everybody: Sequence[Contender],
    options: Options,
    machine: Mapping[str, str],
    servers: str,
) -> Report:
    """Of a run that has just ended."""
    took_part = {run.contender for run in runs}
    shown = [one for one in everybody if one.name in took_part or one.start is None]
    return Report(
        taken_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine,
        seconds=options.seconds,
        rounds=options.rounds,
        versions={"servers": servers, **{one.name: one.version for one in shown if one.version}},
        notes={one.name: one.note for one in shown if one.note},
        runs=tuple(runs),
    )


def to_json(report: Report) -> str:
    """Every run, and what was made of them."""
    summary = [asdict(row) for row in summarise(report.runs)]
    content = {"format": FORMAT, **asdict(report), "summary": summary}
    return json.dumps(content, indent=1) + "\n"


def from_json(file: Path) -> Report:
    """A report that was written by `to_json`. Raises ValueError if it is of another format."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{file} is not a report of format {FORMAT}: run the benchmark again")
    del content["summary"]
    content["runs"] = tuple(Run(**run) for run in content["runs"])
    return Report(**content)


def to_markdown(report: Report) -> str:
    """Where and when, a table for each case, and notes."""
    machine = report.machine
    lines = [
        f"Taken {report.taken_at} on {machine['cpus']} CPUs ({machine['processor']}), which the "
        "clients, the servers and the proxies share, at a load average of "
        f"{machine['load']} before it began; {machine['memory']} of memory, {machine['kernel']}, "
        f"Python {machine['python']}, {report.versions['servers']}. Medians of {report.rounds} "
        f"interleaved rounds of {report.seconds} s, in brackets the least and the greatest.",
        "",
    ]
    rows = summarise(report.runs)
    for case in CASES:
        own = [row for row in rows if row.case == case.name]
        if own:
            lines += [*_table(case, own), ""]
    for name, note in report.notes.items():
        version = report.versions.get(name)
        lines.append(f"- **{name}**{f' ({version})' if version else ''}: {note}.")
    return "\n".join(lines) + "\n"


def _table(case: Case, rows: Sequence[Row]) -> list[str]:
    per = "transaction" if case.statements > 1 else "query"
    cached = any(row.from_cache and row.from_cache.median for row in rows)
    titles = [
        "",
        f"{per if case.statements > 1 else 'querie'}s/s",
        "p50 ms",
        "p99 ms",
        "CPU µs/query",
        "user + system",
        "CPU ÷ PgBouncer's",
        "throughput ÷ PgBouncer's",
        "throughput ÷ direct",
        "memory",
        *(["hits"] if cached else []),
    ]
    lines = [
        f"### {case.title[0].upper()}{case.title[1:]}",
        "",
        f"{case.clients} clients.",
        "",
        _line(titles),
        _line(["---", *["---:"] * (len(titles) - 1)]),
    ]
    for row in rows:
        cells = [
            row.contender,
            f"{row.per_second.median:,.0f}",
            _plain(row.p50, 2),
            _plain(row.p99, 2),
            _spread(row.cpu, 1),
            f"{_plain(row.user, 1)} + {_plain(row.system, 1)}" if row.user else "",
            _spread(row.cpu_to_pgbouncer, 2),
            _spread(row.throughput_to_pgbouncer, 2),
            _spread(row.throughput_to_direct, 2),
            f"{row.resident.median / 2**20:.0f} MiB" if row.resident else "",
            *([_percent(row.from_cache)] if cached else []),
        ]
        lines.append(_line(cells))
    return lines


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(figure: Figure | None, digits: int) -> str:
    return "" if figure is None else f"{figure.median:.{digits}f}"


def _spread(figure: Figure | None, digits: int) -> str:
    if figure is None:
        return ""
    low, high = f"{figure.low:.{digits}f}", f"{figure.high:.{digits}f}"
    return f"{figure.median:.{digits}f} ({low}–{high})"


def _percent(figure: Figure | None) -> str:
    return "" if figure is None else f"{figure.median:.1%}"
