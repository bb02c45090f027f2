"""Names as HBA rules and ident maps give them: plain, or a regular expression after a slash.

PostgreSQL's expressions are those of Tcl, Penstock's those of Python. They agree in all that names
need; what would mean something else here is refused.
"""

import re
from dataclasses import dataclass
from typing import Final

from proxy.auth.problems import BadLine
from proxy.auth.tokens import Token

MAX_NAME: Final = 63
"""Bytes; longer names don't exist (NAMEDATALEN), and no expression is tried on them."""

_MEANS_SOMETHING_ELSE = re.compile(r"\[[:.=]|\\[bBmMyY]|^\*\*\*")


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression; it is found anywhere unless it says ^ or $."""

    source: str
    compiled: re.Pattern[str]

    def search(self, name: str) -> re.Match[str] | None:
        """The match of the expression in a name."""
        if len(name.encode()) > MAX_NAME or "\n" in name:
            return None  # Python's $ would also match before a newline at the end
        return self.compiled.search(name)


def pattern(token: Token) -> Pattern | None:
    """The expression that a token holds, None for a plain name. Raises BadLine for a bad one."""
    if not token.text.startswith("/"):
        return None
    source = token.text[1:]
    if odd := _MEANS_SOMETHING_ELSE.search(source):
        raise BadLine(
            f'the regular expression "{source}" uses "{odd[0]}", which means something else to '
            f"PostgreSQL than here: write it another way, such as [a-z] or \\d"
        )
    try:
        return Pattern(source, re.compile(source))
    except (re.error, RecursionError, OverflowError) as error:
        raise BadLine(f'the regular expression "{source}" is wrong: {error}') from None
