"""The real cache code against a model of Redis, in every order that a network can make of it.

The scheduler decides when the server runs a command, when a reply or message arrives, when an alarm
goes off, when a link breaks, when its process notices, and when the server forgets or rolls back.
Every hit, from Redis or from memory, is checked against the writes acknowledged before its lookup.
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

from proxy.cache.commands import CLAIM_SCRIPT, REMOVE_SCRIPT
from proxy.cache.connection import Callback
from proxy.cache.endpoint import Endpoint
from proxy.cache.entry import HEADER_SIZE, TOKEN_SIZE, entry_digest
from proxy.cache.errors import LinkLost
from proxy.cache.link import LinkState, Request
from proxy.cache.lookups import Clocks
from proxy.cache.members import RENEW_SECONDS, TRUST_SECONDS, WAIT_SECONDS
from proxy.cache.results import ResultCache
from proxy.cache.statistics import APART
from proxy.cache.ticket import Lookup
from proxy.cache.tier import Right

DATABASE = "app"
READS = ("orders",)
DIGEST = entry_digest(b"context", b"select")
KEY = b"select"
TERMS = object()
MEMBERS = b"penstock:members"
TICK = 0.01
"""Seconds between two steps."""
LIFE = 60.0
PATIENCE = 5.0
_METHODS = {b"DEL": "delete"}
PREAMBLE, READY = b"2\0\0\0\4", b"Z\0\0\0\5I"

Data = dict[bytes, Any]


class Server:
    """Redis as a dictionary; who listens has its link here."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.data: Data = {}
        self.saved: Data = {}
        self.incarnation = 1
        self.clock = clock
        self.full = False
        self.deleted = 0
        self.listeners: dict[bytes, list[ModelLink]] = {}

    def run(self, command: bytes) -> Any:
        reader = hiredis.Reader()
        reader.feed(command)
        name, *arguments = reader.gets()
        return getattr(self, _METHODS.get(name, name.decode().lower()))(*arguments)

    def copy(self) -> Data:
        return {k: dict(v) if isinstance(v, dict) else v for k, v in self.data.items()}

    def hset(self, key: bytes, field: bytes, value: bytes) -> int:
        self.data.setdefault(key, {})[field] = value
        return 1

    def hget(self, key: bytes, field: bytes) -> bytes | None:
        value: bytes | None = self.data.get(key, {}).get(field)
        return value

    def hlen(self, key: bytes) -> int:
        return len(self.data.get(key, {}))

    def hgetall(self, key: bytes) -> dict[bytes, bytes]:
        return dict(self.data.get(key, {}))

    def eval(self, script: bytes, _count: bytes, key: bytes, one: bytes, two: bytes) -> Any:
        if script == REMOVE_SCRIPT:
            if self.hget(key, one) == two:
                del self.data[key][one]
            return None
        assert script == CLAIM_SCRIPT
        now = b"%d" % (1000 + self.clock())
        roster = self.hget(key, b"roster")
        if roster is None or not roster.startswith(one + b" "):
            roster = b" ".join((one, two, now))
            self.hset(key, b"roster", roster)
        return [roster, now]

    def publish(self, channel: bytes, message: bytes) -> int:
        listeners = self.listeners.get(channel, [])
        for link in listeners:
            link.messages.replied.append(((channel, message), None))
        return len(listeners)

    def delete(self, *keys: bytes) -> int:
        self.deleted += 1
        for key in keys:
            self.data.pop(key, None)
        return len(keys)

    def pttl(self, key: bytes) -> int:
        return round(LIFE * 1000) if key in self.data else -2

    def get(self, key: bytes) -> bytes | None:
        value: bytes | None = self.data.get(key)
        return value

    def mget(self, *keys: bytes) -> list[bytes | None]:
        return [self.data.get(key) for key in keys]

    def mset(self, *pairs: bytes) -> bytes | hiredis.ReplyError:
        if self.full:
            return hiredis.ReplyError("OOM command not allowed")
        self.data.update(zip(pairs[::2], pairs[1::2], strict=True))
        return b"OK"

    def set(self, key: bytes, value: bytes, condition: bytes, *_life: bytes) -> bytes | None:
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


