"""Who may answer from memory, and how they hear of writes: the processes that share one Redis.

Each process, a *member*, listens to one channel, and stands in a hash in Redis with the number of
its last renewal. A renewal is sent every RENEW_SECONDS on the connection that brings the messages;
from the moment *before* it was sent its member may answer from its `Tier` for TRUST_SECONDS, by its
own clock, once Redis's reply has been read.

A move of epochs is followed, on the connection of its own, by a message on the channel and by
reading the hash. Whoever gets the message drops the tables' answers from its tier, then confirms. A
write is acknowledged only when all that stood in the hash have confirmed, or WAIT_SECONDS after it
was read.

Why no answer from a tier is older than a write acknowledged before the look-up. Let the member P
serve an answer that it kept by a reply which Redis gave at time *k*, and let Redis pass on the
message of the write's second move at time *m*.

1. *k* after *m*: the answer was right at *k*, when the move had been made (see `results`).
2. *k* before *m*, and P has read the message: if it had kept the answer by then, it dropped it.
   Otherwise it read the reply after the message, but the command had been sent before *k*, so that
   its `Right` was gone. If the message was lost with P's connection, P emptied its tier when it saw
   that; until it saw that, it is in case 3.
3. *k* before *m*, and P has not read the message. Then it has read no reply that Redis gave after
   *m* on that connection either, so its trust comes from a renewal that Redis ran before *m*, and
   ends less than TRUST_SECONDS after *m*. That renewal put P into the hash. P is taken out only by
   itself, when it trusts no more, or by who has read its number and WAIT_SECONDS later finds it the
   same: no renewal lies between, so that its trust has ended. Thus P stood in the hash when the
   writer read it, after *m*, or its trust had ended. The writer waited for P's confirmation, which
   comes after case 2's dropping, or for longer than P's trust. (Were the hash read before *m*, a P
   that had been taken out could come back between, with what it had kept.)

That P did not renew in time takes nothing out of its tier: it only must not serve from it
meanwhile.

The hash may be lost while members live: Redis is restarted, flushed, evicts it, or a replica with
an older state takes over. Therefore it has a mark that names the incarnation of Redis and is never
the same again. Who finds another mark than it knows, or one that is younger than any trust, lets
its writes wait for WAIT_SECONDS; a member whose renewal finds another mark begins anew. Likewise
who has lost Redis acknowledges nothing before WAIT_SECONDS have passed: by then, if Redis is lost
to all, so is everybody's trust.

A process from which Redis was away may have acknowledged writes that it still owes. So who has lost
Redis and has it again asks it nothing at first (`apart`): until all others that stand in the hash
have renewed, which they do when they owe nothing any more, or for the time in which whoever can
reach Redis finds it again.

After a failover the hash may lack members, and those may take long to find the new primary. So who
is `cautious` remembers whom it has seen in the hash, and asks nothing before these have renewed
too, unless LONGEST_REUNION_SECONDS have passed.

The clock goes on while the machine sleeps, where the system has such a one.
"""

import time
from binascii import hexlify
from collections.abc import Callable
from functools import partial
from os import urandom
from typing import Any, Final

import hiredis
import structlog

from proxy.cache.commands import CLAIM_SCRIPT, REMOVE_SCRIPT, ROSTER, pack
from proxy.cache.errors import LinkLost
from proxy.cache.keys import SCHEMA, confirmations_channel, members_key, moves_channel, to_bytes
from proxy.cache.link import Request
from proxy.cache.site import LEASE_SECONDS
from proxy.cache.statistics import Statistics
from proxy.cache.tier import Tier

log = structlog.get_logger(__name__)

TRUST_SECONDS: Final = 1.0
"""These three are part of the agreement between processes: no settings."""
WAIT_SECONDS: Final = 1.1
RENEW_SECONDS: Final = 0.25
LONGEST_REUNION_SECONDS: Final = 15.0
_OLD_MARK_SECONDS: Final = 3
"""Of Redis's clock, which counts whole seconds here."""

Later = Callable[[float, Callable[[], None]], object]
"""(seconds, what to call then), as of an event loop."""
Told = Callable[[Exception | None], None]


