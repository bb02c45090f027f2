"""Ctrl-C, SIGTERM and a closed terminal: each ends the demonstration once, and in order."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(KeyboardInterrupt):
    """Somebody asked the demonstration to end. A KeyboardInterrupt: event loops let it through."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class StopSignals:
    """Turns the first signal into `Stopped` and drops later ones, which would break the clean-up.

    Handlers, not SIG_IGN: programs that are started meanwhile inherit nothing from them.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._held = False
        self._raised = False

    def install(self) -> None:
        """Take over the signals. Call it in the main thread."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.asked = self.asked or number
        self._raise()

    def _raise(self) -> None:
        if self.asked is not None and not self._held and not self._raised:
            self._raised = True
            raise Stopped(self.asked)

    def finish(self) -> None:
        """From here on signals change nothing: the clean-up has begun."""
        self._raised = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put signals off until the end of the block: for what must not be cut in two."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self._raise()