class Stream:
    """A connection: what was sent, and what comes back in order."""

    def __init__(self) -> None:
        self.sent: deque[tuple[bytes, Callback]] = deque()
        self.replied: deque[tuple[Any, Callback | None]] = deque()
        """A message has no callback."""

    def send(self, command: bytes, callback: Callback) -> None:
        self.sent.append((command, callback))


class ModelLink:
    """A link whose every step waits for the scheduler."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.state = LinkState.CONNECTING
        self.request: Request = self._refuse
        self.congested = False
        self.resting = False
        self.where: Endpoint | None = None
        self.cache: ResultCache
        self.alive = True
        """The server knows this connection; the process may not have noticed that it doesn't."""
        self.commands = Stream()
        self.messages = Stream()
        self.streams = self.commands, self.messages
        self.orphans: deque[bytes] = deque()

    def _refuse(self, command: bytes, callback: Callback) -> None:
        callback(LinkLost("down"))

    @property
    def quiet(self) -> bool:
        return not any(stream.sent or stream.replied for stream in self.streams)

    def connect(self) -> None:
        """Begin to settle; up once the scheduler has let the commands through."""
        self.state = LinkState.CONNECTING
        self.alive = True
        for channel in self.cache.channels:
            self.server.listeners.setdefault(channel, []).append(self)

        def ready() -> None:
            self.state = LinkState.UP
            self.request = self.commands.send

        life = str(self.server.incarnation)
        self.cache.settle(life, self.commands.send, self.messages.send, ready)

    def run_one(self, stream: Stream) -> None:
        command, callback = stream.sent.popleft()
        stream.replied.append((self.server.run(command), callback))

    def deliver_one(self, stream: Stream) -> None:
        reply, callback = stream.replied.popleft()
        if callback is None:
            self.cache.heard(*reply)
        else:
            callback(reply)

    def run_orphan(self) -> None:
        """A command that the server had read before the connection broke."""
        self.server.run(self.orphans.popleft())

    def die(self) -> None:
        """The server knows the connection no more."""
        self.alive = False
        for listeners in self.server.listeners.values():
            if self in listeners:
                listeners.remove(self)

    def break_off(self, reason: str) -> None:
        """The process sees that the connection is broken."""
        alive = self.alive
        self.die()
        if self.state is LinkState.UP:
            self.state = LinkState.CONNECTING
        self.request = self._refuse
        pending: list[Callback | None] = []
        for stream in self.streams:
            pending += [callback for _, callback in (*stream.replied, *stream.sent)]
            if alive:
                self.orphans.extend(command for command, _ in stream.sent)
            stream.sent.clear()
            stream.replied.clear()
        self.cache.lost()
        for callback in pending:
            if callback is not None:
                callback(LinkLost(reason))


@dataclass
class Proxy:
    """A process: its cache, and the writes that its clients were told of while it was cut off."""

    link: ModelLink
    cache: ResultCache
    required: int = 0
    """No hit may be older than this version."""
    untold: int = 0
    asking: int = 0
    """Look-ups under way."""
    reads: list[Callable[[], None]] = field(default_factory=list)
    writes: list[Callable[[], None]] = field(default_factory=list)


