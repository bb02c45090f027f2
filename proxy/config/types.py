"""Value types that a setting can have beyond TOML's own."""

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, PlainSerializer

_DURATION_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE_UNITS = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


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
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)\s*", value)
        if match is None:
            raise ValueError('a duration is a number and a unit (us, ms, s, min, h, d): "250ms"')
        seconds = float(match[1]) * _DURATION_UNITS[match[2]]
    if seconds < 0:
        raise ValueError("a duration can't be negative")
    return seconds


def parse_size(value: Any) -> Any:
    """Bytes from a number or from text with PostgreSQL's units: "64kB", "1MB", "1GB"."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = isinstance(value, str) and re.fullmatch(r"\s*(\d+)\s*(B|kB|MB|GB)\s*", value)
    if not match:
        raise ValueError('a size is a number of bytes or text such as "64kB" or "1MB"')
    return int(match[1]) * _SIZE_UNITS[match[2]]


def parse_host_port(value: Any) -> Any:
    """A HostPort from "host:port"."""
    if isinstance(value, HostPort):
        return value
    match = isinstance(value, str) and re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d+)", value)
    if not match or not 0 <= int(match[3]) <= 65535:
        raise ValueError('an address is "host:port", with a port from 0 to 65535')
    return HostPort(match[1] or match[2], int(match[3]))


Duration = Annotated[float, BeforeValidator(parse_duration)]
Bytes = Annotated[int, BeforeValidator(parse_size)]
Address = Annotated[HostPort, BeforeValidator(parse_host_port), PlainSerializer(str)]
