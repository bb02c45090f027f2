"""Secrets that a command prints, such as that of a password store."""

import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

_TIMEOUT = 10.0


def secret_of_command(command: str, directory: Path, environ: Mapping[str, str]) -> str:
    """What the command prints, less the end of its last line. No shell is between.

    Raises ValueError with a text that repeats neither output nor arguments.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"the command can't be split into words: {error}") from None
    if not words:
        raise ValueError("there is no command after command:")
    program = words[0]
    try:
        ended = subprocess.run(
            words,
            cwd=directory,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except OSError as error:
        raise ValueError(f"the command {program} can't be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"the command {program} did not end within {_TIMEOUT:g} s") from None
    if ended.returncode:
        raise ValueError(
            f"the command {program} failed with status {ended.returncode}: run it to see why"
        )
    try:
        secret = ended.stdout.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"the command {program} printed what is not UTF-8 text") from None
    if not secret:
        raise ValueError(f"the command {program} printed nothing")
    return secret