class World:
    """One table, whose content is the number of its last write, and everybody who touches it."""

    def __init__(self, proxies: int) -> None:
        self.now = 0
        self.committed = 0
        self.sampled = (0, 0.0)  # (version, when)
        self.replica = (0, 0.0)  # it shows this version: everything acknowledged before then
        self.hits = self.memory_hits = self.followed = 0
        self.alarms: list[tuple[float, Callable[[], None]]] = []
        self.server = Server(self.clock)
        self.proxies = []
        clocks = Clocks(self.clock, self.clock, self._later)
        for _ in range(proxies):
            link = ModelLink(self.server)
            cache = ResultCache(link, "penstock", [DATABASE], clocks, 1 << 20, PATIENCE)
            link.cache = cache
            self.proxies.append(Proxy(link, cache))
            cache.start()

    def clock(self) -> float:
        return self.now * TICK

    def _later(self, seconds: float, alarm: Callable[[], None]) -> None:
        self.alarms.append((self.clock() + seconds, alarm))

    def _check(self, payload: bytes, required: int, whence: str) -> None:
        assert int(payload) >= required, f"{payload!r} {whence} after {required}"

    def read(self, proxy: Proxy) -> None:
        """A client's select: asks the memory, then Redis, then reads a node and fills."""
        required = proxy.required
        answer = proxy.cache.tier.get(KEY, TERMS, self.clock())
        if answer is not None:
            self.memory_hits += 1
            self._check(answer.reply[len(PREAMBLE) : -len(READY)], required, "from memory")
            return

        def looked_up(found: Lookup) -> None:
            proxy.asking -= 1
            if found.payload is None:
                proxy.reads.append(partial(self._read_node, proxy, found))
                return
            self._check(found.payload, required, found.reason)
            if found.reason == "coalesced":
                self.followed += 1
            else:
                self.hits += 1
                if found.right is not None:
                    self._retain(proxy, found.payload, found.right)

        proxy.asking += 1
        proxy.cache.lookup(DATABASE, "orders", DIGEST, READS, looked_up)

    def _retain(self, proxy: Proxy, payload: bytes, right: Right) -> None:
        reply = PREAMBLE + payload + READY
        proxy.cache.retain(KEY, reply, len(PREAMBLE), TERMS, "", right)

    def _read_node(self, proxy: Proxy, found: Lookup) -> None:
        if found.ticket is None:
            return
        shown, replayed_until = self.replica
        version = shown if replayed_until > found.fresh_after else self.committed
        payload = str(version).encode()
        keep = partial(self._retain, proxy, payload)
        if self.now % 7 != 1:
            proxy.reads.append(
                lambda: proxy.cache.fill(found.ticket, payload, LIFE, keep)  # type: ignore[arg-type]
            )
        else:
            proxy.reads.append(lambda: proxy.cache.forgo(found.ticket))  # type: ignore[arg-type]

    def write(self, proxy: Proxy) -> None:
        """A client's update: move, commit, move, answer."""
        names = frozenset(READS)

        def commit() -> None:
            self.committed += 1
            version = self.committed
            proxy.cache.move(DATABASE, names, partial(self._acknowledge, proxy, version))

        proxy.cache.announce(DATABASE, names, lambda: proxy.writes.append(commit))

    def _acknowledge(self, proxy: Proxy, version: int) -> None:
        """From now on nobody may serve less; but who has Redis while the writer has not can't know
        of it before the writer is back."""
        proxy.required = max(proxy.required, version)
        if proxy.link.state is LinkState.UP and proxy.link.alive:
            self._tell(self.proxies, version)
        else:
            self._tell([one for one in self.proxies if not one.link.alive], version)
            proxy.untold = max(proxy.untold, version)

    def _tell(self, proxies: list[Proxy], version: int) -> None:
        for proxy in proxies:
            proxy.required = max(proxy.required, version)

    def sample(self) -> None:
        self.sampled = (self.committed, self.clock())

    def replay(self) -> None:
        self.replica = self.sampled

    def reconnect(self, proxy: Proxy) -> None:
        proxy.link.connect()

    def restart(self, saved: bool) -> None:
        """The server dies with what it had read, and comes back with what it had saved or with
        nothing. Each process notices when the scheduler lets it."""
        for proxy in self.proxies:
            proxy.link.die()
            proxy.link.orphans.clear()
        self.server.data, now = dict(self.server.saved) if saved else {}, self.server.copy()
        self.server.saved = self.server.copy() if saved else now
        self.server.incarnation += 1

    def save(self) -> None:
        self.server.saved = self.server.copy()

    def flush(self) -> None:
        self.server.data.clear()

    def evict(self, key: bytes) -> None:
        self.server.data.pop(key, None)

    def progress(self) -> Iterator[Callable[[], None]]:
        """What is under way and can go on."""
        for proxy in self.proxies:
            link = proxy.link
            for stream in link.streams:
                if stream.sent and link.alive:
                    yield partial(link.run_one, stream)
                if stream.replied:
                    yield partial(link.deliver_one, stream)
            if link.orphans:
                yield link.run_orphan
            for tasks in (proxy.reads, proxy.writes):
                for task in tasks:
                    yield partial(_take, tasks, task)
            if not link.alive and link.state is LinkState.UP:
                yield partial(link.break_off, "noticed")
            elif link.state is not LinkState.UP:
                yield partial(self._try_again, proxy)
        for alarm in self.alarms:
            if alarm[0] <= self.clock():
                yield partial(self._ring, alarm)

    def _try_again(self, proxy: Proxy) -> None:
        proxy.link.break_off("another attempt")
        self.reconnect(proxy)

    def _ring(self, alarm: tuple[float, Callable[[], None]]) -> None:
        self.alarms.remove(alarm)
        alarm[1]()

    def faults(self) -> Iterator[Callable[[], None]]:
        """What may go wrong."""
        for proxy in self.proxies:
            yield partial(proxy.link.break_off, "cut")
            yield proxy.link.die
            if proxy.link.state is not LinkState.UP:
                yield proxy.cache.away
        yield self.save
        yield self.flush
        yield partial(self.restart, False)
        yield partial(self.restart, True)
        for key in sorted(self.server.data):
            yield partial(self.evict, key)

    def step(self, choice: int, faulty: bool) -> None:
        """Let one thing happen: mostly what is under way, often a read, seldom a write."""
        self.now += 1
        kind, which = choice % 64, choice // 64
        proxy = self.proxies[which % len(self.proxies)]
        goes_on = faulty or kind < 48
        possible = list(self.faults() if faulty else self.progress()) if goes_on else []
        if possible:
            possible[which % len(possible)]()
            for _ in range(which % 5):  # what is sent together mostly arrives together
                for stream in proxy.link.streams:
                    if not faulty and proxy.link.alive and stream.sent:
                        proxy.link.run_one(stream)
                    if not faulty and stream.replied:
                        proxy.link.deliver_one(stream)
        elif kind == 63:
            self.write(proxy)
        elif kind >= 60:
            (self.replay, self.sample)[which % 2]()
        elif proxy.asking + len(proxy.reads) < 4:
            self.read(proxy)
        for proxy in self.proxies:
            if proxy.untold and proxy.link.state is LinkState.UP and proxy.link.alive:
                self._tell(self.proxies, proxy.untold)
                proxy.untold = 0


