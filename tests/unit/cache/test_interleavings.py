"""The real cache code against a model of Redis, in every order that a network can make of it.

The scheduler decides when the server runs a command, when a reply arrives, when a link breaks and
when the server forgets or rolls back. Every hit is checked against the writes acknowledged before
its lookup.
"""

import itertools
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import hiredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cache.connection import Callback
from proxy.cache.entry import HEADER_SIZE, TOKEN_SIZE, entry_digest
from proxy.cache.errors import LinkLost
from proxy.cache.link import LinkState, Request
from proxy.cache.results import Lookup, ResultCache

DATABASE = "app"
READS = ("orders",)
DIGEST = entry_digest(b"context", b"select")


class Server:
    """Redis as a dictionary."""

    def __init__(self) -> None:
        self.data: dict[bytes, bytes] = {}
        self.saved: dict[bytes, bytes] = {}
        self.incarnation = 1

    def run(self, command: bytes) -> Any:
        reader = hiredis.Reader()
        reader.feed(command)
        name, *arguments = reader.gets()
        return getattr(self, name.decode().lower())(*arguments)

    def mget(self, *keys: bytes) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def mset(self, *pairs: bytes) -> bytes:
        self.data.update(zip(pairs[::2], pairs[1::2], strict=True))
        return b"OK"

    def set(self, key: bytes, value: bytes, condition: bytes) -> bytes | None:
        assert condition == b"NX"
        if key in self.data:
            return None
        self.data[key] = value
        return b"OK"

    def evalsha(self, _sha: bytes, count: bytes, *rest: bytes) -> int:
        *epochs, entry_key = rest[: int(count)]
        entry = rest[int(count)]
        for i, key in enumerate(epochs):
            start = HEADER_SIZE + i * TOKEN_SIZE
            if self.data.get(key) != entry[start : start + TOKEN_SIZE]:
                return 0
        self.data[entry_key] = entry
        return 1


