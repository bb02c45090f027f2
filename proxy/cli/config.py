"""`penstock config …`: about the configuration itself."""

import typer

app = typer.Typer(help="About the configuration itself.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def reference() -> None:
    """Print the page docs/configuration.md: every setting, from its type."""
    from proxy.config.reference import page

    typer.echo(page(), nl=False)
