"""Reads fixture files: SQL, then what is expected of it in lines that begin with `-->`.

    # A line that begins with a hash is a remark.
    SELECT * FROM t WHERE k = 5
    --> select; reads t[k=5]; cacheable

Everything between two groups of such lines is one text, line ends and comments included.
"""

from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).with_name("fixtures")
_EXPECTED = "-->"


@dataclass(frozen=True, slots=True)
class Case:
    """A text, what is expected of it, and where that is written."""

    text: str
    expected: tuple[str, ...]
    where: str


def cases() -> list[Case]:
    """All cases of all files."""
    return [case for path in sorted(FIXTURES.glob("*.sql")) for case in _cases(path)]


def _cases(path: Path) -> list[Case]:
    found: list[Case] = []
    text: list[str] = []
    expected: list[str] = []
    start = 0
    for number, line in enumerate([*path.read_text("utf-8").splitlines(), ""], 1):
        if line.startswith(_EXPECTED):
            expected.append(line.removeprefix(_EXPECTED).strip())
            continue
        if expected:
            found.append(Case("\n".join(text), tuple(expected), f"{path.name}:{start}"))
            text, expected = [], []
        if line.startswith("#") or (not text and not line):
            continue
        start = start if text else number
        text.append(line)
    return found
