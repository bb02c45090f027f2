"""What has been measured, kept in a file, so that an interrupted run can be taken up again.

A line is one round of one scenario, with a key of all that its figures depend on: rounds of another
Penstock, of other sides, other durations or another way to measure are not taken for those of this
one. A round that was interrupted is not there and is measured again as a whole, because its sides
are compared with each other.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measuring.machine import Bustle
from benchmarks.measuring.measurement import Calls, Measurement, Round
from benchmarks.scenarios import Scenario
from benchmarks.sides import Side

_HERE = Path(__file__).resolve().parents[1]
_NO_MATTER = ("report", "__main__.py", "terminal.py", "logic.py")
"""What of this program changes no measurement."""


@cache
def _method() -> str:
    """A digest of how measurements are taken."""
    digest = hashlib.sha256()
    for file in sorted(_HERE.rglob("*.py")):
        if file.relative_to(_HERE).parts[0] not in _NO_MATTER:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(scenario: Scenario, sides: Sequence[Side], seconds: int) -> str:
    """Of everything that a measurement depends on, as far as it can be told."""
    parts = [_method(), scenario, seconds, *((side.name, side.identity) for side in sides)]
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:16]


class State:
    """Rounds by their keys, in a file. Raises OSError where that can't be read or written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._rounds: dict[str, list[Round]] = {}
        if file.exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                self._remember(line)

    def rounds(self, key: str) -> Sequence[Round]:
        """Those that are there already, in their order."""
        return self._rounds.get(key, ())

    def add(self, key: str, taken: Round) -> None:
        """Keep a round, on disk when this returns."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"key": key, **asdict(taken)}) + "\n")
        self._rounds.setdefault(key, []).append(taken)

    def finish(self) -> None:
        """Forget everything: the next run begins anew."""
        self._rounds.clear()
        self._file.unlink(missing_ok=True)

    def _remember(self, line: str) -> None:
        try:
            content: dict[str, Any] = json.loads(line)
            key, taken = content.pop("key"), round_from(content)
        except (ValueError, KeyError, TypeError):
            return  # cut off by an interruption, or of another form of this program
        self._rounds.setdefault(key, []).append(taken)


def round_from(content: dict[str, Any]) -> Round:
    """A round from what `asdict` makes of it. Raises KeyError or TypeError for anything else."""
    return Round(
        content["scenario"],
        content["number"],
        Bustle(**content["bustle"]),
        content["rate"],
        tuple(Measurement(**one) for one in content["measurements"]),
        tuple(Calls(**one) for one in content["calls"]),
        dict(content["failed"]),
    )
