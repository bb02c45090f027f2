"""What Penstock's own code costs per query, without the kernel: `python -m benchmarks.logic`.

A session, two replicas and their backends run as they do in a server, but what they read and write
goes to no socket. The time is CPU time of this process, the best of several
passes, so that a busy machine hardly shows. It also runs under callgrind, for exact counts.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.auth.load import load_auth
from proxy.auth.state import AuthState
from proxy.config.settings import Settings
from proxy.net.channel import Channel, ChannelProtocol, poller
from proxy.pool.backend import Backend
from proxy.pool.settings_state import DEFAULTS
from proxy.server.databases import Database
from proxy.server.security import Security
from proxy.session.client import Client
from proxy.session.context import DatabaseContext
from proxy.session.session import Session
from proxy.wire.server_login import ServerLogin

USER = "app"
_SETTINGS: dict[str, Any] = {
    "auth": {"users": [{"name": USER, "password": "secret"}]},
    "database": {
        "app": {
            "primary": {"port": 1},
            "replicas": {"hosts": ["127.0.0.1:2", "127.0.0.1:3"]},
        }
    },
}
_PASSES = 5
_WARM_UP = 50
_DISTINCT = 20_000
"""Texts of the simple protocol before they come again: more than plans are kept."""


class Wires:
    """Takes the place of the kernel: what each descriptor reads next; what is written is lost."""

    def __init__(self) -> None:
        self.incoming: dict[int, bytes] = {}
        self.written_to = -1
        """The descriptor that was written to last."""

    def receive(self, descriptor: int, size: int) -> bytes:
        return self.incoming[descriptor]

    def send(self, descriptor: int, data: bytes | memoryview) -> int:
        self.written_to = descriptor
        return len(data)

    @contextmanager
    def plugged_in(self) -> Iterator[None]:
        """Channels use these instead of sockets."""
        polled = poller()
        real = polled.receive, polled.send
        polled.receive, polled.send = self.receive, self.send
        polled.fast = False  # the fast path calls the kernel itself
        try:
            yield
        finally:
            polled.receive, polled.send = real


class Bench:
    """A logged-in client of a database with idle backends."""

    def __init__(self, wires: Wires) -> None:
        self._wires = wires
        self._context = context()
        self._servers: dict[int, Channel] = {}
        for node in self._context.topology.nodes():
            pool = self._context.pool_of(node, USER)
            backend = Backend(
                node, ServerLogin(USER, None, {}), lambda ready: None, lambda lost, error: None
            )
            descriptor, channel = _open(backend)
            backend.connection_made(channel)
            wires.incoming[descriptor] = message(b"R", b"\0\0\0\0") + message(b"Z", b"I")
            _receive(channel)
            pool.backends.add(backend)
            pool.release(backend)
            self._servers[descriptor] = channel
        client = Client(USER, DEFAULTS, DEFAULTS, {})
        self._session = Session(self._context, client, lambda closed: None)
        self._descriptor, self._channel = _open(self._session)
        self._session.start(self._channel, b"")

    def exchange(self, query: bytes, answer: bytes) -> None:
        """The client sends a query, the server that gets it answers."""
        wires = self._wires
        wires.incoming[self._descriptor] = query
        _receive(self._channel)
        server = wires.written_to
        wires.incoming[server] = answer
        _receive(self._servers[server])


def _receive(channel: Channel) -> None:
    if channel.receive():
        channel.deliver()


def context(replicas: bool = True) -> DatabaseContext:
    """Of a database that nobody watches, with replicas that are always fit to read from."""
    database = dict(_SETTINGS["database"]["app"])
    if not replicas:
        del database["replicas"]
    settings = Settings.model_validate({**_SETTINGS, "database": {"app": database}})
    auth = AuthState(load_auth(settings))
    made = Database("app", settings, auth, None, Security(settings)).context
    for replica in made.topology.replicas:
        replica.healthy, replica.fresh_until, replica.lag_seconds = True, float("inf"), 0.0
    return made


def _open(protocol: ChannelProtocol) -> tuple[int, Channel]:
    sock = socket.socket()  # for its descriptor: nothing is read from it or written to it
    return sock.fileno(), Channel(sock, protocol, poller())


def message(kind: bytes, body: bytes) -> bytes:
    """A message of the protocol."""
    return kind + (len(body) + 4).to_bytes(4) + body


_SYNC = message(b"S", b"")
_SELECT = b"SELECT abalance FROM pgbench_accounts WHERE aid = "
_ROW = (
    message(b"T", b"\0\1abalance\0" + bytes(18))
    + message(b"D", b"\0\1\0\0\0\1" + b"0")
    + message(b"C", b"SELECT 1\0")
    + message(b"Z", b"I")
)
_DESCRIBED = message(b"t", b"\0\1\0\0\0\x17") + message(b"T", b"\0\1abalance\0" + bytes(18))
_PARSED, _BOUND = message(b"1", b""), message(b"2", b"")


def _execution(statement: bytes) -> bytes:
    """As pgbench sends it: one parameter as text, results as text."""
    return (
        message(b"B", b"\0" + statement + b"\0\0\0\0\1\0\0\0\x0512345\0\0")
        + message(b"D", b"P\0")
        + message(b"E", bytes(5))
        + _SYNC
    )


@dataclass(frozen=True, slots=True)
class Case:
    """Queries with their answers, taken in turn, after an opening."""

    name: str
    exchanges: Sequence[tuple[bytes, bytes]]
    opening: Sequence[tuple[bytes, bytes]] = ()


def cases() -> list[Case]:
    """pgbench's select by key in its three modes, the simple one with and without new literals."""
    same = message(b"Q", _SELECT + b"12345;\0")
    new = [
        message(b"Q", _SELECT + b"%d;\0" % (number * 7919 % 800_000)) for number in range(_DISTINCT)
    ]
    parse = message(b"P", b"\0" + _SELECT + b"$1;\0\0\0")
    prepare = message(b"P", b"P_0\0" + _SELECT + b"$1;\0\0\0") + _SYNC
    prepared = (_execution(b"P_0"), _BOUND + _ROW)
    return [
        Case("simple, new literals", [(query, _ROW) for query in new]),
        Case("simple, one text", [(same, _ROW)]),
        Case("extended", [(parse + _execution(b""), _PARSED + _BOUND + _ROW)]),
        Case(
            "prepared",
            [prepared],
            opening=[
                (prepare, _PARSED + message(b"Z", b"I")),
                (prepared[0], _PARSED + _DESCRIBED + prepared[1]),  # the other backend learns of it
                (prepared[0], _DESCRIBED + prepared[1]),  # and the first is asked what it is
            ],
        ),
    ]


