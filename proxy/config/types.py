"""Value types that a setting can have beyond TOML's own.

Each carries its `Words`: how the reference and the error messages speak of it.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
)

from proxy.config.commands import secret_of_command

KEY_SIZE = 32
"""Bytes of a key for encryption."""
_DURATION_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@dataclass(frozen=True, slots=True)
class Words:
    """A type's name, what it allows, and how a value of it is written in a configuration file."""

    name: str
    allowed: str
    write: Callable[[Any], str] = str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class SecretSources:
    """Where "env:NAME", "file:PATH" and "command:…" look. Pydantic's validation context."""

    environ: Mapping[str, str]
    directory: Path
    """Relative paths start here: the directory of the main configuration file."""
    outputs: dict[str, str] = field(default_factory=dict, repr=False)
    """Of commands that have been run: none is run twice."""


class HostPort(NamedTuple):
    """A TCP address, written "host:port" or "[ipv6]:port"."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_duration(value: Any) -> Any:
    """Seconds from a number or from text with a unit: "250ms", "30s", "5min", "1h", "2d"."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError('a duration is a number of seconds or text such as "250ms" or "5min"')
    if not isinstance(value, str):
        seconds = float(value)
    else:
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d|)\s*", value)
        if match is None:
            raise ValueError('a duration is a number and a unit (us, ms, s, min, h, d): "250ms"')
        seconds = float(match[1]) * _DURATION_UNITS[match[2] or "s"]
    if not 0 <= seconds < float("inf"):
        raise ValueError("a duration can't be negative or infinite")
    return seconds


def parse_size(value: Any) -> Any:
    """Bytes from a number or from text with PostgreSQL's units: "64kB", "1MB", "1GB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = isinstance(value, str) and re.fullmatch(r"\s*(\d+)\s*(B|kB|MB|GB|)\s*", value)
    if not match:
        raise ValueError('a size is a number of bytes or text such as "64kB" or "1MB"')
    return int(match[1]) * _SIZE_UNITS[match[2] or "B"]


def parse_host_port(value: Any) -> Any:
    """A HostPort from "host:port"."""
    if isinstance(value, HostPort):
        return value
    match = isinstance(value, str) and re.fullmatch(
        r"(?:\[([^\]\s]+)\]|([^:\[\]\s]+)):(\d{1,5})", value, re.ASCII
    )
    if not match or not 0 <= int(match[3]) <= 65535:
        raise ValueError('an address is "host:port", with a port from 0 to 65535')
    return HostPort(match[1] or match[2], int(match[3]))


def resolve_secret(value: Any, info: ValidationInfo) -> Any:
    """The secret that "env:NAME", "file:PATH" or "command:PROGRAM …" points at; any other text is
    the secret itself.

    Without `SecretSources` as the context, the text stays as it is. The messages name the source
    and never the secret.
    """
    sources = info.context
    if not isinstance(value, str) or not isinstance(sources, SecretSources):
        return value
    source, _, where = value.partition(":")
    if source == "env":
        secret = sources.environ.get(where, "")
        if not secret:
            state = "empty" if where in sources.environ else "not set"
            raise ValueError(f"the environment variable {where or '(no name)'} is {state}")
        return secret
    if source == "file":
        return _read_secret(sources.directory / where)
    if source == "command":
        if where not in sources.outputs:
            sources.outputs[where] = secret_of_command(where, sources.directory, sources.environ)
        return sources.outputs[where]
    return value


def _read_secret(path: Path) -> str:
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None
    if not secret:
        raise ValueError(f"the file {path} is empty")
    return secret


def resolve_file(value: Any, info: ValidationInfo) -> Any:
    """A Path; a relative one starts at the main configuration file's directory if that is known."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("a file is named by its path")
    sources = info.context
    if not isinstance(sources, SecretSources) or str(value) == "system":
        return Path(value)
    return sources.directory / value


