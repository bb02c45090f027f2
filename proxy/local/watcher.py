"""Ends stacks whose owner is gone: `python -m proxy.local.watcher ROOT PID`.

A process that is killed can't stop its servers. This one outlives it, waits for its end, and
then stops and removes every stack below a directory. Tests use it, so that no interruption of a
run leaves servers behind.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from proxy.local.errors import LocalStackError
from proxy.local.layout import STATE
from proxy.local.processes import started_at
from proxy.local.stack import find_stack, remove_stack

_PATIENCE = 60.0


def start_watcher(root: Path, owner: int) -> None:
    """Start a process that removes the stacks in `root`, and `root`, once `owner` has ended.

    Does nothing when `root` is watched already.
    """
    try:
        (root / "watched").touch(exist_ok=False)
    except FileExistsError:
        return
    subprocess.Popen(
        [sys.executable, "-m", "proxy.local.watcher", str(root), str(owner)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def remove_stacks(root: Path) -> list[Exception]:
    """Stop and remove every stack in the directories of `root`; why any could not be removed."""
    failed: list[Exception] = []
    for state_file in sorted(root.glob(f"*/{STATE}")):
        try:
            if (layout := find_stack(state_file.parent)) is not None:
                remove_stack(layout)
        except (LocalStackError, OSError) as error:
            failed.append(error)
    return failed


def main() -> None:
    """Wait for the owner's end, then clean up, unless somebody else has."""
    root, owner = Path(sys.argv[1]), int(sys.argv[2])
    started = started_at(owner)
    while started is not None and started_at(owner) == started:
        if not root.exists():
            return
        time.sleep(0.5)
    # The owner's children may still be ending, and clean up or start stacks meanwhile.
    deadline = time.monotonic() + _PATIENCE
    while root.exists() and time.monotonic() < deadline:
        if not remove_stacks(root):
            shutil.rmtree(root, ignore_errors=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
