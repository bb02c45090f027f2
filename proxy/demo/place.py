"""Where the demonstration keeps its files, and that only one runs there at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.demo.errors import DemoError
from proxy.local.layout import default_data_dir

_FILES = frozenset({"lock", "stack", "penstock.toml", "penstock.log"})


def default_place() -> Path:
    """Beside the directory of `penstock local`, whose servers the demonstration leaves alone."""
    return default_data_dir().with_name("penstock-demo")


@dataclass(frozen=True, slots=True)
class Place:
    """The directory that the user named, or the default."""

    directory: Path

    @property
    def stack_dir(self) -> Path:
        """The servers' data."""
        return self.directory / "stack"

    @property
    def config_file(self) -> Path:
        """Penstock's configuration, written at each start."""
        return self.directory / "penstock.toml"

    @property
    def log_file(self) -> Path:
        """What Penstock logged since the last start."""
        return self.directory / "penstock.log"


@contextmanager
def occupied(directory: Path) -> Iterator[Place]:
    """Make the directory where needed and hold its lock, which the kernel frees if we die.

    Raises DemoError when another demonstration runs there, or the directory can't be used.
    """
    directory = directory.expanduser().absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        foreign = sorted({path.name for path in directory.iterdir()} - _FILES)
        if foreign:
            raise DemoError(
                f"{directory} holds {foreign[0]!r}, which is not the demonstration's; "
                "name another directory with --data"
            )
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DemoError(
            f"{directory} can't be used: {error.strerror}; name another directory with --data"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DemoError(
                f"another demonstration runs in {directory}: end it, or run a second one with "
                "--data, --port and --http-port of its own"
            ) from None
        yield Place(directory)
    finally:
        os.close(descriptor)
