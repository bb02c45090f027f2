"""`penstock check`: is the configuration right, and what does it amount to?"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.config.settings import DatabaseSettings, Settings

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config", "-c", envvar="PENSTOCK_CONFIG", help="The main configuration file (TOML)."
    ),
]
"""The option that names the configuration, for every command that reads it."""


def load_or_exit(config: Path) -> "Settings":
    """The settings, or every problem on standard error and exit status 1."""
    from proxy.config.load import ConfigError, load

    try:
        return load(config, os.environ)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        count = len(error.problems)
        typer.echo(f"{count} problem{'s' if count > 1 else ''} found", err=True)
        raise typer.Exit(1) from None


def command(config: ConfigOption = Path("config.toml")) -> None:
    """Check the configuration: print a summary, or every problem (exit status 1)."""
    settings = load_or_exit(config)
    _load_auth_or_exit(settings)
    _check_tls(settings)
    for line in summary(settings):
        typer.echo(line)
    typer.echo(f"{config}: right")


def _check_tls(settings: "Settings") -> None:
    """Exit status 1 if the files of TLS can't be used."""
    from proxy.config.nodes import server_tls
    from proxy.net.contexts import TlsError, client_context, server_context

    try:
        if settings.client_tls.mode != "disable":
            client_context(settings.client_tls)
        for _, tls, section in server_tls(settings):
            if tls.mode != "disable":
                server_context(tls, section)
        if settings.cache.encrypted:
            server_context(settings.cache.tls, "cache.tls")
    except TlsError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _load_auth_or_exit(settings: "Settings") -> None:
    """Read the files that authentication is configured by, as `load_or_exit`."""
    from proxy.auth.load import load_auth
    from proxy.auth.problems import AuthError

    try:
        load_auth(settings)
    except AuthError as error:
        typer.echo(str(error), err=True)
        count = len(error.problems)
        typer.echo(f"{count} problem{'s' if count > 1 else ''} found", err=True)
        raise typer.Exit(1) from None


def summary(settings: "Settings") -> Iterator[str]:
    """What the settings amount to, a line each."""
    server = settings.server
    yield f"listens on {server.listen}, HTTP on {server.http_listen or 'no address'}"
    yield f"TLS: of clients {settings.client_tls.mode}, of servers {settings.server_tls.mode}"
    for name, database in settings.databases.items():
        yield from _database(name, database)
    users = ", ".join(user.name for user in settings.auth.users) or "none by name"
    if settings.auth.auth_file:
        users += f", those of {settings.auth.auth_file}"
    if settings.auth.auth_user:
        users += f", those that {settings.auth.auth_user} looks up"
    yield f"users ({settings.auth.method}): {users}"
    yield f"routing rules: {_named([rule.name for rule in settings.routing.rules])}"
    where = "" if settings.cache.has_store else " (no cache: cache.redis is not set)"
    yield f"cache rules: {_named([rule.name for rule in settings.cache.rules])}{where}"


def _database(name: str, database: "DatabaseSettings") -> Iterator[str]:
    replicas, sharding = database.replicas, database.sharding
    yield f"database {name}:"
    yield f"  primary {database.primary.host}:{database.primary.port}"
    for address in replicas.hosts:
        yield f"  replica {address}"
    if replicas.hosts:
        yield f"  reads: {replicas.read_preference}, {replicas.balance}"
    if sharding.enabled:
        for index, shard in enumerate(sharding.shards):
            yield f"  shard {index} {shard.host}:{shard.port} {shard.database or name}"
        tables = ", ".join(f"{table.name} by {table.key}" for table in sharding.tables)
        yield f"  sharded: {tables}"


def _named(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "none"
