"""`penstock explain` without a running proxy."""

import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.main import build

CONFIG = """
[server]
listen = "127.0.0.1:{port}"

[auth]
users = [{{ name = "app", password = "p@ss/word" }}]

[database.shop.primary]
port = 5432

[database.shop.replicas]
hosts = ["127.0.0.1:5433"]

[database.shop.sharding]
enabled = true
shards = [{{ port = 5441 }}, {{ port = 5442 }}, {{ port = 5443 }}]
table = [{{ name = "accounts", key = "id" }}]

[database.other.primary]
port = 5439
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose proxy does not run: its port was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(port=port))
    return path


def _run(*arguments: str) -> Result:
    environment = {"COLUMNS": "200", "NO_COLOR": "1"}
    return CliRunner().invoke(build("explain"), ["explain", *arguments], env=environment)


def _value(output: str, name: str) -> str:
    row = next(line for line in output.splitlines() if line.strip("│ ").startswith(name))
    return row.split("│")[2].strip()


def test_a_read_is_explained_without_a_server(config: Path) -> None:
    result = _run("SELECT count(*) FROM orders", "--config", str(config))
    assert result.exit_code == 0, result.output
    assert _value(result.stdout, "access") == "read: only reads"
    assert _value(result.stdout, "route") == "replica1: only reads"
    assert _value(result.stdout, "cache").startswith("no: the catalogue is not loaded")
    assert "no running proxy was asked" in _value(result.stdout, "judged by")


@pytest.mark.parametrize(
    ("statement", "route"),
    [
        ("SELECT * FROM accounts WHERE id = 1", "shard2: the shard of the key"),
        ("SELECT * FROM accounts WHERE id = $1", "the shard that the parameters of each"),
        ("SELECT * FROM accounts", "refused (0A000): the statement is not limited"),
        ("DELETE FROM orders", "primary: writes orders"),
        ('DELETE FROM "[bold]"', "primary: writes [bold]"),
    ],
)
def test_routes(config: Path, statement: str, route: str) -> None:
    result = _run(statement, "--config", str(config), "--offline")
    assert result.exit_code == 0, result.output
    assert _value(result.stdout, "route").startswith(route)


def test_other_database(config: Path) -> None:
    result = _run("SELECT * FROM accounts", "-c", str(config), "-d", "other", "--offline")
    assert _value(result.stdout, "route") == "primary: no replica is configured"
    result = _run("SELECT 1", "-c", str(config), "-d", "nosuch")
    assert result.exit_code == 1
    assert "database 'nosuch' is not configured; configured: shop, other" in result.stderr


def test_a_proxy_that_does_not_answer_is_an_error_if_asked_for(config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = _run("SELECT 1", "--connect", f"postgresql://app:secret@127.0.0.1:{port}/shop")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"127.0.0.1:{port}/shop: ")
    assert "secret" not in result.output
