"""`penstock demo`: a proxy before a local stack of real servers, shown at work."""

from pathlib import Path
from typing import Annotated

import typer

from proxy.demo.place import default_place
from proxy.demo.run import DEFAULT_HTTP_PORT, DEFAULT_PORT, Options, run


def command(
    once: Annotated[
        bool, typer.Option("--once", help="End after the table, and leave nothing running.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Where data are kept.", show_default=str(default_place())),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Penstock's SQL port; 0: any free one.")
    ] = DEFAULT_PORT,
    http_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of its metrics; 0: any free one.")
    ] = DEFAULT_HTTP_PORT,
) -> None:
    """Start real servers and Penstock, run a workload, show what happened, stay up to be tried."""
    raise typer.Exit(run(Options(once, data, port, http_port)))
