"""What goes wrong with the local stack."""

from pathlib import Path


class LocalStackError(Exception):
    """A local server could not be found, made, started or stopped; the text says what to do."""


class PortTakenError(LocalStackError):
    """A server found its port in use by another program."""


def log_tail(log_file: Path, lines: int = 12) -> str:
    """The last lines of a server's log, to be shown below an error."""
    try:
        text = log_file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(f"  | {line}" for line in text.splitlines()[-lines:])
