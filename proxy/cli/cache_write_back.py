"""`penstock cache write-back …`: what write-back needs on the primary, and what waits in Redis.

Exit status: 0 all is well, or done; 1 something is missing, or writes wait or were refused; 2 wrong
arguments; 3 the server or Redis can't be reached, or refused.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.cache_feed import (
    DatabaseOption,
    UserOption,
    connect,
    databases_with,
    login_for,
    redis_of,
    run,
)
from proxy.cli.check import ConfigOption, load_or_exit

if TYPE_CHECKING:
    from proxy.config.settings import Settings

app = typer.Typer(
    help="Write-back: single-row writes are acknowledged by Redis and applied in batches.",
    no_args_is_help=True,
)


@app.command()
def setup(
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
    user: UserOption = None,
) -> None:
    """Make the tables that say how far writes have been applied, and let the login use them."""
    settings = load_or_exit(config)
    run(_setup(settings, _databases(settings, database), user))


@app.command()
def status(
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
    user: UserOption = None,
) -> None:
    """Say how many writes wait, and how many PostgreSQL has refused."""
    settings = load_or_exit(config)
    run(_status(settings, _databases(settings, database), user))


@app.command()
def drop(
    config: ConfigOption = Path("config.toml"),
    database: DatabaseOption = None,
    user: UserOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where writes wait or were refused: they are lost.")
    ] = False,
) -> None:
    """Remove the tables."""
    settings = load_or_exit(config)
    run(_drop(settings, _databases(settings, database), user, force))


def _databases(settings: "Settings", wanted: str | None) -> list[str]:
    from proxy.routing.rules import rules_of
    from proxy.routing.writing_back import tables_written_back

    return databases_with(
        settings,
        wanted,
        lambda name: bool(tables_written_back(rules_of(settings.cache.rules, name))),
        'no database has write-back: set strategy = "write-back" in a [[cache.rule]]',
    )


async def _setup(settings: "Settings", databases: list[str], user: str | None) -> bool:
    from proxy.cache.writeback import progress

    for name in databases:
        login = login_for(settings, name, settings.cache.write_back.user)
        connection = await connect(settings, name, user)
        try:
            await connection.execute(progress.INSTALL)
            await connection.execute(progress.grants(login))
        finally:
            await connection.close()
        typer.echo(f"{name}: schema {progress.SCHEMA} is there, and {login} may use it")
        typer.echo(f"{name}: {login} also needs SELECT, INSERT, UPDATE on the tables themselves")
    return True


async def _status(settings: "Settings", databases: list[str], user: str | None) -> bool:
    well = True
    for name in databases:
        waiting, rejected = await _counts(settings, name, user)
        typer.echo(f"{name}: {waiting} writes wait in Redis")
        if rejected is None:
            typer.echo(f"{name}: not set up: run penstock cache write-back setup")
        else:
            typer.echo(f"{name}: {rejected} writes were refused by PostgreSQL")
        well = well and not waiting and rejected == 0
    return well


async def _drop(settings: "Settings", databases: list[str], user: str | None, force: bool) -> bool:
    from proxy.cache.writeback import progress

    well = True
    for name in databases:
        waiting, rejected = await _counts(settings, name, user)
        if (waiting or rejected) and not force:
            typer.echo(
                f"{name}: {waiting} writes wait and {rejected} were refused: nothing was dropped; "
                "--force drops it all the same"
            )
            well = False
            continue
        connection = await connect(settings, name, user)
        try:
            await connection.execute(progress.UNINSTALL)
        finally:
            await connection.close()
        typer.echo(f"{name}: dropped the schema {progress.SCHEMA}")
    return well


async def _counts(settings: "Settings", name: str, user: str | None) -> tuple[int, int | None]:
    """(writes that wait, those that were refused; None: it is not set up)."""
    from proxy.cache.keys import KeySpace
    from proxy.cache.writeback import progress

    async with await redis_of(settings) as redis:
        stream = KeySpace(settings.cache.key_prefix, name).write_back("stream")
        waiting = int(await redis.xlen(stream))
    connection = await connect(settings, name, user)
    try:
        there = await connection.fetchval("SELECT to_regclass($1)", f"{progress.SCHEMA}.rejected")
        rejected = None
        if there is not None:
            rejected = await connection.fetchval(f"SELECT count(*) FROM {progress.SCHEMA}.rejected")
    finally:
        await connection.close()
    return waiting, rejected
