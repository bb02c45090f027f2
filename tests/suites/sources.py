"""A driver's tests and the environment that they run in, fetched by name and version with pip."""

import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.suites.definition import DJANGO, RUNTESTS, Suite

FETCH_SECONDS = 300.0


class Unavailable(Exception):
    """The suite can't be had here; the message says why."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A suite that can be run."""

    suite: Suite
    directory: Path
    """Of the driver's sources."""
    python: Path


def prepare(suite: Suite, cache: Path) -> Ready:
    """Fetch what is missing in `cache`. Raises Unavailable."""
    home = cache / f"{suite.package}-{suite.version}"
    directory = _given(suite) if suite.source_variable else _fetched(suite, home)
    first = RUNTESTS if suite.runner == DJANGO else suite.tests[0]
    if not (directory / first).exists():
        raise Unavailable(f"{suite.name}: {directory} has no {first}")
    return Ready(suite, directory, _environment(suite, cache / "environments" / suite.name))


def _given(suite: Suite) -> Path:
    path = os.environ.get(suite.source_variable)
    if not path:
        raise Unavailable(
            f"{suite.name}: its source distribution has no tests; set {suite.source_variable} to "
            f"a checkout of the driver's repository, best at version {suite.version}"
        )
    return Path(path).resolve()


def _fetched(suite: Suite, home: Path) -> Path:
    directory = home / f"{suite.package}-{suite.version}"
    if not directory.is_dir():
        home.mkdir(parents=True, exist_ok=True)
        requirement = f"{suite.package}=={suite.version}"
        options = ["--no-deps", "--no-binary", ":all:", "--dest", str(home)]
        _pip(Path(sys.executable), suite, "download", *options, requirement)
        archives = sorted(home.glob("*.tar.gz"))
        if not archives:
            raise Unavailable(f"{suite.name}: pip gave no source distribution of {requirement}")
        with tarfile.open(archives[0]) as archive:
            archive.extractall(home, filter="data")
    return directory


def _environment(suite: Suite, place: Path) -> Path:
    python, stamp = place / "bin" / "python", place / ".made-for"
    wanted = "\n".join(suite.requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        _pip(python, suite, "install", *suite.requirements)
        stamp.write_text(wanted)
    return python


def _pip(python: Path, suite: Suite, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{suite.name}: pip took longer than {FETCH_SECONDS:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Unavailable(f"{suite.name}: pip {arguments[0]} failed: {last}")
