"""Ctrl-C, SIGTERM and a closed terminal: each ends the demonstration once, and in order."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Stopped(KeyboardInterrupt):
    """Somebody asked the demonstration to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """Turns the first signal into `Stopped` and drops later ones, which would break the clean-up.

    Handlers, not SIG_IGN: programs that are started meanwhile inherit nothing from them.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        """The first signal that came."""
        self._held = False
        self._finished = False
        self._cancel: Callable[[], object] | None = None

    def install(self) -> None:
        """Take over the signals. Call it in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.asked is None and not self._finished:
            self.asked = number
            if self._cancel is not None:
                self._cancel()
            elif not self._held:
                self._raise()

    def _raise(self) -> None:
        if self.asked is not None and not self._finished:
            self._finished = True
            raise Stopped(self.asked)

    def finish(self) -> None:
        """From here on signals change nothing: the clean-up has begun."""
        self._finished = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put signals off until the end of the block: for what must not be cut in two."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
            self._raise()

    def run(self, runner: asyncio.Runner, work: Coroutine[Any, Any, T]) -> T:
        """Run `work`; a signal cancels it. Raised within the loop, `Stopped` could be swallowed by
        whatever callback it happened to meet."""

        async def stoppable() -> T:
            task, loop = asyncio.current_task(), asyncio.get_running_loop()
            assert task is not None
            self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
            if self.asked is not None:
                task.cancel()
            try:
                return await work
            finally:
                self._cancel = None

        with self.held():
            return runner.run(stoppable())
