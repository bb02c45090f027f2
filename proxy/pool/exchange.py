"""Penstock's own query on a borrowed backend: its answer gathered, not passed on."""

from proxy.pool.description import Description, describe
from proxy.wire.errors import PgError, error_fields, from_fields


class Exchange:
    """One answer, up to its ReadyForQuery. After `feed` returns True the exchange is over."""

    __slots__ = (
        "_data",
        "_parameters",
        "described",
        "error",
        "notifications",
        "rest",
        "rows",
        "status",
        "statuses",
    )

    def __init__(self) -> None:
        self._data = b""
        self.rows: list[list[bytes | None]] = []
        self.statuses: list[bytes] = []
        """Bodies of ParameterStatus messages."""
        self._parameters: bytes | None = None
        self.described: list[Description] = []
        """Of statements, in the order in which they were asked for."""
        self.error: PgError | None = None
        self.status = 0
        self.notifications = b""
        """Messages that came in between, for whoever listens."""
        self.rest = b""
        """What came behind the answer."""

    def feed(self, data: bytes) -> bool:
        """Take the server's bytes; whether ReadyForQuery has come."""
        data = self._data + data
        position = 0
        while len(data) - position >= 5:
            end = position + 1 + int.from_bytes(data[position + 1 : position + 5])
            if end > len(data):
                break
            kind, body = data[position], data[position + 5 : end]
            position = end
            if kind == 68:
                self.rows.append(_row(body))
            elif kind == 116:
                self._parameters = body
            elif kind in b"Tn" and self._parameters is not None:
                message = data[position - len(body) - 5 : position]
                self.described.append(describe(self._parameters, message))
                self._parameters = None
            elif kind == 83:
                self.statuses.append(body)
            elif kind == 65:
                self.notifications += data[position - len(body) - 5 : position]
            elif kind == 69 and self.error is None:
                self.error = from_fields(error_fields(body))
            elif kind == 90:
                self.status = body[0]
                self.rest = data[position:]
                return True
        self._data = data[position:]
        return False


def _row(body: bytes) -> list[bytes | None]:
    values: list[bytes | None] = []
    position = 2
    while position < len(body):
        length = int.from_bytes(body[position : position + 4], signed=True)
        position += 4
        if length < 0:
            values.append(None)
        else:
            values.append(body[position : position + length])
            position += length
    return values
