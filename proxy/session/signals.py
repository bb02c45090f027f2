"""pg_terminate_backend() and pg_cancel_backend() of another client, by the number it was told.

Where server connections are shared, that number is none of a server's processes. A statement that
is nothing but such a call is answered here if the number is that of a client of the same user in
this process: PostgreSQL lets a role signal its own. All others are the server's to answer.
"""

import re
import struct
from typing import Final

from proxy.session.answers import CACHEABLE_SHAPES
from proxy.session.batch import Batch
from proxy.session.binding import decode_parameters, first_result_format
from proxy.wire import errors
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.messages import command_complete, message

TERMINATED: Final = PgError(
    errors.ADMIN_SHUTDOWN, "terminating connection due to administrator command"
)
_CALL: Final = re.compile(
    rb"\s*select\s+(?:pg_catalog\s*\.\s*)?(pg_(?:terminate|cancel)_backend)\s*"
    rb"\(\s*(?:([0-9]{1,10})|\$1)\s*(?:::\s*(?:int|int4|integer)\s*)?\)\s*;?\s*",
    re.IGNORECASE,
)
_BOOLEAN: Final = (16, 1)
_INTEGERS: Final = {2: ">h", 4: ">i", 8: ">q"}
"""By length, in binary."""


class Call:
    """One call, with the process id that it names."""

    __slots__ = ("name", "process_id", "terminates")

    def __init__(self, name: bytes, process_id: int) -> None:
        self.name = name
        self.process_id = process_id
        self.terminates = b"terminate" in name


def call_in(batch: Batch) -> Call | None:
    """What the batch calls, if it runs just that."""
    if batch.shape.replace(b"e", b"E") not in CACHEABLE_SHAPES:  # there is one row at most
        return None
    found = _CALL.fullmatch(batch.bound[0].text if batch.text is None else batch.text)
    if found is None:
        return None
    number = _parameter(batch) if found[2] is None else int(found[2])
    return None if number is None else Call(found[1].lower(), number)


def _parameter(batch: Batch) -> int | None:
    """The value of $1, if it is the only one."""
    if batch.text is not None:
        return None
    try:
        bound = decode_parameters(batch.binds[0])
        (value,) = bound.values
        if value is None:
            return None
        if bound.formats == (1,):
            return int(struct.unpack(_INTEGERS[len(value)], value)[0])
        return int(value)
    except (ProtocolViolation, ValueError, KeyError):
        return None  # the server will say what is wrong with it


def answer_of(call: Call, batch: Batch) -> tuple[bytes, bytes]:
    """(RowDescription, DataRow with CommandComplete): the call has been obeyed."""
    code = first_result_format(batch.binds[0]) if batch.binds else 0
    column = struct.pack(">IhIhih", 0, 0, *_BOOLEAN, -1, code)
    description = message(b"T", b"\0\1" + call.name + b"\0" + column)
    row = message(b"D", b"\0\1\0\0\0\1" + (b"\1" if code else b"t"))
    return description, row + command_complete("SELECT 1")
