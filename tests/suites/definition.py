"""The suites and what is known of them: two TOML files as values."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DIRECT = "direct"
DJANGO = "django"
"""The runner of Django's own tests; all others use pytest."""
RUNTESTS = "tests/runtests.py"


@dataclass(frozen=True, slots=True)
class Setting:
    """A way to the server: none of Penstock, or Penstock configured so."""

    name: str
    mode: str = "transaction"
    routed: bool = False
    """With replicas to read from and everything cached that can be."""


SETTINGS = (
    Setting(DIRECT),
    Setting("session", "session"),
    Setting("transaction", "transaction"),
    Setting("session-routed", "session", routed=True),
    Setting("transaction-routed", "transaction", routed=True),
)


@dataclass(frozen=True, slots=True)
class Suite:
    """One driver's tests.

    Attributes:
        package, version: the source distribution that holds them.
        source_variable: names an environment variable with the directory of the driver's sources,
            for one whose source distribution has no tests; "" otherwise.
        requirements: what its environment needs; with its own version, for pip.
        database: the database that its tests expect to be in.
        further_databases: others, some of which the tests create themselves.
        any_database: whether its tests make databases under names of their own.
        setup: SQL that is run in `database` before the tests, directly.
        runner: "pytest", or DJANGO.
        environment: variables for libpq or the tests; {host}, {port} and so on are filled in.
        arguments: for pytest, filled in likewise.
        tests: files or directories, relative to the sources; () for `arguments` to say.
        seconds: the longest that one run may take.
        by_default: whether it is run where no suite is named.
    """

    name: str
    package: str
    version: str
    requirements: tuple[str, ...]
    database: str
    environment: Mapping[str, str]
    arguments: tuple[str, ...]
    tests: tuple[str, ...]
    source_variable: str = ""
    further_databases: tuple[str, ...] = ()
    any_database: bool = False
    setup: tuple[str, ...] = ()
    runner: str = "pytest"
    seconds: float = 900.0
    by_default: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """Tests that can't pass through Penstock, and why."""

    suite: str
    settings: tuple[str, ...]
    """Names of settings; globs."""
    tests: tuple[str, ...]
    """Node ids; globs in which only `*` is special."""
    reason: str

    def covers(self, suite: str, setting: str, test: str) -> bool:
        """Whether this entry is about this test run so."""
        return (
            suite == self.suite
            and any(fnmatchcase(setting, glob) for glob in self.settings)
            and any(_matches(test, glob) for glob in self.tests)
        )


def _matches(test: str, glob: str) -> bool:
    return fnmatchcase(test, glob.replace("[", "[[]"))


def load_suites(file: Path = HERE / "suites.toml") -> dict[str, Suite]:
    """By name. Raises TypeError for a key that a suite doesn't have."""
    return {name: Suite(name=name, **_frozen(table)) for name, table in _read(file).items()}


def load_known(file: Path = HERE / "known.toml") -> tuple[Known, ...]:
    """All entries. Raises TypeError for a key that an entry doesn't have."""
    return tuple(Known(**_frozen(table)) for table in _read(file)["known"])


def _read(file: Path) -> dict[str, Any]:
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _frozen(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
