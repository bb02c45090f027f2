"""Whatever stands in a configuration's place, loading ends in settings or in problems in words."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.config.load import ConfigError, Problem, load
from proxy.config.reference import examples

VALUES = (
    "7",
    "-1",
    '"x"',
    '""',
    "true",
    "1.5",
    "nan",
    "[]",
    "{}",
    "[1]",
    "[[]]",
    "[{}]",
    "1979-05-27",
)

WHOLE = "\n".join(
    text for name, text in examples().items() if name not in ("", "database.NAME.sharding.shards")
)


def pairs() -> Iterator[tuple[int, str]]:
    """(line index, key) of every `key = value` on a line of its own."""
    for index, line in enumerate(WHOLE.splitlines()):
        key, equals, value = line.partition(" = ")
        if equals and not line.startswith(" ") and value != "[":
            yield index, key


def problems(path: Path) -> tuple[Problem, ...]:
    try:
        load(path, {"APP_PASSWORD": "pw"})
    except ConfigError as error:
        return error.problems
    return ()


@pytest.mark.parametrize(("index", "key"), list(pairs()))
def test_any_value_in_the_place_of_any_other(tmp_path: Path, index: int, key: str) -> None:
    lines = WHOLE.splitlines()
    path = tmp_path / "config.toml"
    for value in VALUES:
        lines[index] = f"{key} = {value}"
        path.write_text("\n".join(lines))
        assert all(p.message and p.file and p.key for p in problems(path)), value


@pytest.mark.parametrize(
    ("header", "value"), list(itertools.product(["server", "auth", "database", "sharding"], VALUES))
)
def test_any_value_in_the_place_of_a_section(tmp_path: Path, header: str, value: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"{header} = {value}\n")
    with pytest.raises(ConfigError):
        load(path, {"PENSTOCK_DATABASE__APP__PRIMARY__PORT": "5", "PENSTOCK_SERVER__LISTEN": "h:1"})