def _take(tasks: list[Callable[[], None]], task: Callable[[], None]) -> None:
    tasks.remove(task)
    task()


def run_schedule(choices: list[int], proxies: int, faults_every: int) -> World:
    """Run a schedule and check all its hits."""
    world = World(proxies)
    for number, choice in enumerate(choices):
        world.step(choice, faults_every > 0 and number % faults_every == faults_every - 1)
    return world


@given(
    st.lists(st.integers(0, 1_000_000), max_size=150),
    st.integers(1, 3),
    st.sampled_from([0, 20, 60]),
)
@settings(max_examples=150, deadline=None)
def test_no_schedule_serves_an_overwritten_result(
    choices: list[int], proxies: int, faults_every: int
) -> None:
    run_schedule(choices, proxies, faults_every)


@pytest.mark.parametrize("proxies", [1, 2, 3])
@pytest.mark.parametrize("faults_every", [0, 25, 60, 150])
def test_long_random_schedules_hit_and_stay_right(proxies: int, faults_every: int) -> None:
    dice = random.Random(proxies * 1000 + faults_every)
    worlds = [
        run_schedule(dice.choices(range(1_000_000), k=1000), proxies, faults_every)
        for _ in range(20)
    ]
    found = [
        sum(world.hits for world in worlds),
        sum(world.memory_hits for world in worlds),
        sum(world.followed for world in worlds),
    ]
    assert min(found) > 10, found