class ModelLink:
    """A link whose every step waits for the scheduler."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.state = LinkState.CONNECTING
        self.request: Request = self._refuse
        self.congested = False
        self.sent: deque[tuple[bytes, Callback]] = deque()
        self.replied: deque[tuple[Any, Callback]] = deque()
        self.orphans: deque[bytes] = deque()

    def _refuse(self, command: bytes, callback: Callback) -> None:
        callback(LinkLost("down"))

    def _send(self, command: bytes, callback: Callback) -> None:
        self.sent.append((command, callback))

    def connect(self, cache: ResultCache) -> None:
        """Begin to settle; up once the scheduler has let the commands through."""
        self.state = LinkState.CONNECTING

        def ready() -> None:
            self.state = LinkState.UP
            self.request = self._send

        cache.settle(str(self.server.incarnation), self._send, ready)

    def run_one(self) -> None:
        command, callback = self.sent.popleft()
        self.replied.append((self.server.run(command), callback))

    def deliver_one(self) -> None:
        reply, callback = self.replied.popleft()
        callback(reply)

    def run_orphan(self) -> None:
        """A command that the server had read before the connection broke."""
        self.server.run(self.orphans.popleft())

    def break_off(self, reason: str) -> None:
        self.state = LinkState.CONNECTING
        self.request = self._refuse
        pending = [callback for _, callback in (*self.replied, *self.sent)]
        self.orphans.extend(command for command, _ in self.sent)
        self.sent.clear()
        self.replied.clear()
        for callback in pending:
            callback(LinkLost(reason))


@dataclass
class Proxy:
    """A process: its cache, and the writes that its clients were told of while it was cut off."""

    link: ModelLink
    cache: ResultCache
    required: int = 0
    """No hit may be older than this version."""
    untold: int = 0
    reads: list[Callable[[], None]] = field(default_factory=list)
    writes: list[Callable[[], None]] = field(default_factory=list)


class World:
    """One table, whose content is the number of its last write, and everybody who touches it."""

    def __init__(self, proxies: int) -> None:
        self.now = 0
        self.committed = 0
        self.sampled = (0, 0)  # (version, when)
        self.replica = (0, 0)  # it shows this version: everything acknowledged before then
        self.hits = 0
        self.server = Server()
        self.proxies = []
        for _ in range(proxies):
            link = ModelLink(self.server)
            cache = ResultCache(link, "penstock", [DATABASE], lambda: float(self.now))
            self.proxies.append(Proxy(link, cache))

    def read(self, proxy: Proxy) -> None:
        """A client's select: asks the cache, then reads a node and fills."""
        required = proxy.required

        def looked_up(found: Lookup) -> None:
            if found.payload is not None:
                self.hits += 1
                assert int(found.payload) >= required, f"{found.payload!r} after {required}"
            else:
                proxy.reads.append(partial(self._read_node, proxy, found))

        proxy.cache.lookup(DATABASE, "orders", DIGEST, READS, looked_up)

    def _read_node(self, proxy: Proxy, found: Lookup) -> None:
        if found.ticket is None:
            return
        shown, replayed_until = self.replica
        version = shown if replayed_until > found.fresh_after else self.committed
        proxy.reads.append(partial(proxy.cache.fill, found.ticket, str(version).encode(), 60.0))

    def write(self, proxy: Proxy) -> None:
        """A client's update: move, commit, move, answer."""
        names = frozenset(READS)

        def commit() -> None:
            self.committed += 1
            version = self.committed
            proxy.cache.move(DATABASE, names, partial(self._acknowledge, proxy, version))

        proxy.cache.move(DATABASE, names, lambda: proxy.writes.append(commit))

    def _acknowledge(self, proxy: Proxy, version: int) -> None:
        proxy.required = max(proxy.required, version)
        if proxy.link.state is LinkState.UP:
            self._tell_all(version)
        else:
            proxy.untold = max(proxy.untold, version)

    def _tell_all(self, version: int) -> None:
        for proxy in self.proxies:
            proxy.required = max(proxy.required, version)

    def sample(self) -> None:
        self.sampled = (self.committed, self.now)

    def replay(self) -> None:
        self.replica = self.sampled

    def reconnect(self, proxy: Proxy) -> None:
        proxy.link.connect(proxy.cache)

    def restart(self, data: dict[bytes, bytes]) -> None:
        """The server dies with what it had read, and comes back with `data`."""
        for proxy in self.proxies:
            proxy.link.break_off("restart")
            proxy.link.orphans.clear()
        self.server.data = dict(data)
        self.server.incarnation += 1

    def save(self) -> None:
        self.server.saved = dict(self.server.data)

    def evict(self, key: bytes) -> None:
        self.server.data.pop(key, None)

    def progress(self) -> Iterator[Callable[[], None]]:
        """What is under way and can go on."""
        for proxy in self.proxies:
            link = proxy.link
            if link.sent:
                yield link.run_one
            if link.replied:
                yield link.deliver_one
            if link.orphans:
                yield link.run_orphan
            for tasks in (proxy.reads, proxy.writes):
                for task in tasks:
                    yield partial(_take, tasks, task)
            if link.state is not LinkState.UP and not link.sent and not link.replied:
                yield partial(self.reconnect, proxy)

    def faults(self) -> Iterator[Callable[[], None]]:
        """What may go wrong."""
        for proxy in self.proxies:
            yield partial(proxy.link.break_off, "cut")
            if proxy.link.state is not LinkState.UP:
                yield proxy.cache.away
        yield self.save
        yield partial(self.restart, {})
        yield partial(self.restart, self.server.saved)
        for key in sorted(self.server.data):
            yield partial(self.evict, key)

    def step(self, choice: int, faulty: bool) -> None:
        """Let one thing happen: mostly what is under way, often a read, seldom a write."""
        self.now += 1
        kind, which = choice % 64, choice // 64
        proxy = self.proxies[which % len(self.proxies)]
        possible = list(self.faults() if faulty else self.progress())
        if possible and (faulty or kind < 48):
            possible[which % len(possible)]()
        elif kind == 63:
            self.write(proxy)
        elif kind >= 60:
            (self.replay, self.sample)[which % 2]()
        else:
            self.read(proxy)
        for proxy in self.proxies:
            if proxy.untold and proxy.link.state is LinkState.UP:
                self._tell_all(proxy.untold)
                proxy.untold = 0


def _take(tasks: list[Callable[[], None]], task: Callable[[], None]) -> None:
    tasks.remove(task)
    task()


def run_schedule(choices: list[int], proxies: int, faults_every: int) -> int:
    """Run a schedule; the number of hits that it checked."""
    world = World(proxies)
    for number, choice in enumerate(choices):
        world.step(choice, faults_every > 0 and number % faults_every == faults_every - 1)
    return world.hits


