"""The fast path's C code by itself: whatever leaves and comes back, everybody gets his own answer.

Both ends of every connection are here. What leaves the fast path is relayed by the test, as a
session would, and put back. The compiled form is that of the tree which PENSTOCK_TREE names, as in
`make test-compiled`.
"""

import contextlib
import random
import select
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from proxy.net.fast_path import ASKS, RESUMES, RETURNS
from proxy.pool.description import STALE
from proxy.session.relay import PLAIN
from proxy.topology.counters import BUCKET_BOUNDS
from proxy.wire.scan import renamed
from tests.compiled import compiled_module, needs

fast_path: Any = compiled_module("net", "_fast_path")
pytestmark = needs(fast_path)

CLIENTS, SERVERS = 7, 3


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def simple(number: int) -> bytes:
    return message(b"Q", b"SELECT v FROM t WHERE id = %d\0" % number)


def extended(number: int) -> bytes:
    value = b"%d" % number
    bind = b"\0\0\0\0\0\1" + struct.pack(">I", len(value)) + value + b"\0\0"
    parse = message(b"P", b"\0SELECT v FROM t WHERE id = $1\0\0\0")
    return parse + message(b"B", bind) + message(b"E", bytes(5)) + message(b"S")


def named(number: int, name: bytes = b"mine") -> bytes:
    value = b"%d" % number
    bind = b"\0" + name + b"\0\0\0\0\1" + struct.pack(">I", len(value)) + value + b"\0\0"
    describe = message(b"D", b"P\0")
    return message(b"B", bind) + describe + message(b"E", bytes(5)) + message(b"S")


def unknown(number: int) -> bytes:
    return message(b"Q", b"SELECT w FROM t WHERE id = %d\0" % number)


def number_in(request: bytes) -> int:
    if request[:1] == b"Q":
        return int(request[:-1].rpartition(b" ")[2])
    bind = request[request.index(b"B\0\0\0") :]
    values = bind[6:].partition(b"\0")[2][4:]  # behind both names and the formats
    return int(values[4 : 4 + struct.unpack_from(">I", values)[0]])


def answer(number: int, padding: int = 0) -> bytes:
    row = message(b"D", b"\0\1" + struct.pack(">I", padding) + b"x" * padding + b"%d" % number)
    return row + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")


def number_of(reply: bytes) -> int:
    end = reply.index(b"C\0\0\0\x0dSELECT")
    digits = reply[:end].rpartition(b"x")[2] if b"x" in reply[:end] else reply[11:end]
    return int(digits)


@dataclass
class Statement:
    """What the fast path looks at of a `session.prepared.Prepared`."""

    name: bytes
    description: object | None


KNOWN = object()
STATEMENT = Statement(b"penstock_2a", KNOWN)


def for_servers(request: bytes) -> bytes:
    if request[:1] != b"B":
        return request
    return renamed(request, 0, len(request), len(b"mine"), STATEMENT.name)


@dataclass(eq=False)
class End:
    """A connection: ours, and the far end."""

    own: socket.socket
    far: socket.socket
    inside: bool = False
    asked: int = 0
    """A client's: the number that it waits for."""
    owes: bytes = b""
    """A server's: what it has yet to send."""
    held: bytes = b""
    """A server's: what has come of an answer that the test relays, to `client`."""
    client: "End | None" = None
    statements: dict[bytes, Any] = field(default_factory=dict)

    @property
    def descriptor(self) -> int:
        return self.own.fileno()


def pair() -> End:
    own, far = socket.socketpair()
    own.setblocking(False)
    far.setblocking(False)
    return End(own, far)