@pytest.mark.parametrize("turns_of_read", [*itertools.combinations(range(10), 5)])
def test_every_order_of_one_read_and_one_write(turns_of_read: tuple[int, ...]) -> None:
    """The read: lookup runs, its reply arrives, the node is read, the fill runs, is answered. The
    write: move runs, is acknowledged, commits, second move runs, is acknowledged."""
    world = _grown_up(2)
    reader, writer = world.proxies
    world.read(reader)  # makes the epoch of the table
    _drain(reader)
    world.read(reader)
    world.write(writer)
    for turn in range(10):
        world.now += 1
        _advance(reader if turn in turns_of_read else writer)
    _come_to_rest(world)
    assert reader.required == 1
    world.read(reader)  # fails if it hits what was read before the write
    _come_to_rest(world)
    world.read(reader)
    assert world.hits + world.memory_hits >= 1  # by then a fill has been kept


@pytest.mark.parametrize("turns_of_read", [*itertools.combinations(range(12), 6)])
def test_every_order_of_one_write_and_hits_from_memory_beside_it(
    turns_of_read: tuple[int, ...],
) -> None:
    """The reader asks at each of its turns; what comes to it then is what makes it stop."""
    world = _grown_up(2)
    reader, writer = world.proxies
    _remembered(world, reader)
    world.write(writer)
    for turn in range(12):
        world.now += 1
        if turn in turns_of_read:
            world.read(reader)  # fails if it hits what was read before the acknowledged write
            _advance(reader)
        else:
            _advance(writer)
    _come_to_rest(world)
    assert reader.required == 1
    world.read(reader)


def test_a_member_that_stands_still_is_waited_for_as_long_as_it_trusts_itself() -> None:
    world = _grown_up(2)
    frozen, writer = world.proxies
    _remembered(world, frozen)
    unconfirmed = writer.cache.statistics.unconfirmed_moves
    world.write(writer)
    _drain(writer)
    assert writer.required == 0
    hits = world.memory_hits
    world.now += round(0.9 * TRUST_SECONDS / TICK)  # nothing of it has run, but for its clients
    world.read(frozen)
    _drain(writer)
    assert world.memory_hits == hits + 1
    assert writer.required == 0
    world.now += round((WAIT_SECONDS - 0.8 * TRUST_SECONDS) / TICK)
    _ring_all(world)
    _drain(writer)
    assert writer.required == frozen.required == 1
    assert writer.cache.statistics.unconfirmed_moves == unconfirmed + 1
    assert frozen.cache.identity not in world.server.data[MEMBERS]
    world.read(frozen)  # fails if it hits
    _come_to_rest(world)
    assert frozen.cache.identity in world.server.data[MEMBERS]


def test_trust_counts_from_before_the_renewal_was_sent() -> None:
    """Its reply may have been under way for long."""
    world = _grown_up(2)
    slow, writer = world.proxies
    _remembered(world, slow)
    world.now += round(RENEW_SECONDS / TICK) + 1
    _ring_all(world)
    slow.link.run_one(slow.link.messages)
    slow.link.run_one(slow.link.messages)
    world.write(writer)
    _drain(writer)
    assert len(slow.link.messages.replied) == 4  # to the renewal, then what is told of the write
    world.now += round(0.9 * TRUST_SECONDS / TICK)
    slow.link.deliver_one(slow.link.messages)
    slow.link.deliver_one(slow.link.messages)
    world.now += round((WAIT_SECONDS - 0.8 * TRUST_SECONDS) / TICK)
    _ring_all(world)
    _drain(writer)
    assert writer.required == slow.required == 1
    world.read(slow)  # fails if it hits


def test_a_member_that_has_renewed_meanwhile_is_not_taken_out() -> None:
    world = _grown_up(2)
    slow, writer = world.proxies
    _remembered(world, slow)
    world.write(writer)
    _drain(writer)
    world.now += round(RENEW_SECONDS / TICK) + 1
    _ring_all(world)
    slow.link.run_one(slow.link.messages)
    world.now += round(WAIT_SECONDS / TICK)
    _ring_all(world)
    _drain(writer)
    assert writer.required == 1
    assert slow.cache.identity in world.server.data[MEMBERS]


