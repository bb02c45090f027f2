"""`penstock explain "SQL"`: where would it go, would it be cached, and why?"""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from proxy.cli.check import ConfigOption, load_or_exit

if TYPE_CHECKING:
    from proxy.config.settings import Settings
    from proxy.routing.explain import Rows

_TIMEOUT = 3.0
"""Seconds for a running proxy to answer."""


class NoAnswer(Exception):
    """A running proxy can't be asked; the text says why."""


def command(
    sql: Annotated[str, typer.Argument(help="The statement to explain; it is not run.")],
    config: ConfigOption = Path("config.toml"),
    database: Annotated[
        str | None, typer.Option("--database", "-d", help="Default: the first one configured.")
    ] = None,
    connect: Annotated[
        str | None,
        typer.Option("--connect", help="URL of a running proxy to ask instead: postgresql://…"),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no running proxy: judge by the text alone.")
    ] = False,
) -> None:
    """Explain where a statement goes and whether it is cached."""
    if connect is not None:
        try:
            rows = asyncio.run(ask(connect, sql))
        except NoAnswer as error:
            typer.echo(f"{connect.rpartition('@')[2]}: {error}", err=True)
            raise typer.Exit(1) from None
        show(rows)
        return
    from proxy.config.pooling import WILDCARD, database_settings

    settings = load_or_exit(config)
    name = database or next((one for one in settings.databases if one != WILDCARD), None)
    if name is None or database_settings(settings, name) is None:
        known = ", ".join(settings.databases) or "none"
        typer.echo(f"database {name!r} is not configured; configured: {known}", err=True)
        raise typer.Exit(1)
    if not offline:
        try:
            show(asyncio.run(ask_configured(settings, name, sql)))
            return
        except NoAnswer as error:
            reason = f"no running proxy was asked ({error})"
    else:
        reason = "no running proxy was asked"
    show((*judge_offline(settings, name, sql), ("judged by", f"the text alone: {reason}")))


async def ask_configured(settings: "Settings", database: str, sql: str) -> "Rows":
    """What the proxy that listens where `settings` say answers. Raises NoAnswer."""
    from urllib.parse import quote

    if not settings.auth.users:
        raise NoAnswer("the configuration has no user to log in as")
    user, listen = settings.auth.users[0], settings.server.listen
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)
    host = f"[{host}]" if ":" in host else host
    secret = f":{quote(user.password.get_secret_value(), safe='')}" if user.password else ""
    login = f"{quote(user.name, safe='')}{secret}"
    return await ask(f"postgresql://{login}@{host}:{listen.port}/{quote(database)}", sql)


async def ask(url: str, sql: str) -> "Rows":
    """What the proxy at `url` answers to SHOW ROUTE FOR. Raises NoAnswer."""
    import asyncpg

    try:
        async with asyncio.timeout(_TIMEOUT):
            connection = await asyncpg.connect(url, ssl=False, statement_cache_size=0)
            try:
                records = await connection.fetch(f"SHOW ROUTE FOR {sql}")
            finally:
                connection.terminate()
    except TimeoutError:
        raise NoAnswer(f"no answer within {_TIMEOUT:g} s") from None
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NoAnswer(str(error)) from error
    if any(len(record) != 2 for record in records):
        raise NoAnswer("the answer is not a table of properties: is this Penstock?")
    return tuple((str(record[0]), str(record[1])) for record in records)


def judge_offline(settings: "Settings", database: str, sql: str) -> "Rows":
    """What can be said without a server: no catalogue, and every configured node taken as up."""
    from proxy.config.pooling import database_settings
    from proxy.routing.decide import decide
    from proxy.routing.explain import describe
    from proxy.routing.planner import Planner
    from proxy.routing.route import Facts, Refused
    from proxy.sharding.shardmap import HashShardMap
    from proxy.sql.analyse import analyse
    from proxy.sql.catalogue import Catalogue
    from proxy.topology.build import build_topology

    chosen = database_settings(settings, database)
    assert chosen is not None
    shards = HashShardMap(chosen.sharding)
    planner = Planner(settings.routing, settings.cache, Catalogue(), shards, database=database)
    plan = planner.plan(analyse(sql))
    topology = build_topology(database, chosen)
    for node in topology.nodes():
        node.healthy = True
    if plan.refusal is not None:
        return describe(plan, plan.refusal)
    if plan.call is not None:
        kind = f"call of penstock.{plan.call.function}"
        return (("kind", kind), ("route", "answered by Penstock itself"))
    try:
        return describe(plan, decide(plan, Facts(), topology, chosen.replicas, turn=0))
    except Refused as refused:
        return describe(plan, refused)


def show(rows: "Rows") -> None:
    """Print the rows as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("property", "value", show_lines=False)
    for name, value in rows:
        table.add_row(name, value)
    Console(markup=False, highlight=False).print(table)