def parse_mode(value: Any) -> Any:
    """A file's mode, written in octal digits."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
        return value
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise ValueError('a mode is written in octal digits: "0770"')
    return int(value, 8)


def none_if_empty(value: Any) -> Any:
    """None for "": TOML and the environment have no other way to unset what has a default."""
    return None if value == "" else value


_REDIS_URL = (
    '"redis://[user:password@]host[:port][/db]", rediss:// for TLS, '
    'or "unix://[user:password@]/path[?db=N]"'
)


def check_redis_url(value: str) -> str:
    """`value` if it is the URL of a Redis. The messages never repeat it: it may hold a password."""
    try:
        parts = urlsplit(value)
        local = parts.scheme == "unix"
        place = parts.path if local else parts.hostname
        usable = parts.scheme in ("redis", "rediss", "unix") and bool(place)
        database = parse_qs(parts.query).get("db", ["0"])[0] if local else parts.path[1:] or "0"
        _ = parts.port  # raises where it is no number
    except ValueError:
        usable, database = False, ""
    if not usable or not re.fullmatch(r"[0-9]{1,9}", database):
        raise ValueError(f"must be {_REDIS_URL}")
    if parts.fragment or set(parse_qs(parts.query, keep_blank_values=True)) - (
        {"db"} if local else set()
    ):
        raise ValueError("has parameters, which are not read: TLS is set in [cache.tls]")
    return value


def key_bytes(text: str) -> bytes:
    """The key that `text` holds, in hexadecimal digits or base64.

    Raises ValueError with a text that doesn't repeat it."""
    try:
        if len(text) == 2 * KEY_SIZE:
            return bytes.fromhex(text)
        key = b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_SIZE:
        raise ValueError(
            f"must be {KEY_SIZE} random bytes in base64 or hexadecimal digits: "
            f"`openssl rand -base64 {KEY_SIZE}` prints some"
        )
    return key


def check_key(value: SecretStr) -> SecretStr:
    """`value` if it holds a key."""
    key_bytes(value.get_secret_value())
    return value


def write_duration(seconds: float) -> str:
    """A duration in the largest unit that gives a whole number: 0.25 is "250ms"."""
    for unit, factor in reversed(_DURATION_UNITS.items()):
        count = round(seconds / factor, 6)
        if count >= 1 and count == int(count):
            return f'"{int(count)}{unit}"'
    return "0" if seconds == 0 else f"{seconds:g}"


def write_size(size: int) -> str:
    """A size in the largest unit that gives a whole number: 65536 is "64kB"."""
    for unit, factor in reversed(_SIZE_UNITS.items()):
        if size >= factor and size % factor == 0:
            return f'"{size // factor}{unit}"'
    return str(size)


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    Words("duration", 'seconds, or a number with us, ms, s, min, h or d: "250ms"', write_duration),
]
Bytes = Annotated[
    int,
    BeforeValidator(parse_size),
    Words("size", 'bytes, or a whole number with B, kB, MB or GB: "64kB"', write_size),
]
Address = Annotated[
    HostPort,
    BeforeValidator(parse_host_port),
    PlainSerializer(str),
    Words("address", '"host:port" or "[ipv6]:port"', lambda address: f'"{address}"'),
]
Secret = Annotated[
    SecretStr,
    BeforeValidator(resolve_secret),
    Words("secret", 'text, "env:NAME", "file:PATH" or "command:PROGRAM …"', secret=True),
]
EncryptionKey = Annotated[
    SecretStr,
    BeforeValidator(resolve_secret),
    AfterValidator(check_key),
    Words(
        "key",
        'base64 or hexadecimal digits, "env:NAME", "file:PATH" or "command:PROGRAM …"',
        secret=True,
    ),
]
RedisUrl = Annotated[
    str,
    BeforeValidator(resolve_secret),
    AfterValidator(check_redis_url),
    Words(
        "URL",
        f'{_REDIS_URL}, "env:NAME", "file:PATH" or "command:PROGRAM …"',
        secret=True,
    ),
]
File = Annotated[
    Path,
    BeforeValidator(resolve_file),
    Words("file", "a path", lambda path: f'"{path}"'),
]
FileMode = Annotated[
    int,
    BeforeValidator(parse_mode),
    Words("mode", 'octal digits: "0770"', lambda mode: f'"{mode:04o}"'),
]

OffIfEmpty = BeforeValidator(none_if_empty)

Name = Annotated[str, Field(min_length=1), Words("text", "not empty", lambda text: f'"{text}"')]
Glob = Annotated[
    str,
    Field(min_length=1),
    Words("glob", "`*` any text, `?` one character, `[ab]` one of these", lambda text: f'"{text}"'),
]
