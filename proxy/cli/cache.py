"""`penstock cache …`: look at the cache and clear it, on the Redis that the configuration names.

Exit status: 0 done; 1 the configuration is wrong or names no Redis; 2 wrong arguments; 3 Redis
can't be reached or refused.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli import cache_feed, cache_write_back
from proxy.cli.check import ConfigOption, load_or_exit

if TYPE_CHECKING:
    from proxy.cache.manager import CacheManager, CacheStats, MemoryUsage
    from proxy.config.settings import Settings

app = typer.Typer(help="Look at the cache and clear it.", no_args_is_help=True)
app.add_typer(cache_feed.app, name="feed")
app.add_typer(cache_write_back.app, name="write-back")

UNAVAILABLE = 3
"""Exit status where Redis can't be reached or refused."""

DatabaseOption = Annotated[
    str | None, typer.Option("--database", "-d", help="Only this one. Default: all configured.")
]


@app.command()
def clear(
    pattern: Annotated[
        str,
        typer.Argument(help="A glob TABLES:REST: 'orders:*', 'tenant-42:*'; '*' is everything."),
    ],
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
) -> None:
    """Make everything that PATTERN matches unusable at once, and remove it."""
    settings = load_or_exit(config)
    _run(_clear(settings, pattern, _databases(settings, database)))


@app.command()
def stats(config: ConfigOption = Path("config.toml"), database: DatabaseOption = None) -> None:
    """Print what all proxies on this Redis have counted, and the memory in use."""
    settings = load_or_exit(config)
    _run(_stats(settings, _databases(settings, database)))


async def _clear(settings: "Settings", pattern: str, databases: list[str]) -> None:
    for name in databases:
        async with _manager(settings, name) as manager:
            cleared = await manager.invalidate(pattern)
        moved = ", ".join(cleared.tables) or "none"
        if cleared.tables == ("*",):
            moved = "all"
        typer.echo(f"{name}: tables invalidated: {moved}; keys removed: {cleared.removed}")


async def _stats(settings: "Settings", databases: list[str]) -> None:
    for number, name in enumerate(databases):
        async with _manager(settings, name) as manager:
            if number == 0:
                _print_counters(await manager.get_stats())
            _print_memory(name, await manager.get_memory_usage(), first=number == 0)


def _print_counters(stats: "CacheStats") -> None:
    typer.echo(f"hit rate: {stats.hit_rate:.1%} ({stats.hits} hits, {stats.misses} misses)")
    for name in sorted(stats.counters.keys() - {"hits", "misses"}):
        typer.echo(f"{name.replace('_', ' ')}: {stats.counters[name]}")


def _print_memory(name: str, usage: "MemoryUsage", *, first: bool) -> None:
    if first:
        limit = f" of {usage.server_limit}" if usage.server_limit else ""
        typer.echo(f"memory of the server: {usage.server}{limit} bytes")
    typer.echo(f"database {name}: {usage.keys} keys, about {usage.cache} bytes")


def _databases(settings: "Settings", wanted: str | None) -> list[str]:
    known = list(settings.databases)
    if wanted is None:
        return known
    if wanted not in known:
        raise typer.BadParameter(
            f"{wanted!r} is not configured; there are: {', '.join(known)}",
            param_hint="--database",
        )
    return [wanted]


@asynccontextmanager
async def _manager(settings: "Settings", database: str) -> "AsyncIterator[CacheManager]":
    from proxy.cache.manager import CacheManager

    if not settings.cache.has_store:
        typer.echo("no cache is configured: set redis in [cache]", err=True)
        raise typer.Exit(1)
    manager = await CacheManager.open(settings.cache, database)
    try:
        yield manager
    finally:
        await manager.close()


def _run(work: Coroutine[None, None, None]) -> None:
    from proxy.cache.errors import CacheUnavailable

    try:
        asyncio.run(work)
    except CacheUnavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(UNAVAILABLE) from None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
