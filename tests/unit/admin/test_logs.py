"""Logs: their two forms, their level, and what never gets into them."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from proxy.admin.logs import configure, redact_text
from proxy.config.settings import LogSettings


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave structlog and logging as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def json_lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_object_a_line_from_both_kinds_of_loggers() -> None:
    stream = io.StringIO()
    configure(LogSettings(format="json"), stream)
    structlog.get_logger().info("node is down", node="replica1")
    logging.getLogger("library").warning("it said %s", "so")
    ours, theirs = json_lines(stream)
    assert ours["event"] == "node is down"
    assert ours["node"] == "replica1"
    assert ours["level"] == "info"
    assert str(ours["timestamp"]).endswith("Z")
    assert theirs["event"] == "it said so"
    assert theirs["logger"] == "library"
    assert theirs["level"] == "warning"


def test_less_serious_messages_are_left_out() -> None:
    stream = io.StringIO()
    configure(LogSettings(format="json", level="warning"), stream)
    structlog.get_logger().info("left out")
    logging.getLogger("library").info("left out")
    structlog.get_logger().error("kept")
    assert [line["event"] for line in json_lines(stream)] == ["kept"]


def test_console_lines_are_for_people() -> None:
    stream = io.StringIO()
    configure(LogSettings(), stream)
    structlog.get_logger().warning("node is down", node="replica1")
    [line] = stream.getvalue().splitlines()
    assert "node is down" in line
    assert "node=replica1" in line
    assert "\x1b" not in line


@pytest.mark.parametrize("form", ["json", "console"])
def test_secrets_do_not_get_through(form: str) -> None:
    stream = io.StringIO()
    configure(LogSettings.model_validate({"format": form}), stream)
    log = structlog.get_logger()
    log.info("login", password="s3cret", user="app")
    log.info("nested", settings={"auth": [{"server_password": "s3cret"}]})
    log.info("reconnecting", url="redis://app:s3cret@cache:6379/0")
    log.info("reconnecting to redis://:s3cret@cache")
    log.info("statement", text="ALTER ROLE app PASSWORD 's3''s3cret'")
    log.info("failed", error=ValueError("host=h password=s3cret user=u"))
    logging.getLogger("library").warning("dsn %s", "postgres://app:s3cret@h/db")
    secret = "s3cret"
    try:
        raise ValueError(f"postgres://app:{secret}@h/db")
    except ValueError:
        log.exception("failed")
        logging.getLogger("library").exception("failed too")
    written = stream.getvalue()
    assert "s3cret" not in written
    assert "user" in written
    assert written.count("Traceback") == 2


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org:8080/path@x",
        "the password is wrong",
        "127.0.0.1:5432 user@host",
        "select password from users",
    ],
)
def test_texts_without_secrets_stay(text: str) -> None:
    assert redact_text(text) == text
