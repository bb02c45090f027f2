"""Where the primary is: at one address, or where Sentinels or the nodes of a cluster say.

Redis's replication is asynchronous, and while a failover goes on two servers may take themselves
for the primary. So a place that others tell of is held on lease: from the moment before they were
asked, for LEASE_SECONDS, if so many confirm it that no failover can do without all of them (see
`sentinel` and `cluster`). So a failover ends after that moment, or they would not have confirmed.

Why results are right then. Let P be on the old primary, and Q have found the new one. P has left
at the latest LEASE_SECONDS after its last lease began, and Q came after that began. The new primary
is another incarnation, so Q has moved the epochs of whole databases there before it used it. Its
list of members has a young mark, so Q's writes are acknowledged no sooner than LEASE_SECONDS after
Q came. And Q asks nothing before all others have come, or had the time to, which is longer
(`Members.apart`; also one that has just started, as it is `cautious`): by then P has told of what
it wrote. Nothing else differs from a Redis that was away and is back.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from proxy.cache.connection import Connection
from proxy.cache.endpoint import Endpoint, dial, log_in
from proxy.cache.errors import CacheError, LinkLost

LEASE_SECONDS: Final = 1.9
"""Part of the agreement between processes, as the times in `members`."""
POLL_SECONDS: Final = 0.25
WITNESS_SECONDS: Final = 1.0
"""Longest wait for an answer, where those that have come don't do."""


Address = tuple[str, int]


class Site(Protocol):
    """Where to connect to."""

    name: str
    """For messages."""
    changes: bool
    """Whether another server may take the primary's place."""

    async def locate(self) -> Endpoint:
        """The primary. Raises CacheError where that isn't known for sure."""

    async def watch(self, where: Endpoint) -> str:
        """Return when `where` may not be the primary any more: why."""

    def close(self) -> None:
        """Close what was opened."""


class FixedSite:
    """One address for good. `endpoint`: called for each attempt to connect."""

    changes = False

    def __init__(self, endpoint: Callable[[], Endpoint]) -> None:
        self._endpoint = endpoint
        self.name = endpoint().name

    async def locate(self) -> Endpoint:
        return self._endpoint()

    async def watch(self, where: Endpoint) -> str:
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    def close(self) -> None:
        """Nothing is open."""


class Verdict(NamedTuple):
    """What witnesses say together."""

    primary: Address | None
    """Confirmed by enough of them."""
    why: str
    """Why there is none."""
    moved_to: Address | None = None
    """The latest that anybody knows, confirmed or not."""
    failing_over: bool = False
    ask: tuple[Address, ...] = ()
    """Further witnesses that they have told of."""


class Account(NamedTuple):
    """What one witness says."""

    of: Address
    reply: Any
    """What it answered, or the exception."""


Judge = Callable[[Sequence[Account]], Verdict]


