"""Whether the servers' account can get somewhere is judged by mode bits, and nothing is changed."""

import os
from pathlib import Path

import pytest

from proxy.local.account import Account, enterable, reachable
from proxy.local.errors import LocalStackError
from proxy.local.layout import default_data_dir, plan_layout
from proxy.local.staging import own_directory

STRANGER = Account("stranger", 65_533, 65_533)
OURSELVES = Account("ourselves", os.getuid(), os.getgid())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory within one that only we may enter (pytest's own are all like that)."""
    tmp_path.chmod(0o700)
    inner = tmp_path / "inner"
    inner.mkdir(mode=0o755)
    (inner / "file").write_text("")
    return inner


@pytest.mark.parametrize(
    ("mode", "account", "expected"),
    [
        (0o755, OURSELVES, True),
        (0o055, OURSELVES, False),
        (0o600, OURSELVES, False),
    ],
)
def test_the_owners_bits_count_for_the_owner(
    tree: Path, mode: int, account: Account, expected: bool
) -> None:
    tree.chmod(mode)
    try:
        assert enterable(tree, account) is expected
    finally:
        tree.chmod(0o755)


def test_one_closed_directory_above_is_enough(tree: Path) -> None:
    assert enterable(Path("/"), STRANGER)
    assert not enterable(tree, STRANGER)
    assert not reachable(tree / "file", STRANGER)
    assert reachable(tree / "file", OURSELVES)


def test_what_does_not_exist_is_not_reachable(tree: Path) -> None:
    assert not reachable(tree / "missing", OURSELVES)


def test_a_directory_that_others_can_write_is_not_taken_for_ours(tmp_path: Path) -> None:
    theirs = tmp_path / "penstock"
    theirs.mkdir()
    theirs.chmod(0o777)
    with pytest.raises(LocalStackError, match="is in the way"):
        own_directory(theirs, mode=0o711)
    assert theirs.stat().st_mode & 0o777 == 0o777


def test_a_link_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "penstock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LocalStackError, match="is in the way"):
        own_directory(tmp_path / "penstock", mode=0o711)


def test_our_own_directory_is_taken_again(tmp_path: Path) -> None:
    made = own_directory(tmp_path / "penstock", mode=0o711)
    assert own_directory(tmp_path / "penstock", mode=0o711) == made
    assert made.stat().st_mode & 0o777 == 0o711


def test_the_servers_stay_in_the_data_directory_when_we_run_them_ourselves(tree: Path) -> None:
    layout = plan_layout(tree / "stack", None)
    assert layout.servers_dir == tree / "stack"
    assert layout.server_dir("primary") == tree / "stack" / "primary"


def test_sockets_move_out_of_a_deep_directory(tree: Path) -> None:
    deep = tree / ("d" * 60) / ("e" * 60)
    layout = plan_layout(deep, None)
    assert len(str(layout.socket_dir)) < 90
    assert plan_layout(deep, None).socket_dir == layout.socket_dir
    assert plan_layout(deep.with_name("f" * 60), None).socket_dir != layout.socket_dir


def test_a_foreign_directory_is_refused(tree: Path) -> None:
    with pytest.raises(LocalStackError, match="holds no Penstock stack"):
        plan_layout(tree, None)


def test_a_file_is_no_directory(tree: Path) -> None:
    with pytest.raises(LocalStackError, match="name another directory with --data"):
        plan_layout(tree / "file", None)


def test_the_default_is_the_users_data_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "penstock"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / ".local/share/penstock"
