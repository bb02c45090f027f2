"""The loop that asks one node at an interval, and reconnects."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from proxy.tasks import spawn
from proxy.topology.connect import Login
from proxy.topology.node import Node
from proxy.topology.probe import Probe, Unreachable
from proxy.topology.reading import Identity, Reading

log = structlog.get_logger(__name__)

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_LONGEST_PAUSE_WITHOUT = 15.0
"""Where the server has no such database: each try is a line in its log."""

Observe = Callable[[Identity, Reading], bool]
"""Takes an answer; true where the node's WAL should be flushed now."""


class Watcher:
    """Asks `node` every `interval` seconds; an answer later than `patience` seconds is none.

    `observe` gets each answer, `lost` the reason of each failure.
    """

    def __init__(
        self,
        node: Node,
        login: Login,
        interval: float,
        patience: float,
        observe: Observe,
        lost: Callable[[str], None],
    ) -> None:
        self._node = node
        self._login = login
        self._interval = interval
        self._patience = patience
        self._observe = observe
        self._lost = lost
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._probe: Probe | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = spawn(self._run(), f"monitor {self._node.name}")

    async def stop(self) -> None:
        """End the loop and its connection; whoever waits for a round goes on."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._close()
        _release(self._waiting)

    async def round(self) -> None:
        """Ask now, and return when a question that began after this call has been answered or has
        failed."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._wake.set()
        await done

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            waiting, self._waiting, longest = self._waiting, [], _LONGEST_PAUSE
            try:
                if self._probe is None:
                    await self._open()
                await self._ask()
                failure = None
            except Unreachable as error:
                failure = str(error)
                longest = _LONGEST_PAUSE if error.is_there else _LONGEST_PAUSE_WITHOUT
            except Exception as error:  # a node that nobody watches must not pass for healthy
                log.exception("the monitor failed", node=self._node.name)
                failure = f"the monitor failed: {error!r}"
            finally:
                _release(waiting)
            if failure is None:
                pause = _FIRST_PAUSE
                await self._sleep(self._interval)
            else:
                self._close()
                self._lost(failure)
                await self._sleep(pause)
                pause = min(pause * 2, longest)

    async def _open(self) -> None:
        self._probe = probe = await Probe.open(self._node.address, self._login, self._patience)

        def wake() -> None:
            if self._probe is probe:
                self._wake.set()

        probe.on_lost(wake)

    async def _ask(self) -> None:
        assert self._probe is not None
        reading = await self._probe.read()
        if self._observe(self._probe.identity, reading):
            await self._probe.flush()

    def _close(self) -> None:
        if self._probe is not None:
            probe, self._probe = self._probe, None
            probe.close()

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()
            self._wake.clear()


def _release(waiting: list[asyncio.Future[None]]) -> None:
    for done in waiting:
        if not done.done():
            done.set_result(None)