def lease_clock() -> float:
    """Seconds that no sleep of the machine holds up, as far as the system can tell."""
    return time.clock_gettime(_CLOCK)


_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Waiting:
    """A move that was told, and who has to confirm it."""

    __slots__ = ("confirmed", "done", "not_before", "number", "others")

    def __init__(self, number: int, done: Callable[[], None]) -> None:
        self.number = number
        self.done: Callable[[], None] | None = done
        self.others: dict[bytes, bytes] | None = None
        """Members with their numbers of renewal; None until the hash has been read."""
        self.confirmed: set[bytes] = set()
        self.not_before = 0.0


class Members:
    """See the module's docstring. `schema_moved`: told of each database whose schema others have
    changed, so that nobody has to find out by a lookup in vain. `clock`: `lease_clock`. `later`:
    the event loop's call_later. `reunion`: seconds within which whoever can reach Redis has it
    again after a loss. `cautious`: another server may have taken the place of Redis, and others
    may not have noticed yet."""

    def __init__(
        self,
        prefix: str,
        tier: Tier,
        break_off: Callable[[str], None],
        schema_moved: Callable[[str], None],
        clock: Callable[[], float],
        later: Later,
        statistics: Statistics,
        reunion: float,
        *,
        cautious: bool = False,
    ) -> None:
        self.identity = hexlify(urandom(8))
        self._prefix = prefix
        self._key = members_key(prefix)
        self._moves = moves_channel(prefix)
        self._own_confirmations = confirmations_channel(prefix, self.identity)
        self.channels = (self._moves, self._own_confirmations)
        """To be listened to before `join`."""
        self._tier = tier
        self._break_off = break_off
        self._schema_moved = schema_moved
        self._clock = clock
        self._later = later
        self._statistics = statistics
        self._reunion = reunion
        self._cautious = cautious
        self._request: Request | None = None
        """Of the connection on which this process has joined."""
        self._roster: bytes | None = None
        self._arrived = False
        self._left = False
        self._joins = 0
        self.apart = False
        """Redis is there, but had better not be asked yet."""
        self._missing: dict[bytes, int] | None = None
        """Others that were listed when this process had joined again, and have not renewed since;
        None: not known."""
        self.company = True
        """Whether other processes share this Redis, as far as is known."""
        self._seen: dict[bytes, int] = {}
        """Others that were listed last, with their numbers of renewal, if `cautious`."""
        self._whole_from = 0.0
        """Not before that nobody is missing."""
        self._renewal = 0
        self._told = 0
        self._waiting: dict[int, Waiting] = {}
        self._unknown_until = 0.0
        """Until then there may be members that the hash doesn't tell of."""
        self._alone_from = clock() + WAIT_SECONDS

    # Membership

    def join(self, incarnation: str | None, request: Request, joined: Callable[[], None]) -> None:
        """Use a new connection, on which the channels are listened to. `joined` is called unless it
        breaks before; then what is owed can be paid, and `arrive` is to be called."""
        self._tier.empty()
        life = to_bytes(incarnation or "")

        def claimed(reply: Any) -> None:
            if isinstance(reply, LinkLost):
                return
            if isinstance(reply, hiredis.ReplyError):
                if not _is_full(reply):
                    self._refused(reply)
                    return
                self._roster, age, known = None, 0, False
            else:
                known = reply[0] == self._roster
                self._roster = reply[0]
                age = int(reply[1]) - int(reply[0].rpartition(b" ")[2])
            if incarnation is None or age < _OLD_MARK_SECONDS:
                unknown = LEASE_SECONDS if self._cautious else WAIT_SECONDS
                self._unknown_until = self._clock() + unknown
            self._request = request
            self._joins += 1
            if self._joins == 1 and not (self._cautious and age < _OLD_MARK_SECONDS):
                joined()
                return
            self._stay_apart(known, request, joined)

        mark = hexlify(urandom(8))
        request(pack(b"EVAL", CLAIM_SCRIPT, b"1", self._key, life, mark), claimed)

    def _stay_apart(self, known: bool, request: Request, joined: Callable[[], None]) -> None:
        """Until others are there too. `known`: the hash is the one that this process was in."""
        joins = self._joins
        self.apart, self._missing = True, None
        if not known:
            self._whole_from = self._clock() + self._reunion
        if self._cautious:
            self._later(self._reunion, self._look_whole)
            self._later(LONGEST_REUNION_SECONDS, lambda: self._end_apart(joins))
        else:
            self._later(self._reunion, lambda: self._end_apart(joins))
        if known or self._cautious:
            request(pack(b"HGETALL", self._key), partial(self._count_missing, joined))
        else:
            joined()

    def _count_missing(self, joined: Callable[[], None], reply: Any) -> None:
        if isinstance(reply, LinkLost):
            return
        if isinstance(reply, dict):
            missing = self._others(reply)
            for member, renewal in self._seen.items():
                missing[member] = max(renewal, missing.get(member, 0))
            self._missing = missing
            self._look_whole()
        joined()

    def _others(self, listed: dict[bytes, bytes]) -> dict[bytes, int]:
        """The numbers of renewal of all but this process."""
        return {
            member: int(renewal)
            for member, renewal in listed.items()
            if member not in (ROSTER, self.identity)
        }

    def _look_for_missing(self, reply: Any) -> None:
        missing = self._missing
        if missing is not None and isinstance(reply, dict):
            for member, renewal in self._others(reply).items():
                if renewal > missing.get(member, renewal):
                    del missing[member]
            self._look_whole()

    def _look_whole(self) -> None:
        """Asking may begin if nobody is missing."""
        if self._missing is not None and not self._missing and self._clock() >= self._whole_from:
            self.apart = False

    def _note_seen(self, reply: Any) -> None:
        if isinstance(reply, dict):
            self._seen = self._others(reply)

    def _end_apart(self, joins: int) -> None:
        if joins == self._joins:
            self.apart = False

    def arrive(self) -> None:
        """Nothing is owed any more: from now on this process may trust what it keeps."""
        if self._request is not None:
            self._arrived = True
            self._renew_on(self._request)

    def start(self) -> None:
        """Renew from now on, whenever there is a connection."""
        if self._left:
            return
        if self._request is not None and self._arrived:
            self._renew_on(self._request)
        self._later(RENEW_SECONDS, self.start)

    def _renew_on(self, request: Request) -> None:
        sent = self._clock()
        self._renewal += 1
        listed = False

        def added(reply: Any) -> None:
            nonlocal listed
            listed = isinstance(reply, int)
            if isinstance(reply, hiredis.ReplyError) and not _is_full(reply):
                self._refused(reply)

        def marked(reply: Any) -> None:
            if isinstance(reply, Exception) or request is not self._request:
                return
            if self._roster is None or reply != self._roster:
                if listed:
                    self._break_off("the list of those who share this Redis was lost")
            elif listed:
                self._tier.trusted_until = sent + TRUST_SECONDS

        request(pack(b"HSET", self._key, self.identity, b"%d" % self._renewal), added)
        request(pack(b"HGET", self._key, ROSTER), marked)
        request(pack(b"HLEN", self._key), self._count)
        if self.apart and self._missing is not None:
            request(pack(b"HGETALL", self._key), self._look_for_missing)
        elif self._cautious:
            request(pack(b"HGETALL", self._key), self._note_seen)

    def _count(self, listed: Any) -> None:
        if isinstance(listed, int):
            self.company = listed > 2  # this one and the mark

    def _refused(self, error: Exception) -> None:
        self._break_off(f"Redis refused what keeping answers in memory needs: {error}")

    def lost(self) -> None:
        """A connection broke, or could not be made."""
        if self._request is not None:
            self._request = None
            self._arrived = False
            self._tier.empty()
            self._alone_from = self._clock() + WAIT_SECONDS

    def seconds_until_alone(self) -> float:
        """While Redis is away: how long others may yet answer from memory, if it is away from them
        too."""
        return self._alone_from - self._clock()

    def leave(self) -> None:
        """For good: nobody need wait for this process any more."""
        request, self._request = self._request, None
        self._left = True
        self._tier.empty()
        if request is not None:
            request(pack(b"HDEL", self._key, self.identity), _nothing)

    # Moves of others

    def heard(self, channel: bytes, message: bytes) -> None:
        """A message on one of the channels."""
        parts = message.split(b"\0")
        if channel == self._moves:
            mover, number, database, *names = parts
            if mover != self.identity:
                self.company = True  # sooner known than by the next renewal
                moved = frozenset(map(_text, names))
                self._tier.invalidate(_text(database), moved)
                if SCHEMA in moved:
                    self._schema_moved(_text(database))
                if number != b"0" and self._request is not None:
                    answer = self.identity + b"\0" + number
                    where = confirmations_channel(self._prefix, mover)
                    self._request(pack(b"PUBLISH", where, answer), _nothing)
        elif channel == self._own_confirmations:
            member, number = parts
            waiting = self._waiting.get(int(number))
            if waiting is not None:
                waiting.confirmed.add(member)
                if waiting.others is not None:
                    waiting.others.pop(member, None)
                    self._look_at(waiting)

    # Own moves

    def tell(
        self,
        request: Request,
        database: str,
        names: frozenset[str],
        told: Told,
        confirmed: Callable[[], None] | None,
    ) -> int:
        """Tell everybody that the epochs `names` have moved, by commands sent before on `request`.

        `told` gets None when Redis has passed it on, or what prevented it. After None `confirmed`
        is called when no answer from before is served from memory anywhere, unless the number that
        this returns is withdrawn."""
        if confirmed is None:
            number = 0
        else:
            self._told += 1
            number = self._told
            self._waiting[number] = Waiting(number, confirmed)

        def passed_on(reply: Any) -> None:
            if isinstance(reply, Exception):
                self._waiting.pop(number, None)
                told(reply)
            else:
                self._tier.invalidate(database, names)
                told(None)

        message = move_message(self.identity, number, database, names)
        request(pack(b"PUBLISH", self._moves, message), passed_on)
        if number:
            request(pack(b"HGETALL", self._key), lambda reply: self._listed(number, reply))
        return number

    def withdraw(self, number: int) -> None:
        """Nobody waits for the confirmation of this move any more."""
        self._waiting.pop(number, None)

    def _listed(self, number: int, reply: Any) -> None:
        waiting = self._waiting.get(number)
        if waiting is None:
            return  # it was not told
        now = self._clock()
        listed: dict[bytes, bytes] = reply if isinstance(reply, dict) else {}
        roster = listed.pop(ROSTER, None)
        if roster is None or roster != self._roster:
            self._unknown_until = max(self._unknown_until, now + WAIT_SECONDS)
        waiting.others = {
            member: renewal
            for member, renewal in listed.items()
            if member != self.identity and member not in waiting.confirmed
        }
        waiting.not_before = self._unknown_until
        if not waiting.others and now >= waiting.not_before:
            self._finish(waiting)
            return
        self._later(WAIT_SECONDS, lambda: self._give_up(waiting))
        if now < waiting.not_before:
            self._later(waiting.not_before - now, lambda: self._look_at(waiting))

    def _look_at(self, waiting: Waiting) -> None:
        if waiting.others is None or waiting.others or self._clock() < waiting.not_before:
            return
        self._finish(waiting)

    def _give_up(self, waiting: Waiting) -> None:
        """Who has not confirmed by now trusts its answers no more."""
        if waiting.done is None:
            return
        request, others = self._request, waiting.others
        if others:
            self._statistics.unconfirmed_moves += 1
        if request is not None and others:
            for member, renewal in others.items():
                request(pack(b"EVAL", REMOVE_SCRIPT, b"1", self._key, member, renewal), _nothing)
        self._finish(waiting)

    def _finish(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting.number, None)
        done, waiting.done = waiting.done, None
        if done is None:
            return
        try:
            done()
        except Exception:
            # One caller's mistake must not keep the others waiting.
            log.exception("a cache callback failed")

    def release(self) -> None:
        """The process ends: nobody waits any longer."""
        for waiting in list(self._waiting.values()):
            self._finish(waiting)


def move_message(mover: bytes, number: int, database: str, names: frozenset[str]) -> bytes:
    """What is told of a move; number 0 asks for no confirmation."""
    return b"\0".join((mover, b"%d" % number, to_bytes(database), *map(to_bytes, names)))


def _is_full(error: Exception) -> bool:
    return str(error).startswith("OOM")


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _nothing(_reply: Any) -> None:
    """Nobody waits for it."""
