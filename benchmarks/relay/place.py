"""Where a benchmark runs: the servers behind all contenders, and room for their files."""

from dataclasses import dataclass
from pathlib import Path

from proxy.local.account import Account, give
from proxy.local.stack import Stack


@dataclass(frozen=True, slots=True)
class Place:
    """See the module's docstring.

    Attributes:
        directory: for files; removed at the end.
        account: whom programs run as that refuse to run as root; None: as ourselves.
        pool_size: server connections that a proxy may have to each server.
        clients: the most that any case has.
    """

    directory: Path
    stack: Stack
    account: Account | None
    pool_size: int
    clients: int

    def folder(self, name: str) -> Path:
        """A new folder that the account may write in."""
        folder = self.directory / name
        folder.mkdir(mode=0o700)
        give(self.account, [folder])
        return folder

    def write(self, path: Path, text: str) -> Path:
        """A file that only the account may read, for it may hold passwords."""
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        give(self.account, [path])
        return path


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where clients connect to, and the process whose cost is measured, with its children.

    Attributes:
        pid: None for a server without proxy.
        metrics_url: of a Penstock.
    """

    port: int
    pid: int | None = None
    metrics_url: str | None = None