def measure(case: Case, queries: int, passes: int = _PASSES) -> float:
    """Microseconds of CPU for one query and its answer, in the fastest pass."""
    wires = Wires()
    with wires.plugged_in():
        return _measured(Bench(wires).exchange, case, queries, passes)


def _measured(
    exchange: Callable[[bytes, bytes], None], case: Case, queries: int, passes: int
) -> float:
    exchanges = case.exchanges
    for query, answer in case.opening:
        exchange(query, answer)
    count = len(exchanges)
    for number in range(_WARM_UP):
        exchange(*exchanges[-1 - number % count])
    best = float("inf")
    for _ in range(passes):
        begun = time.process_time()
        for number in range(queries):
            query, answer = exchanges[number % count]
            exchange(query, answer)
        best = min(best, time.process_time() - begun)
    return best / queries * 1e6


async def _run(chosen: Sequence[Case], queries: int, passes: int) -> None:
    for case in chosen:
        print(f"{case.name:22} {measure(case, queries, passes):6.2f} µs", flush=True)


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.logic", description=__doc__)
    parser.add_argument("--queries", type=int, default=20_000, help="of each pass")
    parser.add_argument("--passes", type=int, default=_PASSES, help="of which the best counts")
    parser.add_argument("--only", metavar="NAME", default="", help="how the case's name begins")
    parser.add_argument("--tree", type=Path, help="the source tree to measure, if not this one")
    arguments = parser.parse_args()
    if arguments.tree is not None:
        return _in(arguments.tree)
    chosen = [case for case in cases() if case.name.startswith(arguments.only)]
    form = (
        "interpreted"
        if (sys.modules[Session.__module__].__file__ or "").endswith(".py")
        else "compiled"
    )
    print(form, flush=True)
    asyncio.run(_run(chosen, arguments.queries, arguments.passes))
    return 0


def _in(tree: Path) -> int:
    """The same with the modules of another tree."""
    at = sys.argv.index("--tree")
    rest = sys.argv[1:at] + sys.argv[at + 2 :]
    environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
    return subprocess.run(
        [sys.executable, __file__, *rest], env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
