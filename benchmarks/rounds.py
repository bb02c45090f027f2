"""What a round of the poller costs with the kernel: `python -m benchmarks.rounds`.

Sixteen sessions and as many servers' connections over TCP, all in one process. Each round, so many
clients have sent a query (or so many servers an answer) before the poller is called, and only that
call is timed, in CPU time of its thread. What the other ends do in between, in Python and in the
kernel, leaves as little of Penstock's code in the processor's caches as a machine at work does.
The tenth of the rounds that went best counts: others on the machine hardly show in it.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import logic
from proxy.net.channel import Channel, ChannelProtocol, poller
from proxy.pool.backend import Backend
from proxy.pool.settings_state import DEFAULTS
from proxy.session.client import Client
from proxy.session.session import Session
from proxy.wire.server_login import ServerLogin

_CLIENTS = 16
_WARM_UP = 50


def _pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection, ours and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        own, _ = listening.accept()
    own.setblocking(False)
    for end in (own, peer):
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return own, peer


class Bench:
    """Logged-in clients of a database on one server, with idle backends."""

    def __init__(self) -> None:
        self._poller = poller()
        self._peers: dict[int, socket.socket] = {}
        context = logic.context(replicas=False)
        node = context.topology.primary
        pool = context.pool_of(node, logic.USER)
        self._servers: list[socket.socket] = []
        for _ in range(_CLIENTS):
            backend = Backend(
                node,
                ServerLogin(logic.USER, None, {}),
                lambda ready: None,
                lambda lost, error: None,
            )
            peer, channel = self._open(backend)
            backend.connection_made(channel)
            peer.recv(65536)
            peer.sendall(logic.message(b"R", b"\0\0\0\0") + logic.message(b"Z", b"I"))
            self._poller._poll()
            pool.backends.add(backend)
            pool.release(backend)
            peer.setblocking(False)
            self._servers.append(peer)
        self._clients: list[socket.socket] = []
        self._kept: list[object] = []
        for _ in range(_CLIENTS):
            session = Session(context, Client(logic.USER, DEFAULTS, DEFAULTS, {}), lambda _: None)
            peer, channel = self._open(session)
            session.start(channel, b"")
            self._clients.append(peer)
            self._kept.append(session)

    def _open(self, protocol: ChannelProtocol) -> tuple[socket.socket, Channel]:
        own, peer = _pair()
        return peer, Channel(own, protocol, self._poller)

    def exchange(self, query: bytes, answer: bytes, together: int) -> float:
        """So many clients ask and get their answers; seconds of CPU for one of them."""
        asking = self._clients[:together]
        self._clients = self._clients[together:] + asking
        for client in asking:
            client.sendall(query)
        spent = self._timed()
        for server in self._servers:
            try:
                server.recv(65536)
            except BlockingIOError:
                continue
            server.sendall(answer)
        spent += self._timed()
        for client in asking:
            assert len(client.recv(65536)) == len(answer)
        return spent / together

    def _timed(self) -> float:
        begun = time.thread_time()
        self._poller._poll()
        return time.thread_time() - begun


def measure(case: logic.Case, together: int, rounds: int) -> float:
    """Microseconds of CPU for one query and its answer."""
    bench = Bench()
    spent = []
    for number in range(rounds + _WARM_UP):
        query, answer = case.exchanges[number % len(case.exchanges)]
        spent.append(bench.exchange(query, answer, together))
    best = sorted(spent[_WARM_UP:])
    return best[len(best) // 10] * 1e6


async def _run(together: int, rounds: int) -> None:
    for case in logic.cases():
        if not case.opening:
            print(f"{case.name:22} {measure(case, together, rounds):6.2f} µs", flush=True)


def main() -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rounds", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000, help="of each case")
    parser.add_argument("--together", type=int, default=5, help="clients that are served at once")
    parser.add_argument("--tree", type=Path, help="the source tree to measure, if not this one")
    arguments = parser.parse_args()
    if arguments.tree is not None:
        at = sys.argv.index("--tree")
        rest = sys.argv[1:at] + sys.argv[at + 2 :]
        here = Path(__file__).resolve().parents[1]
        paths = os.pathsep.join((str(arguments.tree.resolve()), str(here)))
        return subprocess.run(
            [sys.executable, __file__, *rest], env={**os.environ, "PYTHONPATH": paths}, check=False
        ).returncode
    asyncio.run(_run(arguments.together, arguments.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
