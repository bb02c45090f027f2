"""Where a stack keeps its files."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from proxy.local.account import Account, enterable
from proxy.local.errors import LocalStackError
from proxy.local.staging import own_directory, shared_root

STATE = "stack.json"
LOCK = "lock"
# A Unix socket's whole path must fit into 107 bytes; this leaves room for "/.s.PGSQL.65535".
_LONGEST_SOCKET_DIR = 90


def default_data_dir() -> Path:
    """The user's data home (XDG Base Directory Specification), "penstock" within it."""
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "penstock"


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of one stack.

    `data_dir` is what the user named and holds our own records. `servers_dir` holds the servers'
    data: the same place, unless we are root and the servers' account can't get there.
    """

    data_dir: Path
    servers_dir: Path
    socket_dir: Path
    account: Account | None

    @property
    def state_file(self) -> Path:
        """What we remember of the stack between commands."""
        return self.data_dir / STATE

    @property
    def lock_file(self) -> Path:
        """Held while the stack is changed."""
        return self.data_dir / LOCK

    def server_dir(self, name: str) -> Path:
        """The data directory of one server."""
        return self.servers_dir / name

    def log_file(self, name: str) -> Path:
        """The log of one server."""
        return self.servers_dir / f"{name}.log"


def plan_layout(data_dir: Path, account: Account | None) -> Layout:
    """Decide where everything goes. Makes `data_dir` if there is none; changes nothing else.

    Raises LocalStackError when `data_dir` holds something that is not a stack.
    """
    data_dir = data_dir.expanduser().absolute()
    _claim(data_dir, account)
    digest = hashlib.sha256(str(data_dir.resolve()).encode()).hexdigest()[:12]
    servers_dir = data_dir.resolve()
    if account is not None and not enterable(servers_dir, account):
        servers_dir = shared_root() / "stacks" / digest
    socket_dir = servers_dir / "sockets"
    if len(os.fsencode(socket_dir)) > _LONGEST_SOCKET_DIR:
        socket_dir = Path(tempfile.gettempdir()) / f"penstock-{os.geteuid()}-{digest}"
    return Layout(data_dir, servers_dir, socket_dir, account)


def make_directories(layout: Layout) -> None:
    """Make the directories that servers need; those that exist already are checked for owners."""
    if layout.servers_dir != layout.data_dir.resolve():
        own_directory(layout.servers_dir.parent, mode=0o711)
        own_directory(layout.servers_dir, mode=0o711)
    own_directory(layout.socket_dir, mode=0o700, owner=layout.account)


def _claim(data_dir: Path, account: Account | None) -> None:
    """Make `data_dir`, or accept it when it is empty or holds a stack."""
    try:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        data_dir.mkdir(mode=0o700 if account is None else 0o711, exist_ok=True)
        names = {path.name for path in data_dir.iterdir()}
    except OSError as error:
        raise LocalStackError(
            f"{data_dir} can't be used for the stack's data: {error.strerror}; "
            "name another directory with --data"
        ) from error
    if names and not names & {STATE, LOCK}:
        raise LocalStackError(
            f"{data_dir} is not empty and holds no Penstock stack; "
            "name another directory with --data"
        )
