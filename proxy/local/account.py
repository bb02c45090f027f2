"""Who runs the servers: PostgreSQL refuses to run as root, so root lends it an account."""

import os
import pwd
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from proxy.local.errors import LocalStackError

# The account with the fewest rights first.
CANDIDATES = ("nobody", "postgres", "daemon")


@dataclass(frozen=True, slots=True)
class Account:
    """An existing, unprivileged account of the operating system."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The account that servers run under; None when that is simply our own.

    Raises LocalStackError when we are root and no unprivileged account exists.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise LocalStackError(
        f"PostgreSQL refuses to run as root and none of the accounts {', '.join(CANDIDATES)} "
        "exists; create one (useradd --system postgres) or run as another user"
    )


def reachable(path: Path, account: Account) -> bool:
    """Whether `account` may read `path` and enter every directory above it, by mode bits alone."""
    path = path.resolve()
    wanted = stat.S_IXOTH | stat.S_IROTH if path.is_dir() else stat.S_IROTH
    return _allowed(path, account, wanted) and enterable(path.parent, account)


def enterable(directory: Path, account: Account) -> bool:
    """Whether `account` may pass through `directory` and all above it."""
    directory = directory.resolve()
    return all(_allowed(part, account, stat.S_IXOTH) for part in (directory, *directory.parents))


def give(account: Account | None, paths: Sequence[Path]) -> None:
    """Make `account` the owner of the files that we created for it."""
    if account is not None:
        for path in paths:
            os.chown(path, account.uid, account.gid)


def _allowed(path: Path, account: Account, others: int) -> bool:
    """`others` holds the bits wanted as they stand for "others"; owner and group are shifted."""
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_uid == account.uid:
        wanted = others << 6
    elif found.st_gid == account.gid:
        wanted = others << 3
    else:
        wanted = others
    return found.st_mode & wanted == wanted
