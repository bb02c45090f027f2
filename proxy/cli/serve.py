"""`penstock serve`: run the proxy in the foreground."""

import os
from pathlib import Path

import typer

from proxy.cli.check import ConfigOption, load_or_exit


def command(config: ConfigOption = Path("config.toml")) -> None:
    """Run the proxy until SIGTERM, SIGINT or SIGQUIT; SIGHUP reads the configuration again."""
    settings = load_or_exit(config)

    import uvloop

    from proxy.admin import logs
    from proxy.admin.http import ListenError
    from proxy.auth.problems import AuthError
    from proxy.config.load import load
    from proxy.server.process import Process
    from proxy.server.systemd import ActivationError, activated

    logs.configure(settings.log)
    try:
        process = Process(settings, lambda: load(config, os.environ), activated())
        uvloop.run(process.run())
    except AuthError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (ListenError, ActivationError) as error:
        typer.echo(f"penstock: {error}", err=True)
        raise typer.Exit(1) from None
