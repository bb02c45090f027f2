"""What is remembered of a stack between commands, and the lock that orders them."""

import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proxy.local.errors import LocalStackError

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that started a stack which must not outlive it."""

    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class StackState:
    """One stack as it was last started. `ports` maps each server's name to its port.

    `complete` is false while a start is under way, and stays so when it was interrupted.
    """

    superuser_password: str
    durable: bool = True
    system: bool = False
    owner: Owner | None = None
    complete: bool = False
    ports: dict[str, int] = field(default_factory=dict)
    format: int = FORMAT


def new_state() -> StackState:
    """The state of a stack that was never started; the superuser's password is random."""
    return StackState(superuser_password=secrets.token_urlsafe(24))


def read_state(path: Path) -> StackState | None:
    """The state in `path`; None when there is none.

    Raises LocalStackError when the file is not one of ours.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        owner = stored["owner"]
        if stored["format"] != FORMAT:
            raise ValueError(f"its format is {stored['format']}, this version reads {FORMAT}")
        state = StackState(**{**stored, "owner": owner and Owner(**owner)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LocalStackError(
            f"{path} can't be read ({error!r}); remove the stack with `penstock local reset`"
        ) from error
    return state


def write_state(path: Path, state: StackState) -> None:
    """Replace the state file in one step, readable for us alone: it holds a password."""
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=2)
        file.write("\n")
    fresh.replace(path)


@contextmanager
def locked(path: Path, timeout: float = 120.0) -> Iterator[None]:
    """Hold the stack's lock. The kernel frees it when the holder dies.

    Raises LocalStackError when another process holds it for `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LocalStackError(
                        f"another process has been changing the stack in {path.parent} "
                        f"for {timeout:g} s; wait for it or end it"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)
