"""Copies bundled programs to where the servers' account can read them, once per version."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from proxy.local.account import Account, reachable
from proxy.local.errors import LocalStackError
from proxy.local.programs import PostgresPrograms, RedisProgram

_COMPLETE = "complete"


def shared_root() -> Path:
    """Our own directory that other accounts may enter, for root's copies and data.

    Raises LocalStackError when somebody else made a directory of that name.
    """
    base = Path("/var/tmp") if Path("/var/tmp").is_dir() else Path(tempfile.gettempdir())
    return own_directory(base / f"penstock-{os.geteuid()}", mode=0o711)


def own_directory(path: Path, mode: int, owner: Account | None = None) -> Path:
    """Make `path` with `mode`, or accept it when it is ours already.

    Raises LocalStackError when it is a link, or belongs to or is open to somebody else: in a
    directory that everybody may write, a foreign one could feed us foreign programs.
    """
    wanted = os.geteuid() if owner is None else owner.uid
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        sound = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
        if not sound or found.st_uid not in {wanted, os.geteuid()}:
            raise LocalStackError(
                f"{path} is in the way: it is not a directory that only this user can write; "
                "remove it and start again"
            ) from None
    if owner is not None:
        os.chown(path, owner.uid, owner.gid)
    path.chmod(mode)
    return path


def stage_postgres(programs: PostgresPrograms, account: Account | None) -> PostgresPrograms:
    """The same programs at a place where `account` can run them."""
    if account is None or reachable(programs.bin_dir / "postgres", account):
        return programs
    if not programs.bundled:
        raise LocalStackError(
            f"the account {account.name} can't read {programs.bin_dir}; "
            "install PostgreSQL from packages, or use the bundled one (without --system)"
        )
    major, minor = programs.version
    target = (
        _programs_dir() / f"postgres-{major}.{minor}-{_fingerprint(programs.bin_dir / 'postgres')}"
    )
    package = target / programs.root.name
    if not (target / _COMPLETE).exists():
        with _making(target) as fresh:
            _copy_postgres(programs.root, fresh)
    return replace(programs, bin_dir=package / "pginstall" / "bin", root=package)


def stage_redis(program: RedisProgram, account: Account | None) -> RedisProgram:
    """The same server at a place where `account` can run it."""
    if account is None or reachable(program.server, account):
        return program
    target = _programs_dir() / (
        f"{program.label.lower().replace(' ', '-')}-{_fingerprint(program.server)}"
    )
    if not (target / _COMPLETE).exists():
        with _making(target) as fresh:
            shutil.copy(program.server, fresh / program.server.name)
    return replace(program, server=target / program.server.name)


def _programs_dir() -> Path:
    return own_directory(shared_root() / "programs", mode=0o711)


def _fingerprint(program: Path) -> str:
    """Tells builds of one version apart by their size; the same wheel installed twice is one."""
    return f"{program.stat().st_size:x}"


def _copy_postgres(package: Path, target: Path) -> None:
    """The package and the libraries beside it that its programs find by a relative path."""
    shutil.copytree(
        package / "pginstall",
        target / package.name / "pginstall",
        ignore=shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig"),
        symlinks=True,
    )
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)


@contextmanager
def _making(target: Path) -> Iterator[Path]:
    """Fills a directory under another name and renames it when complete, so none is half-made."""
    fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    try:
        yield fresh
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        (fresh / _COMPLETE).touch()
        try:
            fresh.rename(target)
        except OSError:  # another process was faster, and its copy is as good
            if not (target / _COMPLETE).exists():
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