@pytest.mark.parametrize("before", range(4))
def test_a_member_that_was_taken_out_may_come_back_beside_a_move(before: int) -> None:
    """What it had kept is still there, and right as long as it has read all that was told.

    `before`: how many of the move's commands have run by then."""
    world = _grown_up(2)
    other, writer = world.proxies
    _remembered(world, other)
    world.write(writer)
    for _ in range(3):  # announced, acknowledged, committed: the second move has been sent
        _advance(writer)
    other.link.messages.replied.clear()  # that of the announcement: as if it had not been
    assert len(writer.link.commands.sent) == 3
    world.server.data[MEMBERS].pop(other.cache.identity)
    world.now += round(TRUST_SECONDS / TICK) + 1
    _ring_all(world)
    for _ in range(before):
        writer.link.run_one(writer.link.commands)
    while other.link.messages.sent:
        other.link.run_one(other.link.messages)
    while other.link.messages.replied:
        other.link.deliver_one(other.link.messages)
    world.read(other)
    _drain(writer)
    world.read(other)  # fails if it hits and the write was acknowledged
    _come_to_rest(world)
    assert writer.required == 1
    world.read(other)


def test_one_process_alone_waits_for_nobody() -> None:
    world = _grown_up(1)
    (proxy,) = world.proxies
    _remembered(world, proxy)
    alarms = len(world.alarms)
    world.write(proxy)
    _drain(proxy)
    assert proxy.required == 1
    assert len(world.alarms) == alarms


def test_a_list_of_members_that_was_lost_is_not_taken_for_an_empty_one() -> None:
    world = _grown_up(2)
    other, writer = world.proxies
    _remembered(world, other)
    world.flush()
    world.write(writer)
    _drain(writer)
    assert writer.required == 0
    world.now += round(WAIT_SECONDS / TICK) + 1
    _come_to_rest(world)
    assert writer.required == 1


def test_a_list_of_members_that_was_lost_empties_the_memory_at_the_next_renewal() -> None:
    """Who flushes Redis wants nothing to be served from before."""
    world = _grown_up(1)
    (proxy,) = world.proxies
    _remembered(world, proxy)
    world.flush()
    world.now += round(RENEW_SECONDS / TICK) + 1
    _come_to_rest(world)
    assert proxy.cache.tier.size == 0
    assert proxy.link.state is LinkState.CONNECTING


def test_who_has_redis_again_first_asks_it_nothing_before_the_others_have_it_too() -> None:
    """They may owe it a write that was acknowledged while it was away."""
    world = _grown_up(2)
    first, second = world.proxies
    _remembered(world, first)
    for proxy in world.proxies:
        proxy.link.break_off("lost")
        proxy.link.state = LinkState.AWAY
    world.now += round(WAIT_SECONDS / TICK) + 1
    world.write(second)
    _drain(second)
    assert second.required == 1
    _bring_up(world, first)
    _drain(first)
    first.required = 1
    hits = world.hits
    world.read(first)  # fails if it hits
    _drain(first)
    assert first.cache.statistics.bypasses[APART] == 1
    world.reconnect(second)  # it is there again, but has not paid what it owes
    for _ in range(4):
        while second.link.messages.sent:
            second.link.run_one(second.link.messages)
        while second.link.messages.replied:
            second.link.deliver_one(second.link.messages)
        world.now += round(RENEW_SECONDS / TICK) + 1
        _ring_all(world)
        _drain(first)
    world.read(first)  # fails if it hits
    _come_to_rest(world)
    world.now += round(RENEW_SECONDS / TICK) + 1
    _come_to_rest(world)
    for _ in range(2):
        world.read(first)
        _come_to_rest(world)
    assert world.hits + world.memory_hits > hits + 1


def test_who_waits_for_others_in_vain_goes_on() -> None:
    world = _grown_up(2)
    first = world.proxies[0]
    for proxy in world.proxies:
        proxy.link.break_off("lost")
    _bring_up(world, first)
    _drain(first)
    world.read(first)
    assert world.hits == 0
    assert first.cache.statistics.bypasses[APART] == 1
    world.now += round(2.0 / TICK) + 1
    _ring_all(world)
    _drain(first)
    for _ in range(3):
        world.read(first)
        _drain(first)
    assert world.hits + world.memory_hits >= 1


