"""The command `penstock`: its subcommands live in the modules that `COMMANDS` names.

Only the module of the command that was asked for is imported, so that `penstock check` does not pay
for the servers that `penstock local` starts.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated

import typer

from proxy.config.version import version

COMMANDS = {
    "serve": "proxy.cli.serve",
    "check": "proxy.cli.check",
    "import": "proxy.cli.importing",
    "explain": "proxy.cli.explain",
    "cache": "proxy.cli.cache",
    "config": "proxy.cli.config",
    "local": "proxy.cli.local",
    "demo": "proxy.cli.demo",
}
"""Command to module: with `app`, a Typer of subcommands, or else with `command`, a function."""


def build(wanted: str | None = None) -> typer.Typer:
    """The command line with the command `wanted`, or with all where that is none of them."""
    app = typer.Typer(
        name="penstock",
        help="A PostgreSQL proxy: pooling, reads on replicas, cached results, sharding.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name in [wanted] if wanted in COMMANDS else COMMANDS:
        if find_spec(COMMANDS[name]) is None:
            continue  # an installation may leave out what it does not need
        module = import_module(COMMANDS[name])
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(module.command)
    return app


def main() -> None:
    """Entry point of the console script."""
    build(sys.argv[1] if len(sys.argv) > 1 else None)(prog_name="penstock")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"penstock {version()}")
        raise typer.Exit


def _options(
    print_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
