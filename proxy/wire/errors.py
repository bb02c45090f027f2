"""ErrorResponse and NoticeResponse fields, and the errors that Penstock itself raises.

Source: PostgreSQL documentation, "Error and Notice Message Fields"; SQLSTATEs from errcodes.txt.
"""

import struct

# SQLSTATEs that Penstock sends or looks for, named as in errcodes.txt.
FEATURE_NOT_SUPPORTED = "0A000"
CONNECTION_FAILURE = "08006"
TRANSACTION_RESOLUTION_UNKNOWN = "08007"
CONNECTION_DOES_NOT_EXIST = "08003"
PROTOCOL_VIOLATION = "08P01"
NULL_VALUE_NOT_ALLOWED = "22004"
CHARACTER_NOT_IN_REPERTOIRE = "22021"
INVALID_PARAMETER_VALUE = "22023"
READ_ONLY_SQL_TRANSACTION = "25006"
IN_FAILED_SQL_TRANSACTION = "25P02"
IDLE_IN_TRANSACTION_TIMEOUT = "25P03"
TRANSACTION_TIMEOUT = "25P04"
INVALID_SQL_STATEMENT_NAME = "26000"
INVALID_AUTHORIZATION = "28000"
INVALID_PASSWORD = "28P01"
INVALID_CATALOG_NAME = "3D000"
SYNTAX_ERROR = "42601"
DATATYPE_MISMATCH = "42804"
UNDEFINED_PARAMETER = "42P02"
DUPLICATE_PREPARED_STATEMENT = "42P05"
INVALID_SCHEMA_NAME = "3F000"
DEADLOCK_DETECTED = "40P01"
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"
OBJECT_NOT_IN_PREREQUISITE_STATE = "55000"
LOCK_NOT_AVAILABLE = "55P03"
CANT_CHANGE_RUNTIME_PARAM = "55P02"
CONFIG_FILE_ERROR = "F0000"
UNDEFINED_OBJECT = "42704"
TOO_MANY_CONNECTIONS = "53300"
PROGRAM_LIMIT_EXCEEDED = "54000"
QUERY_CANCELED = "57014"
ADMIN_SHUTDOWN = "57P01"
CANNOT_CONNECT_NOW = "57P03"
IDLE_SESSION_TIMEOUT = "57P05"
IO_ERROR = "58030"
INTERNAL_ERROR = "XX000"

CHANGED_RESULT = "RevalidateCachedQuery"
"""The routine that PostgreSQL's "cached plan must not change result type" comes from, in any
language: drivers know it by that, and prepare again."""

LAST_WORDS = frozenset({ADMIN_SHUTDOWN, "57P02", "57P05"})
"""With what a server ends a connection: shut down, crashed, idle for too long."""

_LENGTH = struct.Struct(">I")


class ProtocolViolation(Exception):
    """The peer sent bytes that the protocol doesn't allow: the connection can't go on."""


class PgError(Exception):
    """An error that a client is to see: SQLSTATE, message, and what to do about it."""

    def __init__(
        self,
        sqlstate: str,
        message: str,
        hint: str = "",
        detail: str = "",
        routine: str = "penstock",
    ) -> None:
        super().__init__(message)
        self.routine = routine
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.detail = detail

    def encode(self, severity: str = "ERROR") -> bytes:
        """The ErrorResponse message, whole."""
        return error_response(
            self.sqlstate, self.message, self.hint, self.detail, severity, self.routine
        )


def error_response(
    sqlstate: str,
    message: str,
    hint: str = "",
    detail: str = "",
    severity: str = "ERROR",
    routine: str = "penstock",
) -> bytes:
    """An ErrorResponse message. Fields: S and V severity, C SQLSTATE, M message, D, H, R."""
    fields = [f"S{severity}", f"V{severity}", f"C{sqlstate}", f"M{message}"]
    if detail:
        fields.append(f"D{detail}")
    if hint:
        fields.append(f"H{hint}")
    fields.append(f"R{routine}")
    body = b"".join(field.replace("\0", "").encode() + b"\0" for field in fields) + b"\0"
    return b"E" + _LENGTH.pack(len(body) + 4) + body


def notice_response(text: str, severity: str = "NOTICE") -> bytes:
    """A NoticeResponse message."""
    level = severity.encode()
    sqlstate = b"01000" if severity == "WARNING" else b"00000"
    head = b"S" + level + b"\0V" + level + b"\0C" + sqlstate + b"\0M"
    body = head + text.replace("\0", "").encode() + b"\0\0"
    return b"N" + _LENGTH.pack(len(body) + 4) + body


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse body, by their one-letter code."""
    fields: dict[str, str] = {}
    for field in body.split(b"\0"):
        if field:
            fields[chr(field[0])] = field[1:].decode("utf-8", "replace")
    return fields


def from_fields(fields: dict[str, str]) -> PgError:
    """The error that a server reported."""
    return PgError(
        fields.get("C", INTERNAL_ERROR),
        fields.get("M", "the server gave no message"),
        fields.get("H", ""),
        fields.get("D", ""),
    )
