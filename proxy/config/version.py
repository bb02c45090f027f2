"""Which Penstock this is."""

from importlib import metadata


def version() -> str:
    """The installed distribution's version; "0+source" where it runs uninstalled."""
    try:
        return metadata.version("penstock")
    except metadata.PackageNotFoundError:
        return "0+source"