def test_with_the_connection_goes_all_that_is_in_memory() -> None:
    world = _grown_up(1)
    (proxy,) = world.proxies
    _remembered(world, proxy)
    proxy.link.break_off("cut")
    assert proxy.cache.tier.size == 0
    world.read(proxy)
    assert world.memory_hits == 1


def test_a_server_that_was_restarted_may_have_forgotten_members() -> None:
    world = _grown_up(2)
    other, writer = world.proxies
    _remembered(world, other)
    world.restart(saved=False)
    writer.link.break_off("noticed")  # the other has not
    world.reconnect(writer)
    _drain(writer)
    assert writer.link.state is LinkState.UP
    world.write(writer)
    _drain(writer)
    world.read(other)
    assert world.memory_hits == 2
    assert writer.required == 0
    world.now += round(WAIT_SECONDS / TICK) + 1
    _ring_all(world)
    _drain(writer)
    assert writer.required == 1
    world.read(other)  # fails if it hits


def test_a_full_server_is_told_of_a_move_after_the_deletion() -> None:
    world = _grown_up(2)
    other, writer = world.proxies
    _remembered(world, other)
    world.server.full = True
    world.write(writer)
    while not world.server.deleted:
        stream = writer.link.commands
        writer.link.run_one(stream) if stream.sent else writer.link.deliver_one(stream)
    world.read(other)
    _come_to_rest(world)
    assert writer.required == 1
    world.read(other)  # fails if it hits what was read before the write
    _come_to_rest(world)


def test_a_read_follows_the_same_read_unless_a_write_has_come_between() -> None:
    world = _grown_up(2)
    reader, writer = world.proxies
    for _ in range(3):
        world.read(reader)
        _answered(reader)
    assert len(reader.reads) == 1
    world.write(writer)
    _come_to_rest(world, but=reader)
    world.read(reader)
    _answered(reader)
    assert len(reader.reads) == 2
    _come_to_rest(world)
    assert world.followed == 2


def test_who_follows_a_read_without_a_result_reads_by_itself() -> None:
    world = _grown_up(1)
    (proxy,) = world.proxies
    found: list[Lookup] = []
    for _ in range(4):
        proxy.cache.lookup(DATABASE, "orders", DIGEST, READS, found.append)
        _answered(proxy)
    (leader,) = found
    assert leader.ticket is not None
    proxy.cache.forgo(leader.ticket)
    assert [one.payload for one in found] == [None] * 4
    assert all(one.ticket is not None for one in found)


def test_who_follows_a_read_waits_for_a_limited_time() -> None:
    world = _grown_up(1)
    (proxy,) = world.proxies
    found: list[Lookup] = []
    for _ in range(3):
        proxy.cache.lookup(DATABASE, "orders", DIGEST, READS, found.append)
        _answered(proxy)
    assert len(found) == 1
    world.now += round(PATIENCE / TICK) + 1
    _ring_all(world)
    assert len(found) == 3
    assert found[2].ticket is not None


def _grown_up(proxies: int) -> World:
    """All are connected, and long enough that no older trust is to be reckoned with."""
    world = World(proxies)
    for proxy in world.proxies:
        _bring_up(world, proxy)
    for _ in range(20):
        world.now += round(WAIT_SECONDS / TICK)
        _come_to_rest(world)
    return world


def _bring_up(world: World, proxy: Proxy) -> None:
    world.reconnect(proxy)
    while proxy.link.state is not LinkState.UP:
        _advance(proxy)


def _advance(proxy: Proxy) -> bool:
    """The one thing that `proxy` can do next; what was sent together runs and arrives together."""
    link = proxy.link
    if any(stream.replied for stream in link.streams):
        for stream in link.streams:
            for _ in range(len(stream.replied)):
                if stream.replied:  # or the first of them has made it break off
                    link.deliver_one(stream)
    elif link.alive and any(stream.sent for stream in link.streams):
        for stream in link.streams:
            for _ in range(len(stream.sent)):
                link.run_one(stream)
    elif proxy.reads:
        proxy.reads.pop(0)()
    elif proxy.writes:
        proxy.writes.pop(0)()
    else:
        return False
    return True


