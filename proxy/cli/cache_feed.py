"""`penstock cache feed …`: what the change feed needs on the primary.

Exit status: 0 all is well, or done; 1 something is missing, which is said in words; 2 wrong
arguments; 3 the server or Redis can't be reached, or refused.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from proxy.cli.check import ConfigOption, load_or_exit

if TYPE_CHECKING:
    from proxy.cache.feed.setup import Inspection, Wanted
    from proxy.config.settings import Settings
    from proxy.topology.connect import Connection

app = typer.Typer(
    help="The change feed: writes around Penstock invalidate what is cached.",
    no_args_is_help=True,
)

UNAVAILABLE = 3

DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", "-d", help="Only this one. Default: all with a change feed."),
]
UserOption = Annotated[
    str | None,
    typer.Option(
        "--user",
        "-U",
        help="Log in to the primary as this role, with the password in PGPASSWORD. Default: the "
        "login of Penstock's own connections.",
    ),
]


@app.command()
def setup(
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
    user: UserOption = None,
    all_tables: Annotated[
        bool,
        typer.Option(
            "--all-tables",
            help="Publish all tables, also those to come, and not only those of cache rules. "
            "UPDATE and DELETE then fail on tables without a primary key or replica identity.",
        ),
    ] = False,
) -> None:
    """Make the publication and, as a superuser, the event triggers; turn a feed on again."""
    settings = load_or_exit(config)
    run(_setup(settings, _databases(settings, database), user, all_tables))


@app.command()
def status(
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
    user: UserOption = None,
) -> None:
    """Say what is there, what is missing, and how to mend it."""
    settings = load_or_exit(config)
    run(_status(settings, _databases(settings, database), user))


@app.command()
def drop(
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
    user: UserOption = None,
) -> None:
    """Remove slot, publication and event triggers."""
    settings = load_or_exit(config)
    run(_drop(settings, _databases(settings, database), user))


async def _setup(
    settings: "Settings", databases: list[str], user: str | None, all_tables: bool
) -> bool:
    from proxy.cache.feed.setup import inspect, install

    well = True
    for name in databases:
        connection = await connect(settings, name, user)
        try:
            wanted = await _wanted(settings, name, connection, all_tables=all_tables)
            found = await inspect(connection, wanted)
            everything = wanted.tables is None
            if everything and found.unidentified and not found.has_publication:
                well = _show(name, found)
                _say(name, ["nothing was changed"])
                continue
            done = await install(connection, wanted, found, all_tables=everything)
            _say(name, done or ["nothing was to be made"])
            well = _show(name, await inspect(connection, wanted)) and well
        finally:
            await connection.close()
        if await _forget(settings, name, "off"):
            _say(name, ["the feed had been turned off, and may be read again"])
    return well


async def _status(settings: "Settings", databases: list[str], user: str | None) -> bool:
    from proxy.cache.feed.setup import inspect

    well = True
    for name in databases:
        connection = await connect(settings, name, user)
        try:
            found = await inspect(connection, await _wanted(settings, name, connection))
        finally:
            await connection.close()
        off, consumer, position = await _told(settings, name)
        if off is not None:
            found.problems.append(f"the feed was turned off: {off}")
        found.facts.append(f"read by: {consumer or 'nobody'}; position: {position or 'none'}")
        well = _show(name, found) and well
    return well


async def _drop(settings: "Settings", databases: list[str], user: str | None) -> bool:
    from proxy.cache.feed.setup import uninstall

    for name in databases:
        connection = await connect(settings, name, user)
        try:
            done = await uninstall(connection, await _wanted(settings, name, connection))
        finally:
            await connection.close()
        await _forget(settings, name, "position", "off")
        _say(name, done or ["nothing was there"])
    return True


def _show(name: str, found: "Inspection") -> bool:
    _say(name, found.facts)
    _say(name, ("problem: " + text for text in found.problems))
    _say(name, ("advice: " + text for text in found.advice))
    if not found.problems:
        _say(name, ["the change feed can be read"])
    return not found.problems


def _say(name: str, lines: "Iterator[str] | list[str]") -> None:
    for line in lines:
        typer.echo(f"{name}: {line}")


def _databases(settings: "Settings", wanted: str | None) -> list[str]:
    from proxy.config.pooling import feed_settings

    return databases_with(
        settings,
        wanted,
        lambda name: feed_settings(settings, name).enabled,
        "no database has a change feed: set enabled = true in [cache.feed]",
    )


def databases_with(
    settings: "Settings", wanted: str | None, has: Callable[[str], bool], none: str
) -> list[str]:
    """The one that is wanted, or all that `has` is true of; `none`: what to say without any."""
    from proxy.config.pooling import WILDCARD

    known = [name for name in settings.databases if name != WILDCARD]
    if wanted is not None:
        if wanted not in known:
            raise typer.BadParameter(
                f"{wanted!r} is not configured; there are: {', '.join(known)}",
                param_hint="--database",
            )
        return [wanted]
    enabled = [name for name in known if has(name)]
    if not enabled:
        typer.echo(none, err=True)
        raise typer.Exit(1)
    return enabled


async def connect(settings: "Settings", name: str, user: str | None) -> "Connection":
    """To the primary, as this user or as Penstock's own connections."""
    from proxy.auth.load import load_auth
    from proxy.auth.state import AuthState
    from proxy.server.databases import settings_of
    from proxy.server.security import Security
    from proxy.topology.build import build_topology
    from proxy.topology.connect import connect
    from proxy.wire.passwords import PlainPassword

    own = settings_of(settings, name)
    address = build_topology(name, own, Security(settings).dialing(name)).primary.address
    if user is not None:
        login: tuple[str, str | None] = (user, os.environ.get("PGPASSWORD"))
    else:
        auth = AuthState(load_auth(settings))
        role = own.monitor_user or auth.current.first_user or "postgres"
        secret = auth.server_secret(name, role)
        login = (role, secret.text if isinstance(secret, PlainPassword) else None)
    return await connect(address, login, 10.0, "feed setup")


