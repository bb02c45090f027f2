"""`penstock serve`: run the proxy in the foreground."""

import os
from collections.abc import Callable
from pathlib import Path

import typer

from proxy.cli.check import ConfigOption, load_or_exit
from proxy.config.settings import Settings


def command(config: ConfigOption = Path("config.toml")) -> None:
    """Run the proxy until SIGTERM, SIGINT or SIGQUIT; SIGHUP reads the configuration again."""
    settings = load_or_exit(config)

    import uvloop

    from proxy.admin import logs
    from proxy.admin.http import ListenError
    from proxy.auth.problems import AuthError
    from proxy.config.load import load
    from proxy.server.systemd import ActivationError
    from proxy.session.analyst import analyst
    from proxy.wire.errors import PgError

    logs.configure(settings.log)
    if settings.server.workers == 1:
        analyst.fork()
    try:
        uvloop.run(_serve(settings, lambda: load(config, os.environ)))
    except (AuthError, PgError) as error:  # the latter from a worker
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (ListenError, ActivationError) as error:
        typer.echo(f"penstock: {error}", err=True)
        raise typer.Exit(1) from None


async def _serve(settings: Settings, read: Callable[[], Settings]) -> None:
    from proxy.server.systemd import activated

    if settings.server.workers > 1:
        from proxy.server.fleet.supervisor import Supervisor

        await Supervisor(settings, read, activated()).run()
    else:
        from proxy.server.process import Process

        await Process(settings, read, activated()).run()
