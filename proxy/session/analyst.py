"""A process beside this one that analyses texts while this one serves its clients.

sqlglot takes milliseconds for each 1,000 bytes and keeps the interpreter's lock, so that a thread
would not help. The process is forked before the event loop runs, which shares with it the memory of
what has been imported; it ends when this one does. If it is lost, texts are analysed here as they
would be without it.

Each way, messages begin with four bytes for their length; a text is answered by its pickled
`Analysis`, or by nothing if the analysis failed.
"""

import contextlib
import gc
import os
import pickle
import signal
import socket
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final

import structlog

from proxy.net.channel import Channel, ChannelProtocol, poller
from proxy.sql.analyse import analyse
from proxy.sql.statement import Analysis

log = structlog.get_logger(__name__)

_LENGTH: Final = 4
_NICE: Final = 10
"""What has to be analysed is waited for by some; the other process serves everybody."""
_PAUSE: Final = 99
"""For so many times as long as a text has taken here none is analysed here: a hundredth of the time
at most."""
_LONGEST_PAUSE: Final = 0.5
"""Seconds: what takes so long was held up by something else."""
_FIRST_OTHER_DESCRIPTOR: Final = 3
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)
"""What is meant for the process beside; its end is the end of this one's socket."""

Analysed = Callable[[Analysis | None], None]


class Analyst(ChannelProtocol):
    """This process's end."""

    def __init__(self) -> None:
        self._pid = 0
        self._socket: socket.socket | None = None
        self._channel: Channel | None = None
        self._asked: deque[str] = deque()
        self._waiting: dict[str, list[Analysed]] = {}
        """Who waits, by text."""
        self._data = b""
        self._next_here = 0.0
        """Until then everything is analysed in the other process."""

    @property
    def has_time_here(self) -> bool:
        """Whether this process has analysed little enough lately to analyse a short text itself."""
        return perf_counter() >= self._next_here

    def analyse_here(self, text: str) -> Analysis:
        """Analyse a text in this process."""
        begun = perf_counter()
        analysis = analyse(text)
        ended = perf_counter()
        self._next_here = ended + min(_PAUSE * (ended - begun), _LONGEST_PAUSE)
        return analysis

    def fork(self) -> None:
        """Start the process. To be called while this one has one thread and no event loop."""
        analyse("SELECT 1")  # loads what is loaded at the first use
        own, other = socket.socketpair()
        gc.freeze()  # a collector that looked at what is shared would copy it
        pid = os.fork()
        if pid == 0:
            try:
                _serve(other)
            finally:
                os._exit(0)
        gc.unfreeze()
        other.close()
        own.setblocking(False)
        self._pid, self._socket = pid, own

    def open(self) -> None:
        """Take up work, now that the event loop runs; nothing where there is no such process."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self._channel = Channel(sock, self, poller())

    def close(self) -> None:
        """End the process."""
        if self._channel is not None:
            self._channel.close()

    @property
    def at_work(self) -> bool:
        """Whether it can be asked."""
        return self._channel is not None

    def ask(self, text: str, done: Analysed) -> None:
        """Have a text analysed. `done` gets None if that has to be done here after all."""
        channel = self._channel
        if channel is None:
            done(None)
            return
        waiting = self._waiting.get(text)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[text] = [done]
        self._asked.append(text)
        content = text.encode("utf-8", "surrogatepass")
        channel.write(len(content).to_bytes(_LENGTH) + content)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= _LENGTH:
            end = _LENGTH + int.from_bytes(self._data[:_LENGTH])
            if len(self._data) < end:
                return
            content, self._data = self._data[_LENGTH:end], self._data[end:]
            self._tell(self._asked.popleft(), pickle.loads(content) if content else None)

    def _tell(self, text: str, analysis: Analysis | None) -> None:
        for done in self._waiting.pop(text):
            done(analysis)

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel = None
        with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
            os.waitpid(self._pid, os.WNOHANG)
        if self._asked:
            log.warning("the process that analyses statements is gone: done here from now on")
        while self._asked:
            self._tell(self._asked.popleft(), None)


def _serve(sock: socket.socket) -> None:
    """The other process: all that it ever does."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.nice(_NICE)
    descriptor = sock.fileno()
    os.closerange(_FIRST_OTHER_DESCRIPTOR, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
    stream = sock.makefile("rb")
    while header := stream.read(_LENGTH):
        text = stream.read(int.from_bytes(header))
        try:
            found = pickle.dumps(analyse(text.decode("utf-8", "surrogatepass")), -1)
        except Exception:
            found = b""
        sock.sendall(len(found).to_bytes(_LENGTH) + found)


analyst: Final = Analyst()
"""Of this process, whose data path is one thread."""
