"""Calls of the schema `penstock` in messages: arguments in, descriptions and rows out."""

import struct
from typing import Final

from proxy.cache.calls import Result, Value
from proxy.session.batch import Batch
from proxy.session.binding import decode_parameters, first_result_format
from proxy.session.client import Client
from proxy.sql.calls import CacheCall
from proxy.sql.statement import Literal
from proxy.wire import errors
from proxy.wire.errors import PgError
from proxy.wire.messages import command_complete, message

_TEXT: Final = 25
_FLOAT8: Final = 701
_TEXTS: Final = frozenset((0, _TEXT, 705, 1043, 1042, 19))
"""unspecified, text, unknown, varchar, bpchar, name"""
_NUMBERS: Final = {21: ">h", 23: ">i", 20: ">q", 700: ">f", 701: ">d"}
_RESULTS: Final = {"cache_get": (_TEXT, -1), "invalidate": (20, 8)}
_BOOLEAN: Final = (16, 1)
NO_CACHE: Final = PgError(
    errors.FEATURE_NOT_SUPPORTED,
    "functions of the schema penstock need a cache, and none is configured",
    "set redis in [cache] of Penstock's configuration",
)
_TTL: Final = 2
"""The place of the one argument that is a number."""


def arguments_of(call: CacheCall, batch: Batch, client: Client) -> tuple[Value, ...]:
    """The values of the call's arguments. Raises PgError."""
    return tuple(_argument(call, place, batch, client) for place in range(len(call.arguments)))


def _argument(call: CacheCall, place: int, batch: Batch, client: Client) -> Value:
    argument = call.arguments[place]
    name = f"argument {place + 1} of penstock.{call.function}"
    if isinstance(argument, Literal):
        if argument.text is not None and place != _TTL and not argument.quoted:
            raise _mismatch(name)
        value, binary, oid = argument.text, False, 0
        data = None if value is None else value.encode()
    else:
        if batch.text is not None:
            raise PgError(errors.UNDEFINED_PARAMETER, f"there is no parameter ${argument.index}")
        bound = decode_parameters(batch.binds[0])
        if argument.index > len(bound.values) or argument.index < 1:
            raise PgError(errors.UNDEFINED_PARAMETER, f"there is no parameter ${argument.index}")
        index = argument.index - 1
        code = bound.format_of(index)
        oids = batch.bound[0].oids
        data, binary, oid = bound.values[index], code == 1, oids[index] if index < len(oids) else 0
    if data is None:
        raise PgError(errors.NULL_VALUE_NOT_ALLOWED, f"{name} is null")
    if place == _TTL:
        return _number(data, binary, oid, name)
    return _text(data, oid, name, client)


def _text(data: bytes, oid: int, name: str, client: Client) -> str:
    if oid not in _TEXTS:
        raise _mismatch(name)
    if not client.utf8 and not data.isascii():
        raise PgError(
            errors.CHARACTER_NOT_IN_REPERTOIRE,
            f"{name} is not ASCII, and client_encoding is not UTF8",
            "set client_encoding to UTF8",
        )
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PgError(errors.CHARACTER_NOT_IN_REPERTOIRE, f"{name} is not valid UTF-8") from None


def _number(data: bytes, binary: bool, oid: int, name: str) -> float:
    form = _NUMBERS.get(oid or _FLOAT8)
    try:
        if not binary:
            return float(data)
        if form is not None:
            return float(struct.unpack(form, data)[0])
    except (ValueError, struct.error):
        pass
    raise PgError(
        errors.INVALID_PARAMETER_VALUE, f"{name} is not a number of seconds", "for instance 60"
    )


def _mismatch(name: str) -> PgError:
    return PgError(errors.DATATYPE_MISMATCH, f"{name} is not text", "cast it to text")


def is_run(batch: Batch) -> bool:
    """Whether the batch executes the call, not only prepares or describes it."""
    return batch.text is not None or b"E" in batch.shape or b"e" in batch.shape


def parameters_of(call: CacheCall, batch: Batch) -> bytes:
    """ParameterDescription: the types that were declared, else those of the arguments."""
    statement = batch.described
    oids = list(() if statement is None else statement.oids)
    for place, argument in enumerate(call.arguments):
        if isinstance(argument, Literal):
            continue
        oids += [0] * (argument.index - len(oids))
        if not oids[argument.index - 1]:
            oids[argument.index - 1] = _FLOAT8 if place == _TTL else _TEXT
    body = struct.pack(f">H{len(oids)}I", len(oids), *(oid or _TEXT for oid in oids))
    return message(b"t", body)


def description_of(call: CacheCall, batch: Batch) -> bytes:
    """RowDescription of the one column."""
    oid, size = _RESULTS.get(call.function, _BOOLEAN)
    column = struct.pack(">IhIhih", 0, 0, oid, size, -1, _format(batch))
    return message(b"T", b"\0\1" + call.column.encode() + b"\0" + column)


def row_of(call: CacheCall, batch: Batch, client: Client, result: Result) -> bytes:
    """DataRow and CommandComplete. Raises PgError where the client can't be sent it."""
    binary = _format(batch) == 1
    if result is None:
        value = b"\xff\xff\xff\xff"
    else:
        if isinstance(result, bool):
            data = (b"\1" if result else b"\0") if binary else (b"t" if result else b"f")
        elif isinstance(result, int):
            data = struct.pack(">q", result) if binary else b"%d" % result
        else:
            data = result.encode()
            if not client.utf8 and not data.isascii():
                raise PgError(
                    errors.CHARACTER_NOT_IN_REPERTOIRE,
                    "the value under this key is not ASCII, and client_encoding is not UTF8",
                    "set client_encoding to UTF8",
                )
        value = struct.pack(">i", len(data)) + data
    return message(b"D", b"\0\1" + value) + command_complete("SELECT 1")


def _format(batch: Batch) -> int:
    """The format code in which the client wants the column."""
    return first_result_format(batch.binds[0]) if batch.binds else 0
