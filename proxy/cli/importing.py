"""`penstock import FILE`: a configuration of PgBouncer or PgDog as Penstock's."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from proxy.config.foreign.draft import Draft

_OWNER_ONLY = 0o600
"""The file holds passwords."""


def command(
    file: Annotated[Path, typer.Argument(help="pgbouncer.ini or pgdog.toml.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: standard output.")
    ] = None,
    users: Annotated[
        Path | None, typer.Option("--users", help="PgDog's users.toml; default: beside FILE.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output.")] = False,
) -> None:
    """Write a config.toml from another pooler's, with remarks on what has no equal."""
    from proxy.config.foreign.draft import ImportFileError

    try:
        draft = _draft(file, users)
    except ImportFileError as error:
        typer.echo(f"penstock import: {error}", err=True)
        raise typer.Exit(1) from None
    text = draft.render()
    if output is None:
        typer.echo(text, nl=False)
    elif output.exists() and not force:
        typer.echo(f"penstock import: {output} exists: give another -o, or --force", err=True)
        raise typer.Exit(1)
    else:
        _write(output, text)
        typer.echo(f"{output} written", err=True)
    for remark in draft.without_equal:
        typer.echo(f"no equal: {remark}", err=True)
    problems = _problems(text)
    for problem in problems:
        typer.echo(f"to be put right: {problem}", err=True)
    raise typer.Exit(1 if problems else 0)


def _draft(file: Path, users: Path | None) -> "Draft":
    from proxy.config.foreign.pgbouncer import from_pgbouncer
    from proxy.config.foreign.pgdog import from_pgdog

    return from_pgdog(file, users) if file.suffix == ".toml" else from_pgbouncer(file)


def _write(path: Path, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, flags, _OWNER_ONLY), "w", encoding="utf-8") as file:
        file.write(text)


def _problems(text: str) -> list[str]:
    """What `penstock check` has against it, such as an address that can't be one."""
    from proxy.config.load import ConfigError, load

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "config.toml")
        _write(path, text)
        try:
            load(path, {})
        except ConfigError as error:
            return [str(problem).replace(f"{directory}/", "") for problem in error.problems]
    return []