def _answered(proxy: Proxy) -> None:
    """Until Redis has answered all that was asked."""
    while not proxy.link.quiet:
        _advance(proxy)


def _drain(proxy: Proxy) -> None:
    while _advance(proxy):
        pass


def _ring_all(world: World) -> None:
    for alarm in list(world.alarms):
        if alarm[0] <= world.clock():
            world.alarms.remove(alarm)
            alarm[1]()


def _come_to_rest(world: World, but: Proxy | None = None) -> None:
    _ring_all(world)
    moving = True
    while moving:
        advanced = [_advance(proxy) for proxy in world.proxies if proxy is not but]
        moving = any(advanced)


def _remembered(world: World, proxy: Proxy) -> None:
    """Read until the result is served from memory."""
    for _ in range(4):
        world.read(proxy)
        _come_to_rest(world)
    assert world.memory_hits >= 1
    world.memory_hits = 1


def _stored(world: World, proxy: Proxy) -> None:
    """Read until the result is stored and served."""
    for _ in range(4):
        world.read(proxy)
        _drain(proxy)
    assert world.hits + world.memory_hits >= 1


def test_a_settling_that_breaks_is_begun_anew() -> None:
    world = World(1)
    (proxy,) = world.proxies
    _bring_up(world, proxy)
    _stored(world, proxy)
    world.save()
    world.write(proxy)
    _drain(proxy)
    world.restart(saved=True)
    proxy.link.break_off("noticed")
    world.reconnect(proxy)  # sees the new incarnation, and is cut before it could move
    proxy.link.break_off("cut")
    proxy.link.orphans.clear()
    _bring_up(world, proxy)
    world.now += round(2.0 / TICK) + 1
    _ring_all(world)
    _drain(proxy)
    world.read(proxy)  # fails if it hits what the server had saved
    _drain(proxy)
    assert proxy.cache.statistics.misses["invalidated"] == 1


def test_a_move_that_meets_a_broken_link_waits_for_the_settling() -> None:
    world = World(2)
    writer, other = world.proxies
    for proxy in world.proxies:
        _bring_up(world, proxy)
    _stored(world, other)
    announced: list[bool] = []
    acknowledged: list[bool] = []
    writer.cache.announce(DATABASE, frozenset(READS), lambda: announced.append(True))
    writer.cache.move(DATABASE, frozenset(READS), lambda: acknowledged.append(True))
    writer.link.break_off("cut")
    writer.link.orphans.clear()
    assert not announced
    _bring_up(world, writer)
    assert announced
    assert not acknowledged  # the other has not confirmed
    world.now += round(WAIT_SECONDS / TICK) + 1
    _come_to_rest(world)
    assert acknowledged
    hits = world.hits, world.memory_hits
    world.read(other)
    _drain(other)
    assert (world.hits, world.memory_hits) == hits


def test_a_move_is_held_while_others_may_trust_themselves_and_no_longer() -> None:
    world = World(1)
    (proxy,) = world.proxies
    called: list[str] = []
    for kind in ("held", "after"):
        if kind == "after":
            world.now += round(WAIT_SECONDS / TICK) + 1
        proxy.cache.announce(DATABASE, frozenset(READS), lambda: called.append("announced"))
        proxy.cache.move(DATABASE, frozenset(READS), partial(called.append, kind))
        if kind == "held":
            assert called == []
            proxy.link.state = LinkState.AWAY
            proxy.cache.away()
            assert called == ["announced"]
            world.now += round(0.9 * WAIT_SECONDS / TICK)
            _ring_all(world)
            proxy.cache.away()
            assert called == ["announced"]
            world.now += round(0.2 * WAIT_SECONDS / TICK)
            _ring_all(world)
            assert called == ["announced", "held"]
    assert called == ["announced", "held", "announced", "after"]
