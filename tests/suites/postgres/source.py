"""PostgreSQL's regression tests, from Debian's source package of the server that is installed.

Nothing of the system's package lists is changed: apt is given lists of its own for the source.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from proxy.local.programs import PostgresPrograms, find_postgres

_SOURCES = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d"))


class SuiteError(Exception):
    """What is missing on this machine, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Suite:
    """The tests and what they need: `regress` is src/test/regress, `libraries` the C code."""

    regress: Path
    libraries: Path
    programs: PostgresPrograms


def get_suite(directory: Path) -> Suite:
    """Fetch, unpack and build into `directory` what isn't there yet. Raises SuiteError."""
    programs = find_postgres(system=True)
    package = f"postgresql-{programs.version[0]}"
    version = _package_version(package)
    home = directory / version.replace("/", "_")
    done = home / "complete"
    if not done.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _fetch_source(home, package, version)
        _build_libraries(home, programs, version)
        done.touch()
    return Suite(_regress_in(home), home / "lib", programs)


def _package_version(package: str) -> str:
    query = ["dpkg-query", "-W", "-f", "${source:Version}", package]
    try:
        return _run(query, Path("/"))
    except SuiteError as error:
        raise SuiteError(
            f"the suite needs Debian's server: apt-get install {package} postgresql-contrib"
        ) from error


def _fetch_source(home: Path, package: str, version: str) -> None:
    lists = home / "apt"
    parts = lists / "parts"
    for path in (parts, lists / "lists" / "partial", lists / "cache" / "archives" / "partial"):
        path.mkdir(parents=True)
    for path in _configured():
        (parts / path.name).write_text(_as_source(path.read_text()))
    options = [
        *("-o", "Dir::Etc::SourceList=/dev/null", "-o", f"Dir::Etc::SourceParts={parts}"),
        *("-o", f"Dir::State::Lists={lists / 'lists'}", "-o", f"Dir::Cache={lists / 'cache'}"),
        *(("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()),
    ]
    _run(["apt-get", *options, "--quiet", "update"], home)
    _run(["apt-get", *options, "--download-only", "source", f"{package}={version}"], home)
    archives = sorted(home.glob("*.orig.tar.*"))
    if not archives:
        raise SuiteError(f"the source package {package} {version} has no archive of its sources")
    _run(["tar", "--extract", "--file", str(archives[0]), "--directory", str(home)], home)


def _configured() -> list[Path]:
    single, several = _SOURCES
    found = [*([single] if single.exists() else []), *sorted(several.glob("*"))]
    return [path for path in found if path.suffix in (".list", ".sources")]


def _as_source(text: str) -> str:
    """Package lists of binaries, in either format of apt's, as those of sources."""
    text = re.sub(r"^Types:.*$", "Types: deb-src", text, flags=re.MULTILINE)
    return re.sub(r"^deb(?=\s)", "deb-src", text, flags=re.MULTILINE)


def _regress_in(home: Path) -> Path:
    found = sorted(home.glob("*/src/test/regress"))
    if not found:
        raise SuiteError(f"no src/test/regress in the sources below {home}")
    return found[0]


def _build_libraries(home: Path, programs: PostgresPrograms, version: str) -> None:
    """regress.so from its source, and the modules of contrib/spi that tests load."""
    libraries = home / "lib"
    libraries.mkdir()
    major = programs.version[0]
    headers = Path(f"/usr/include/postgresql/{major}/server")
    root = Path("/")
    if not headers.exists():
        package = f"postgresql-server-dev-{major}"
        _run(["apt-get", "--quiet", "download", f"{package}={version}"], home)
        root = home / "headers"
        _run(["dpkg", "-x", str(next(home.glob(f"{package}_*.deb"))), str(root)], home)
        headers = root / headers.relative_to("/")
    source = _regress_in(home) / "regress.c"
    compiler = ["gcc", "-O1", "-w", "-fPIC", "-shared", "-D_GNU_SOURCE", f"-I{headers}"]
    _run([*compiler, "-o", str(libraries / "regress.so"), str(source)], home)
    installed = programs.bin_dir.parent / "lib"
    for name in ("autoinc.so", "refint.so"):
        shutil.copy(installed / name, libraries)


def _run(command: list[str], directory: Path) -> str:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    except OSError as error:
        raise SuiteError(f"{command[0]} could not be run: {error.strerror}") from error
    if done.returncode != 0:
        raise SuiteError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout.strip()
