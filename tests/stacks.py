"""The stacks of one test run: one shared by all workers, and private ones to be broken."""

import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Protocol

import psutil

from proxy.local.stack import Stack, StackOptions
from proxy.local.start import start_stack
from proxy.local.watcher import remove_stacks, start_watcher

# Set by the process that controls the run, inherited by its workers.
RUN_DIR = "PENSTOCK_TEST_RUN"
RUN_OWNER = "PENSTOCK_TEST_OWNER"

_IN_MEMORY = Path("/dev/shm")
_NEEDED_GIB = 7
"""More than twice of what a whole run has taken at most."""


class PrivateStack(Protocol):
    """Starts a stack that belongs to one test, or to one module."""

    def __call__(
        self, *, replicas: int = 2, shards: int = 0, redis: bool = False, durable: bool = False
    ) -> Stack:
        """A running stack, which is removed after the test."""


def begin_run() -> None:
    """Make the run's directory and tell the workers."""
    run_dir = Path(tempfile.mkdtemp(prefix="penstock-tests-", dir=_place()))
    run_dir.chmod(0o711)  # the servers' account must get through to the stacks in it
    os.environ[RUN_DIR] = str(run_dir)
    os.environ[RUN_OWNER] = str(os.getpid())


def _place() -> Path | None:
    """Where the servers' files go: into memory where there is plenty, as a third of all CPU time
    would be ext4's, which looks for free inodes after each database that was dropped; else, and
    where TMPDIR says so, where temporary files go."""
    needed = _NEEDED_GIB << 30
    try:
        free = shutil.disk_usage(_IN_MEMORY).free
        available = psutil.virtual_memory().available
    except OSError:
        return None
    fits = free >= needed and available >= 2 * needed and os.access(_IN_MEMORY, os.W_OK)
    return _IN_MEMORY if fits and "TMPDIR" not in os.environ else None


def end_run() -> None:
    """Remove every stack that is left, and the run's directory."""
    run_dir = Path(os.environ.pop(RUN_DIR))
    failed = remove_stacks(run_dir)
    if failed:
        raise ExceptionGroup("stacks that could not be removed", failed)
    shutil.rmtree(run_dir)


def shared_stack() -> Stack:
    """The run's own stack; the first worker to ask starts it while the others wait."""
    return start_stack(StackOptions(data_dir=_run_dir() / "shared", durable=False, detach=True))


def new_private_stack(
    *, replicas: int = 2, shards: int = 0, redis: bool = False, durable: bool = False
) -> Stack:
    """A stack that nobody else uses."""
    options = StackOptions(
        data_dir=_run_dir() / f"private-{uuid.uuid4().hex[:8]}",
        replicas=replicas,
        shards=shards,
        redis=redis,
        durable=durable,
    )
    return start_stack(options)


def _run_dir() -> Path:
    run_dir = Path(os.environ[RUN_DIR])
    start_watcher(run_dir, int(os.environ[RUN_OWNER]))
    return run_dir
