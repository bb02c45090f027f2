"""The state file and its lock."""

from dataclasses import replace
from pathlib import Path

import pytest

from proxy.local.errors import LocalStackError
from proxy.local.state import Owner, locked, new_state, read_state, write_state


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "stack.json"
    state = replace(new_state(), ports={"primary": 20_000, "replica1": 20_001}, owner=Owner(7, 1.5))
    write_state(path, state)
    assert read_state(path) == state
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["stack.json"]


def test_no_file_is_no_state(tmp_path: Path) -> None:
    assert read_state(tmp_path / "stack.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": 99, "owner": null}'])
def test_a_broken_file_is_named_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "stack.json"
    path.write_text(text)
    with pytest.raises(LocalStackError, match=r"stack\.json can't be read.*local reset"):
        read_state(path)


def test_every_stack_has_a_password_of_its_own() -> None:
    assert new_state().superuser_password != new_state().superuser_password


def test_the_lock_admits_one(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path), pytest.raises(LocalStackError, match="another process"):  # noqa: SIM117
        with locked(path, timeout=0.1):
            pass
    with locked(path, timeout=0.1):
        pass