@given(
    st.lists(st.integers(0, 1_000_000), max_size=150),
    st.integers(1, 3),
    st.sampled_from([0, 5, 20]),
)
@settings(max_examples=150, deadline=None)
def test_no_schedule_serves_an_overwritten_result(
    choices: list[int], proxies: int, faults_every: int
) -> None:
    run_schedule(choices, proxies, faults_every)


@pytest.mark.parametrize("proxies", [1, 2, 3])
@pytest.mark.parametrize("faults_every", [0, 10, 25, 60])
def test_long_random_schedules_hit_and_stay_right(proxies: int, faults_every: int) -> None:
    dice = random.Random(proxies * 1000 + faults_every)
    hits = sum(
        run_schedule(dice.choices(range(1_000_000), k=1000), proxies, faults_every)
        for _ in range(40)
    )
    assert hits > 50


@pytest.mark.parametrize("turns_of_read", [*itertools.combinations(range(10), 5)])
def test_every_order_of_one_read_and_one_write(turns_of_read: tuple[int, ...]) -> None:
    """The read: lookup runs, its reply arrives, the node is read, the fill runs, is answered. The
    write: move runs, is acknowledged, commits, second move runs, is acknowledged."""
    world = World(2)
    reader, writer = world.proxies
    for proxy in world.proxies:
        _bring_up(world, proxy)
    world.read(reader)  # makes the epoch of the table
    _drain(reader)
    world.read(reader)
    world.write(writer)
    for turn in range(10):
        world.now += 1
        _advance(reader if turn in turns_of_read else writer)
    _drain(reader)
    _drain(writer)
    assert reader.required == 1
    world.read(reader)  # fails if it hits what was read before the write
    _drain(reader)
    world.read(reader)
    _drain(reader)
    assert world.hits >= 1  # by then a fill has been kept


def _bring_up(world: World, proxy: Proxy) -> None:
    world.reconnect(proxy)
    while proxy.link.state is not LinkState.UP:
        _advance(proxy)


def _advance(proxy: Proxy) -> bool:
    """The one thing that `proxy` can do next."""
    link = proxy.link
    if link.replied:
        link.deliver_one()
    elif link.sent:
        link.run_one()
    elif proxy.reads:
        proxy.reads.pop(0)()
    elif proxy.writes:
        proxy.writes.pop(0)()
    else:
        return False
    return True


def _drain(proxy: Proxy) -> None:
    while _advance(proxy):
        pass


def _stored(world: World, proxy: Proxy) -> None:
    """Read until the result is stored and served."""
    for _ in range(3):
        world.read(proxy)
        _drain(proxy)
    assert world.hits >= 1


def test_a_settling_that_breaks_is_begun_anew() -> None:
    world = World(1)
    (proxy,) = world.proxies
    _bring_up(world, proxy)
    _stored(world, proxy)
    world.save()
    world.write(proxy)
    _drain(proxy)
    world.restart(world.server.saved)
    world.reconnect(proxy)  # sees the new incarnation, and is cut before it could move
    proxy.link.break_off("cut")
    proxy.link.orphans.clear()
    _bring_up(world, proxy)
    world.read(proxy)  # fails if it hits what the server had saved
    _drain(proxy)
    assert proxy.cache.statistics.misses["invalidated"] == 1


def test_a_move_that_meets_a_broken_link_waits_for_the_settling() -> None:
    world = World(2)
    writer, other = world.proxies
    for proxy in world.proxies:
        _bring_up(world, proxy)
    _stored(world, other)
    acknowledged: list[bool] = []
    writer.cache.move(DATABASE, frozenset(READS), lambda: acknowledged.append(True))
    writer.link.break_off("cut")
    writer.link.orphans.clear()
    assert not acknowledged
    hits = world.hits
    _bring_up(world, writer)
    assert acknowledged
    world.read(other)
    _drain(other)
    assert world.hits == hits


def test_a_move_is_not_held_while_redis_is_away() -> None:
    world = World(1)
    (proxy,) = world.proxies
    acknowledged: list[str] = []
    proxy.cache.move(DATABASE, frozenset(READS), lambda: acknowledged.append("held"))
    assert acknowledged == []
    proxy.link.state = LinkState.AWAY
    proxy.cache.away()
    assert acknowledged == ["held"]
    proxy.cache.move(DATABASE, frozenset(READS), lambda: acknowledged.append("at once"))
    assert acknowledged == ["held", "at once"]
