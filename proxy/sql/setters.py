"""Functions that change settings for longer than they run: told from their bodies.

The server lists no custom settings, so a session that has called such a function can only be
asked for settings whose names are known. Names are looked for in the text, in whatever language it
is: too many do no harm. Where the text doesn't tell one, `UNTOLD` stands for it.
"""

import re
from collections.abc import Iterable, Mapping

UNTOLD = "*"
"""A setting whose name is made up when the function runs."""

SEEDS = r"\mset_config\M|(^|[;''$]|\m(begin|then|else|loop|atomic)\M)\s*(re)?set\s"
"""A PostgreSQL regular expression, in an SQL string: bodies that need a look."""

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_CALL = re.compile(r"\bset_config\b\s*(?:\(\s*(?:\w+\s*=>\s*)?'([\w.$]+)'(?:::\w+)?\s*,)?", re.I)
_STATEMENT = re.compile(
    r"\|\|\s*'\s*set\b"  # goes on with an UPDATE that is put together
    r"|(?:^|[;'$]|\b(?:begin|then|else|loop|atomic)\b)\s*(?P<verb>(?:re)?set)\s+"
    r"(?!(?:local|constraints|transaction)\b)(?:session\s+(?!authorization))?"
    r"(?P<name>time\s+zone|role|[\w.$]+(?=\s*(?:=|\bto\b|;|'|$)))?",
    re.IGNORECASE,
)
_WORDS = re.compile(r"\w+")


def settings_of(body: str) -> frozenset[str]:
    """The settings, lower case, that a function of this body may change by itself."""
    text = _COMMENT.sub(" ", body)
    found = {(call[1] or UNTOLD).lower() for call in _CALL.finditer(text)}
    for match in _STATEMENT.finditer(text):
        if match["verb"]:
            name = "".join((match["name"] or UNTOLD).lower().split())
            found.add(UNTOLD if name == "all" else name)
    return frozenset(found)


def setters(
    seeds: Mapping[str, frozenset[str]], bodies: Iterable[tuple[str, str]]
) -> dict[str, frozenset[str]]:
    """Functions by name with all that they may change, those that they call included.

    `seeds` has what functions change by themselves; `bodies` (name, text) of all.
    """
    calls = {name: set[str]() for name in seeds}
    for name, body in bodies:
        calls.setdefault(name, set()).update(_WORDS.findall(body.lower()))
    found = {name: names for name, names in seeds.items() if names}
    while True:
        grown = {
            name: found.get(name, frozenset[str]()).union(
                *(found[each] for each in called & found.keys())
            )
            for name, called in calls.items()
        }
        grown = {name: names for name, names in grown.items() if names}
        if grown == found:
            return found
        found = grown
