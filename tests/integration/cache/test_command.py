"""`penstock cache` against a real server."""

import asyncio
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.cache import app
from tests.integration.cache.caches import Cache
from tests.integration.cache.servers import OwnRedis

CONFIG = """
[cache]
{redis}

[auth]
method = "trust"
users = [{{ name = "app" }}]

[database.app]
[database.other]
"""


def _run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--config", str(config)])


@pytest.fixture
def config(own_redis: OwnRedis, tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(redis=f'redis = "{own_redis.url}"'))
    return path


def test_clear_all_databases(config: Path) -> None:
    result = _run(config, "clear", "*")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "app: tables invalidated: all; keys removed: 0",
        "other: tables invalidated: all; keys removed: 0",
    ]


def test_clear_what_is_not_there(config: Path) -> None:
    result = _run(config, "clear", "orders:*", "--database", "other")
    assert result.output == "other: tables invalidated: none; keys removed: 0\n"


async def test_clear_tables(config: Path, cache: Cache) -> None:
    await cache.store(b"rows")
    result = await asyncio.to_thread(_run, config, "clear", "orders:*", "-d", "app")
    assert result.output == "app: tables invalidated: orders; keys removed: 1\n"
    assert (await cache.lookup()).payload is None


async def test_stats(config: Path, cache: Cache) -> None:
    await cache.store(b"rows")
    cache.service.results.publish()
    await cache.lookup()
    result = await asyncio.to_thread(_run, config, "stats")
    assert result.exit_code == 0, result.output
    assert "hit rate: 50.0% (1 hits, 1 misses)" in result.output
    assert "fills: 1" in result.output
    assert "database other: 0 keys, about 0 bytes" in result.output


def test_redis_away(config: Path, own_redis: OwnRedis) -> None:
    own_redis.kill()
    for arguments in (["clear", "*"], ["stats"]):
        result = _run(config, *arguments)
        assert result.exit_code == 3
        assert "could not" in result.output


def test_wrong_arguments(config: Path) -> None:
    assert _run(config, "clear", ":*").exit_code == 2
    unknown = _run(config, "clear", "*", "--database", "nowhere")
    assert unknown.exit_code == 2
    assert "'nowhere' is not configured" in unknown.output


def test_no_cache_configured(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(redis=""))
    result = _run(path, "stats")
    assert result.exit_code == 1
    assert "[cache]" in result.output
