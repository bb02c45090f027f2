"""`penstock local`, as a user types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from proxy.cli.local import app
from tests.stacks import PrivateStack


@pytest.fixture
def data_dir(private_stack: PrivateStack) -> Path:
    """The directory of a stack that was started and stopped."""
    stack = private_stack(replicas=1, redis=True)
    stack.stop()
    return stack.data_dir


def penstock_local(*arguments: str | Path, answer: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)


def test_up_status_down_reset(data_dir: Path) -> None:
    sizes = ("--replicas", "1", "--shards", "0")
    up = penstock_local("up", "--data", data_dir, *sizes)
    assert up.exit_code == 0, up.output
    assert "replica1 up on 127.0.0.1:" in up.output
    assert "postgresql://app:app@127.0.0.1:" in up.output
    again = penstock_local("up", "--data", data_dir, *sizes)
    assert "✓" not in again.output
    status = penstock_local("status", "--data", data_dir)
    assert status.exit_code == 0
    assert "streaming" in status.output
    assert penstock_local("down", "--data", data_dir).exit_code == 0
    status = penstock_local("status", "--data", data_dir)
    assert status.exit_code == 3
    assert "down" in status.output
    assert penstock_local("reset", "--data", data_dir, answer="n\n").exit_code == 1
    assert data_dir.exists()
    assert penstock_local("reset", "--data", data_dir, "--yes").exit_code == 0
    assert not data_dir.exists()


def test_a_stack_that_is_not_there(tmp_path: Path) -> None:
    for command in ("down", "status", "reset"):
        result = penstock_local(command, "--data", tmp_path / "none")
        assert result.exit_code == 1
        assert "`penstock local up` makes one" in result.output
    assert not (tmp_path / "none").exists()


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    for command in ("up", "reset"):
        result = penstock_local(command, "--data", tmp_path)
        assert result.exit_code == 1
        assert "holds no Penstock stack" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_impossible_numbers_are_refused(tmp_path: Path) -> None:
    assert "choose from 0 to 16" in penstock_local("up", "--replicas", "99").output
    assert "choose from 1024 to 65000" in penstock_local("up", "--port", "80").output


@pytest.mark.skipif(
    not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")), reason="no system PostgreSQL"
)
def test_system_servers(data_dir: Path) -> None:
    penstock_local("reset", "--data", data_dir, "--yes")
    sizes = ("--replicas", "1", "--shards", "1", "--no-redis")
    up = penstock_local("up", "--data", data_dir, "--system", *sizes)
    assert up.exit_code == 0, up.output
    assert "psql: /usr/lib/postgresql/" in up.output
    assert "streaming" in up.output
    assert penstock_local("reset", "--data", data_dir, "--yes").exit_code == 0
