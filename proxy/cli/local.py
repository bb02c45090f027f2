"""`penstock local`: a stack of real servers, for development, demonstration and tests."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from proxy.local.errors import LocalStackError
from proxy.local.layout import default_data_dir
from proxy.local.stack import Stack, StackOptions, find_stack, open_stack, remove_stack
from proxy.local.start import start_stack
from proxy.local.status import ServerStatus, stack_status

app = typer.Typer(help="Real PostgreSQL and Redis servers on this machine.", no_args_is_help=True)
_output = Console()
_errors = Console(stderr=True)
_COLOURS = {"up": "green", "down": "red", "not answering": "yellow"}

DataDir = Annotated[
    Path | None,
    typer.Option("--data", help="Where the stack lives.", show_default=str(default_data_dir())),
]


@app.command()
def up(
    data: DataDir = None,
    replicas: Annotated[int, typer.Option(help="Streaming standbys of the primary.")] = 2,
    shards: Annotated[int, typer.Option(help="Further servers to spread tables over.")] = 2,
    redis: Annotated[bool, typer.Option(help="Start a Redis.")] = True,
    system: Annotated[
        bool, typer.Option("--system", help="Use only servers installed on the system.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(help="The primary's; the others follow it.", show_default="free ones"),
    ] = None,
) -> None:
    """Start the stack. Starts what is down, and nothing twice."""
    options = StackOptions(
        data_dir=data,
        replicas=replicas,
        shards=shards,
        redis=redis,
        system=system,
        port=port,
        detach=True,
    )
    try:
        with _output.status("Starting the local stack"):
            stack = start_stack(options, progress=_show_step)
    except LocalStackError as error:
        raise _fail(error) from error
    _show_table(stack)
    _output.print(f"\npsql: {stack.psql} {stack.dsn()}", soft_wrap=True, highlight=False)


@app.command()
def down(data: DataDir = None) -> None:
    """Stop all servers of the stack and keep their data."""
    try:
        stack = _existing(data)
        with _output.status("Stopping the local stack"):
            stack.stop()
    except LocalStackError as error:
        raise _fail(error) from error
    _output.print(f"stopped; data are kept in {stack.data_dir}")


@app.command()
def status(data: DataDir = None) -> None:
    """Show every server. The exit code is 0 when all are up, otherwise 3."""
    try:
        lines = _show_table(_existing(data))
    except LocalStackError as error:
        raise _fail(error) from error
    if any(line.state != "up" for line in lines):
        raise typer.Exit(3)


@app.command()
def reset(
    data: DataDir = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Stop the stack and remove all its data."""
    try:
        layout = find_stack(data)
        if layout is None:
            raise _no_stack(data)
        if not yes:
            typer.confirm(f"Remove all data of the stack in {layout.data_dir}?", abort=True)
        remove_stack(layout)
    except LocalStackError as error:
        raise _fail(error) from error
    _output.print(f"removed the stack in {layout.data_dir}")


def _existing(data: Path | None) -> Stack:
    stack = open_stack(data)
    if stack is None:
        raise _no_stack(data)
    return stack


def _no_stack(data: Path | None) -> LocalStackError:
    where = data or default_data_dir()
    return LocalStackError(f"there is no stack in {where}; `penstock local up` makes one")


def _show_step(server: str, what: str) -> None:
    _output.print(f"[green]✓[/] [bold]{server}[/] {what}", highlight=False)


def _show_table(stack: Stack) -> list[ServerStatus]:
    lines = stack_status(stack)
    table = Table("server", "role", "address", "state", "pid", "up for", "", box=None)
    for line in lines:
        uptime = "" if line.uptime is None else str(timedelta(seconds=int(line.uptime)))
        state = f"[{_COLOURS[line.state]}]{line.state}[/]"
        pid = "" if line.pid is None else str(line.pid)
        table.add_row(line.name, line.role, line.address, state, pid, uptime, line.detail)
    _output.print(table)
    return lines


def _fail(error: LocalStackError) -> typer.Exit:
    _errors.print(f"[red]error:[/] {error}", highlight=False, soft_wrap=True)
    return typer.Exit(1)
