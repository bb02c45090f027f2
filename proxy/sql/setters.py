"""Functions that leave something on their connection for longer than they run: told from their
bodies.

The server lists no custom settings, so a session that has called such a function can only be
asked for settings whose names are known. Names are looked for in the text, in whatever language it
is: too many do no harm. Where the text doesn't tell one, `UNTOLD` stands for it. `LEFTOVERS` stands
for what the server can tell of afterwards, such as temporary tables; `unseen` gives the rest.
"""

import re
from collections.abc import Iterable, Mapping

UNTOLD = "*"
"""A setting whose name is made up when the function runs."""

LEFTOVERS = "?"
"""Something that `pool.leftovers` finds, or a text made up at run time that may make it."""

SCHEMA = "#"
"""The schema, as far as results depend on it."""

_UNSEEN = "!"
"""Before the reason for which a function pins its connection."""

SEEDS = (
    r"\m(temp|temporary|pg_temp\w*|listen|prepare|execute|pg_(try_)?advisory_lock\w*|hold|setseed"
    r"|dblink_connect\w*|create|alter|drop|refresh|grant|revoke)\M|(^|[;''$]|\m(begin|then|else|loop|atomic)\M)\s*load\s|"
    r"\mset_config\M|(^|[;''$]|\m(begin|then|else|loop|atomic)\M)\s*(re)?set\s"
)
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
_LEAVES = re.compile(
    r"\b(?:temp|temporary|pg_temp\w*|listen|pg_(?:try_)?advisory_lock\w*|with\s+hold"
    r"|prepare\s+\w+\s*(?:\([^()]*\)\s*)?as)\b"
    # EXECUTE of a text that isn't there to be read, or that isn't plainly harmless.
    r"|\bexecute\s+(?!(?:format\s*\(\s*)?e?'\s*(?:select|insert|update|delete|merge|with|values"
    r"|alter|drop|truncate|analy[sz]e|vacuum|lock|grant|revoke|refresh|reindex|comment|copy|set"
    r"|reset|notify)\b|(?:on|function|procedure|immediate)\b)",
    re.IGNORECASE,
)
_SCHEMA = re.compile(
    r"\b(?:alter|drop|refresh|grant|revoke|create(?!\s+(?:(?:local|global)\s+)?temp(?:orary)?\b))\b"
    # EXECUTE of a text that isn't there to be read, or that isn't plainly harmless.
    r"|\bexecute\s+(?!(?:format\s*\(\s*)?e?'\s*(?:select|insert|update|delete|merge|with|values"
    r"|truncate|analy[sz]e|vacuum|lock|copy|set|reset|notify)\b"
    r"|(?:on|function|procedure|immediate)\b)",
    re.IGNORECASE,
)
_UNSEEN_CALLS = (
    (re.compile(r"\bsetseed\s*\(", re.I), "seed of random()"),
    (re.compile(r"\bdblink_connect\w*\s*\(", re.I), "dblink connection"),
    (re.compile(r"(?:^|[;'$]|\b(?:begin|then|else|loop|atomic)\b)\s*load\s+'", re.I), "LOAD"),
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


def effects_of(body: str) -> frozenset[str]:
    """`settings_of`, and what else a function of this body may leave: `LEFTOVERS`, `SCHEMA`, and
    reasons for `unseen`."""
    text = _COMMENT.sub(" ", body)
    found = {_UNSEEN + reason for call, reason in _UNSEEN_CALLS if call.search(text)}
    if _LEAVES.search(text):
        found.add(LEFTOVERS)
    if _SCHEMA.search(text):
        found.add(SCHEMA)
    return settings_of(body) | found


def named(effects: frozenset[str]) -> frozenset[str]:
    """Only the settings whose names are known."""
    marks = (UNTOLD, LEFTOVERS, SCHEMA, _UNSEEN)
    return frozenset(effect for effect in effects if effect[:1] not in marks)


def unseen(effects: frozenset[str]) -> list[str]:
    """Only what the server can't tell of: why the connection must be kept."""
    return sorted(effect[1:] for effect in effects if effect.startswith(_UNSEEN))


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
