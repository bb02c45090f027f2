"""What a server says of a prepared statement: its parameters' types and its result's columns.

Two descriptions are the same where PostgreSQL would go on with the statement after a change of the
schema (RevalidateCachedQuery in plancache.c): the columns have the same names, types and type
modifiers, from whichever table they come.
"""

from typing import Final

_NO_DATA: Final = b"n"
_AFTER_NAME: Final = 18
_MOST_KEPT: Final = 20_000


class Description:
    """Made by `describe`, which gives the same object for the same description."""

    __slots__ = ("parameters", "rows")

    def __init__(self, parameters: bytes | None, rows: bytes) -> None:
        self.parameters = parameters
        """The body of ParameterDescription, which is also the end of a Parse that asks for these
        types; None where only the result was described."""
        self.rows = rows
        """The columns' names, types and type modifiers; "n" for a statement without a result."""

    @property
    def returns_rows(self) -> bool:
        """Whether there are rows that could be taken for what they are not."""
        return self.rows != _NO_DATA

    def agrees(self, told: "Description") -> bool:
        """Whether a client that was told `told` knows how to use a statement described so."""
        if self.rows != told.rows:
            return False
        return told.parameters is None or told.parameters == self.parameters


STALE: Final = Description(None, b"")
"""Stands for a statement that the server may have and that has to be parsed anew."""

_known: dict[tuple[bytes | None, bytes], Description] = {}


def describe(parameters: bytes | None, message: bytes) -> Description:
    """The description in a ParameterDescription's body and a RowDescription or NoData message."""
    rows = _NO_DATA if message[0] == _NO_DATA[0] else _columns(message)
    key = (parameters, rows)
    found = _known.get(key)
    if found is None:
        if len(_known) >= _MOST_KEPT:
            _known.clear()
        found = _known[key] = Description(parameters, rows)
    return found


def _columns(message: bytes) -> bytes:
    """Each column's name, type and type modifier; its table, width and format left out."""
    parts = [b"T"]
    position = 7
    while position < len(message):
        end = message.index(b"\0", position) + 1
        parts += (message[position:end], message[end + 6 : end + 10], message[end + 12 : end + 16])
        position = end + _AFTER_NAME
    return b"".join(parts)