async def _wanted(
    settings: "Settings", name: str, connection: "Connection", *, all_tables: bool = False
) -> "Wanted":
    from proxy.cache.feed.setup import Wanted, tables_of_rules
    from proxy.cache.feed.slot import slot_name
    from proxy.config.pooling import feed_settings
    from proxy.topology.catalogue_loader import load_catalogue

    feed = feed_settings(settings, name)
    login = login_for(settings, name, feed.user)
    catalogue = await load_catalogue(connection)
    tables = None if all_tables else tables_of_rules(settings.cache.rules, catalogue)
    return Wanted(feed.publication, slot_name(feed.slot, name), login, tables)


def login_for(settings: "Settings", name: str, wanted: str | None) -> str:
    """The user of Penstock's own connections to a database, where none other is `wanted`."""
    from proxy.auth.load import load_auth
    from proxy.server.databases import settings_of

    own = settings_of(settings, name).monitor_user
    return wanted or own or load_auth(settings).first_user or "postgres"


async def _told(settings: "Settings", name: str) -> tuple[str | None, str | None, str | None]:
    """(why it is off, who reads it, how far it is) by Redis."""
    from proxy.cache.feed.position import Position
    from proxy.cache.keys import KeySpace
    from proxy.topology.positions import format_lsn

    keys = KeySpace(settings.cache.key_prefix, name)
    async with await redis_of(settings) as redis:
        found = [await redis.get(keys.feed(what)) for what in ("off", "alive", "position")]
    off, alive, position = found
    at = Position.decode(position)
    return (
        off.decode() if off else None,
        alive.decode() if alive else None,
        format_lsn(at.lsn) if at else None,
    )


async def _forget(settings: "Settings", name: str, *what: str) -> bool:
    from proxy.cache.keys import KeySpace

    keys = KeySpace(settings.cache.key_prefix, name)
    async with await redis_of(settings) as redis:
        return bool(await redis.delete(*(keys.feed(one) for one in what)))


async def redis_of(settings: "Settings") -> Any:
    """A client; redis-py doesn't type its replies as bytes."""
    from proxy.cache.manager import open_redis

    if not settings.cache.has_store:
        typer.echo("no cache is configured: set redis in [cache]", err=True)
        raise typer.Exit(1)
    return await open_redis(settings.cache, 5.0)


def run(work: Coroutine[None, None, bool]) -> None:
    """Run the command; the process's exit status says how it went."""
    from redis.exceptions import RedisError

    from proxy.cache.errors import CacheUnavailable
    from proxy.topology.connect import LOST, reason

    try:
        well = asyncio.run(work)
    except (RedisError, CacheUnavailable) as error:
        typer.echo(f"Redis: {error}", err=True)
        raise typer.Exit(UNAVAILABLE) from None
    except LOST as error:
        typer.echo(f"the primary: {reason(error)}", err=True)
        raise typer.Exit(UNAVAILABLE) from None
    if not well:
        raise typer.Exit(1)