class WitnessedSite:
    """What witnesses tell. `question`: the command that all are asked. `admit`, `enter`: from an
    address to a witness and to a Redis. `timeout`: seconds to wait for
    all of them, if enough have answered."""

    changes = True

    def __init__(
        self,
        name: str,
        witnesses: Sequence[Address],
        question: tuple[bytes, ...],
        judge: Judge,
        admit: Callable[[str, int], Endpoint],
        enter: Callable[[str, int], Endpoint],
        timeout: float,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._named = tuple(witnesses)
        self._question = question
        self._judge = judge
        self._enter = enter
        self._timeout = timeout
        self._clock = clock
        self._told: tuple[Address, ...] = ()
        self._witnesses: dict[Address, Witness] = {}
        self._new_witness: Callable[[Address], Witness] = lambda address: Witness(
            admit(*address), WITNESS_SECONDS
        )
        self._leased_at = 0.0
        """When the round began that confirmed the place last."""

    async def locate(self) -> Endpoint:
        asked_at = self._clock()
        verdict = await self._round()
        if verdict.primary is None and self._witnesses.keys() < set(self._addresses):
            asked_at = self._clock()
            verdict = await self._round()  # with those that the first ones have told of
        if verdict.primary is None:
            raise CacheError(verdict.why)
        self._leased_at = asked_at
        return self._enter(*verdict.primary)

    async def watch(self, where: Endpoint) -> str:
        here = where.host, where.port
        why = "nobody was asked in time"
        while True:
            left = self._leased_at + LEASE_SECONDS - self._clock()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    await asyncio.sleep(min(POLL_SECONDS, left / 2))
                    asked_at = self._clock()
                    verdict = await self._round()
            except TimeoutError:
                return f"it is not confirmed that the primary is still there: {why}"
            if verdict.failing_over:
                return verdict.why
            if verdict.moved_to is not None and verdict.moved_to != here:
                return f"the primary is now {verdict.moved_to[0]}:{verdict.moved_to[1]}"
            if verdict.primary is not None:
                self._leased_at = asked_at
            else:
                why = verdict.why

    @property
    def _addresses(self) -> tuple[Address, ...]:
        """Of all witnesses that are known of."""
        return tuple(dict.fromkeys((*self._named, *self._told)))

    async def _round(self) -> Verdict:
        """Ask everybody at once."""
        addresses = self._addresses
        for gone in self._witnesses.keys() - set(addresses):
            self._witnesses.pop(gone).close()
        for address in addresses:
            if address not in self._witnesses:
                self._witnesses[address] = self._new_witness(address)
        asked: dict[Address, asyncio.Future[Any]] = {
            address: asyncio.ensure_future(self._witnesses[address].ask(self._question))
            for address in addresses
        }
        try:
            await asyncio.wait(asked.values(), timeout=self._timeout)
            verdict = self._judge(_accounts(asked))
            if verdict.primary is None and not verdict.failing_over:
                # It takes too few, so the slow ones count too.
                await asyncio.wait(asked.values(), timeout=WITNESS_SECONDS)
                verdict = self._judge(_accounts(asked))
        finally:
            for answer in asked.values():
                answer.cancel()
        if verdict.ask:
            self._told = verdict.ask
        return verdict

    def close(self) -> None:
        for witness in self._witnesses.values():
            witness.close()
        self._witnesses.clear()


def _accounts(asked: dict[Address, asyncio.Future[Any]]) -> list[Account]:
    return [
        Account(address, answer.result() if answer.done() else LinkLost("no answer yet"))
        for address, answer in asked.items()
    ]


class Witness:
    """A connection to one who is asked, made when needed."""

    def __init__(self, where: Endpoint, timeout: float) -> None:
        self._where = where
        self._timeout = timeout
        self._connection: Connection | None = None

    async def ask(self, question: tuple[bytes, ...]) -> Any:
        """The answer, or the exception that came in its place."""
        try:
            async with asyncio.timeout(self._timeout):
                if self._connection is None:
                    await self._connect()
                assert self._connection is not None
                return await self._connection.call(*question)
        except TimeoutError:
            self.close()
            return LinkLost(f"{self._where.name} did not answer within {self._timeout:g} s")
        except Exception as error:
            # Whatever it is, the others are asked all the same.
            if isinstance(error, OSError | LinkLost):
                self.close()
            return error

    async def _connect(self) -> None:
        def lost(error: LinkLost) -> None:
            if self._connection is connection:
                self._connection = None

        connection = Connection(self._timeout, lost, _nothing)
        try:
            await dial(connection, self._where)
            await log_in(connection, self._where)
        except BaseException:
            connection.lose("it could not be used")
            raise
        self._connection = connection

    def close(self) -> None:
        """Break the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.lose("it is not needed any more")


def _nothing(_channel: bytes, _message: bytes) -> None:
    """Nothing is listened to."""


def failures(accounts: Sequence[Account]) -> str:
    """Those that gave no answer, in words; the first of them."""
    for account in accounts:
        if isinstance(account.reply, Exception):
            host, port = account.of
            return f" ({host}:{port}: {account.reply or type(account.reply).__name__})"
    return ""
