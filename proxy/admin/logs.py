"""Structured logs on standard error: lines for people or JSON, never a secret in them."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.types import EventDict, Processor

from proxy.config.settings import LogSettings

HIDDEN = "***"

_SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|token|credential|authorization|verifier|private_?key|^key_data$",
    re.IGNORECASE,
)
_URL_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)[^\s/]*@", re.IGNORECASE)
_TEXT_PASSWORD = re.compile(r"(\bpassword\s*[=:]\s*)('[^']*'|\"[^\"]*\"|[^\s,;)]+)", re.IGNORECASE)
"""As in a connection string (`password=x`), in SQL (`PASSWORD 'x'` has no sign: see below)."""
_SQL_PASSWORD = re.compile(r"(\bpassword\s+)'(?:[^']|'')*'", re.IGNORECASE)


def redact(logger: object, method: str, event: EventDict) -> EventDict:
    """A structlog processor that hides values under secret names and passwords within texts."""
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key) and value is not None and not isinstance(value, bool):
        return HIDDEN
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {name: _redacted(str(name), child) for name, child in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted("", child) for child in value]
    if isinstance(value, BaseException):
        return redact_text(repr(value))
    return value


def redact_text(text: str) -> str:
    """`text` with the passwords of URLs, connection strings and SQL's PASSWORD '…' hidden."""
    text = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", text)
    text = _TEXT_PASSWORD.sub(rf"\1{HIDDEN}", text)
    return _SQL_PASSWORD.sub(rf"\1'{HIDDEN}'", text)


def configure(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's logs to `stream` (default: standard error).

    Call before the first message, and again where the settings have changed. Tracebacks are plain
    text: the richer forms print local variables, passwords among them.
    """
    stream = stream or sys.stderr
    level = logging.getLevelName(settings.level.upper())
    shared = _shared_processors()
    renderer = _renderer(settings, stream)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,  # a reload may change the level
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # Their information is noise here: a line for every connection of a scrape.
    for name in ("aiohttp.access", "asyncio"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]


def _renderer(settings: LogSettings, stream: TextIO) -> Processor:
    if settings.format == "json":
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
