"""Everything about one run, and its way to JSON and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measuring.measurement import Round
from benchmarks.measuring.state import round_from
from benchmarks.report.summary import summarise

FORMAT = 2
"""Of the JSON; grows when a reader of the last one would be misled."""


@dataclass(frozen=True, slots=True)
class Results:
    """See the module's docstring.

    Attributes:
        versions: by side, and of the "servers" behind them.
        notes: by side.
        left_out: why a side, by its name, or a scenario has no figures; by "scenario: side" where
            it is about one scenario.
        calls: why system calls were not counted; "": they were.
    """

    taken_at: str
    machine: Mapping[str, str]
    seconds: int
    rounds: int
    taken_up: bool
    """Whether an interrupted run was taken up again."""
    versions: Mapping[str, str]
    notes: Mapping[str, str]
    left_out: Mapping[str, str]
    calls: str
    taken: Sequence[Round]


def to_json(results: Results) -> str:
    """Every round, and what was made of them."""
    summary = [asdict(row) for row in summarise(results.taken)]
    content = {"format": FORMAT, **asdict(results), "summary": summary}
    return json.dumps(content, indent=1) + "\n"


def from_json(file: Path) -> Results:
    """Results that were written by `to_json`. Raises ValueError if they are of another format."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if content.pop("format", None) != FORMAT:
        raise ValueError(f"{file} is not of format {FORMAT}: run the benchmark again")
    del content["summary"]
    content["taken"] = tuple(round_from(one) for one in content["taken"])
    return Results(**content)
