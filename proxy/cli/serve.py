"""`penstock serve`: run the proxy in the foreground."""

from pathlib import Path

import typer

from proxy.cli.check import ConfigOption, load_or_exit


def command(config: ConfigOption = Path("config.toml")) -> None:
    """Run the proxy until SIGINT or SIGTERM."""
    settings = load_or_exit(config)

    import uvloop

    from proxy.admin import logs
    from proxy.admin.http import ListenError
    from proxy.server.process import Process

    logs.configure(settings.log)
    try:
        uvloop.run(Process(settings).run())
    except ListenError as error:
        typer.echo(f"penstock: {error}", err=True)
        raise typer.Exit(1) from None