@dataclass
class World:
    """Clients, servers, and the test as the session of all who have left."""

    chance: random.Random
    group: int
    polled: select.epoll = field(default_factory=select.epoll)
    clients: list[End] = field(default_factory=list)
    servers: list[End] = field(default_factory=list)
    waiting: list[tuple[End, bytes]] = field(default_factory=list)
    """Clients outside, and their requests, for which there is no server yet."""
    free: list[End] = field(default_factory=list)
    """Servers outside that nobody has."""
    number: int = 0
    answered: int = 0
    left: set[int] = field(default_factory=set)
    """The ways in which somebody has left."""

    def open(self) -> None:
        for many, ends in ((CLIENTS, self.clients), (SERVERS, self.servers)):
            for _ in range(many):
                end = pair()
                if many == CLIENTS:
                    end.statements = {b"mine": STATEMENT}
                self.polled.register(end.descriptor, select.EPOLLIN)
                ends.append(end)
        self.free = list(self.servers)

    def close(self) -> None:
        for end in (*self.clients, *self.servers):
            fast_path.drop(end.descriptor)
            end.own.close()
            end.far.close()
        fast_path.take_odd()
        fast_path.close_group(self.group)
        self.polled.close()

    # The far ends

    def ask(self, client: End) -> None:
        if client.asked:
            return
        self.number += 1
        client.asked = self.number
        form = self.chance.choice((simple, extended, named, named, named, unknown))
        client.far.sendall(form(self.number))

    def serve(self, server: End) -> None:
        """Take a request; send an answer, or a part of one."""
        with contextlib.suppress(BlockingIOError):
            request = server.far.recv(65536)
            assert not server.owes, "a second request before the answer to the first"
            large = self.chance.random() < 0.1
            server.owes = answer(number_in(request), 20_000 if large else 0)
            if request[:1] == b"B":
                assert request == for_servers(named(number_in(request)))
                assert server.statements.get(STATEMENT.name) is KNOWN or not server.inside
        if server.owes:
            cut = len(server.owes)
            if self.chance.random() < 0.2:
                cut = self.chance.randrange(cut)
            server.far.sendall(server.owes[:cut])
            server.owes = server.owes[cut:]

    def read(self, client: End) -> None:
        with contextlib.suppress(BlockingIOError):
            reply = client.far.recv(65536)
            assert reply.endswith(message(b"Z", b"I"))
            assert number_of(reply) == client.asked
            client.asked = 0
            self.answered += 1

    def exchange(self, client: End, server: End, request: bytes) -> None:
        """One query on the fast path, by this server."""
        client.asked = number_in(request)
        client.far.sendall(request)
        self.turn()
        server.far.sendall(answer(number_in(server.far.recv(65536))))
        self.turn()
        self.read(client)

    # The test as a session

    def enter(self, client: End) -> None:
        if not client.inside:
            client.inside = True
            fast_path.add_client(client.descriptor, client, self.group, client.statements)

    def lend(self, server: End) -> None:
        server.inside = True
        fast_path.add_server(
            server.descriptor, server, self.group, server.statements, bool(self.waiting)
        )

    def turn(self) -> None:
        ready = fast_path.turn(self.polled.fileno(), 64)
        if ready is None:
            return
        self.make_good()
        for event in ready:
            end = next(e for e in (*self.clients, *self.servers) if e.descriptor == event >> 8)
            with contextlib.suppress(BlockingIOError):
                self.relay(end, end.own.recv(65536))

    def make_good(self) -> None:
        for kind, descriptor, client, server, request, _, _, data in fast_path.take_odd():
            self.left.add(kind)
            if kind == ASKS:
                client.inside = False
                if data:
                    self.relay(client, data)
            elif kind == RESUMES:
                client.inside = server.inside = False
                assert number_in(request) == client.asked
                server.client = client
                if data:
                    self.relay(server, data)
            elif kind == RETURNS:
                server.inside = False
                assert descriptor == server.descriptor
                self.let_go(server)
            else:
                raise AssertionError(f"sockets that take everything: {kind}")

    def relay(self, end: End, data: bytes) -> None:
        if end in self.clients:
            self.waiting.append((end, data))
            self.pair_up()
            return
        client = end.client
        assert client is not None, "an answer to nobody"
        end.held += data
        if end.held.endswith(message(b"Z", b"I")):
            client.own.sendall(end.held)
            end.held, end.client = b"", None
            self.enter(client)
            self.let_go(end)

    def let_go(self, server: End) -> None:
        self.free.append(server)
        self.pair_up()

    def pair_up(self) -> None:
        while self.waiting:
            recalled = None if self.free else fast_path.recall(self.group, True)
            if recalled is not None:
                recalled[0].inside = False
                self.free.append(recalled[0])
            if not self.free:
                break
            client, request = self.waiting.pop(0)
            server = self.free.pop()
            server.client = client
            server.own.sendall(for_servers(request))

    def disturb(self) -> None:
        """What a pool or the console may do at any time."""
        what = self.chance.random()
        if what < 0.3:
            for server in list(self.free):
                self.free.remove(server)
                has = self.chance.choice((None, STALE, object(), KNOWN, KNOWN, KNOWN))
                server.statements = {STATEMENT.name: KNOWN} if has is KNOWN else {}
                if has not in (None, KNOWN):
                    server.statements[STATEMENT.name] = has
                self.lend(server)
        elif what < 0.5:
            while (
                recalled := fast_path.recall(self.group, self.chance.random() < 0.5)
            ) is not None:
                server = recalled[0]
                assert isinstance(server, End)
                server.inside = False
                self.let_go(server)
        elif what < 0.7:
            fast_path.drop(self.chance.choice((*self.clients, *self.servers)).descriptor)
            self.make_good()
        elif what < 0.8 and self.waiting and self.free:
            client, request = self.waiting[0]
            if fast_path.add_waiting(
                client.descriptor, client, self.group, client.statements, request, 0.0
            ):
                self.waiting.pop(0)
                client.inside = True
                self.lend(self.free.pop())
        else:
            for descriptor in fast_path.under_way(float("inf")):
                fast_path.drop(descriptor)
            self.make_good()


@pytest.fixture(params=range(12))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    fast_path.configure(BUCKET_BOUNDS, PLAIN, STALE)
    group, slot = fast_path.open_group(), fast_path.open_slot(False)
    assert fast_path.learn(group, simple(1), slot, False)
    assert fast_path.learn(group, extended(1), slot, False)
    assert fast_path.learn(group, for_servers(named(1)), slot, False)
    world = World(random.Random(request.param), group)
    world.open()
    yield world
    world.close()
    assert fast_path.members(group) == 0


def test_everybody_gets_his_own_answer(world: World) -> None:
    for client in world.clients:
        world.enter(client)
    for server in list(world.free):
        world.free.remove(server)
        world.lend(server)
    for _ in range(3000):
        world.ask(world.chance.choice(world.clients))
        world.turn()
        world.serve(world.chance.choice(world.servers))
        world.read(world.chance.choice(world.clients))
        if world.chance.random() < 0.1:
            world.disturb()
    for _ in range(200):  # to the end
        world.turn()
        for server in world.servers:
            world.serve(server)
        for client in world.clients:
            world.read(client)
    assert [client.asked for client in world.clients] == [0] * CLIENTS
    assert world.answered > 500
    assert world.left == {ASKS, RESUMES, RETURNS}


def test_what_has_been_relayed_is_counted(world: World) -> None:
    client, server = world.clients[0], world.servers[0]
    fast_path.collect()
    world.enter(client)
    world.lend(server)
    for number, form in enumerate((simple, extended, extended), 1):
        world.exchange(client, server, form(number))
    ((group, simples, extendeds, _, _, out, _),), ((_, count, seconds, buckets),) = (
        fast_path.collect()
    )
    assert (group, simples, extendeds, count, sum(buckets)) == (world.group, 1, 2, 3, 3)
    assert out == 3 * len(answer(1))
    assert 0 < seconds < 10
    assert [owner for owner, _ in fast_path.touched()] == [client]
    assert fast_path.touched() == []


def test_other_plans_end_what_is_known(world: World) -> None:
    client, server = world.clients[0], world.servers[0]
    world.enter(client)
    world.lend(server)
    fast_path.forget(world.group)
    client.far.sendall(simple(1))
    assert fast_path.turn(world.polled.fileno(), 64) == []
    ((kind, _, owner, _, _, _, _, data),) = fast_path.take_odd()
    assert (kind, owner, data) == (ASKS, client, simple(1))
    client.inside = False


def test_what_ran_before_a_statement_by_its_name(world: World) -> None:
    """Which unnamed statement is left, on either side, is told by another request."""
    client, server = world.clients[0], world.servers[0]
    server.statements = {STATEMENT.name: KNOWN}
    world.enter(client)
    world.lend(server)
    for number, form in enumerate((extended, named, named), 1):
        world.exchange(client, server, form(number))
    fast_path.drop(client.descriptor)
    ((kind, _, _, _, request, before, _, _),) = fast_path.take_odd()
    assert (kind, request, before) == (ASKS, named(3), extended(1))
    assert fast_path.recall(world.group, True) == (server, extended(1))
    client.inside = server.inside = False


def test_a_ring_takes_turns_and_closes_as_a_whole(world: World) -> None:
    client, (one, other, _) = world.clients[0], world.servers
    following, slot = fast_path.open_group(), fast_path.open_slot(False)
    assert fast_path.learn(following, simple(1), slot, False)
    fast_path.link_group(world.group, following)
    fast_path.link_group(following, world.group)
    world.enter(client)
    world.lend(one)
    fast_path.add_server(other.descriptor, other, following, {}, False)
    for number, server in enumerate((other, one, other, one), 1):
        world.exchange(client, server, simple(number))
    assert (fast_path.members(world.group), fast_path.members(following)) == (2, 1)
    for group in (world.group, following):
        fast_path.close_group(group)
        with pytest.raises(ValueError, match="in use"):
            fast_path.end_group(group)
    client.far.sendall(simple(9))
    assert fast_path.turn(world.polled.fileno(), 64) == []
    ((kind, *_),) = fast_path.take_odd()
    assert kind == ASKS
    fast_path.drop(other.descriptor)
    fast_path.take_odd()
    fast_path.end_group(following)
    assert fast_path.open_group() == following
    fast_path.close_group(following)
    fast_path.end_group(following)
