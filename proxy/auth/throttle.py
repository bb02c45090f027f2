"""Failed logins by address: each further one is answered later, and few at a time.

Who guesses could open a connection for each guess and not wait for the answers. So an address whose
failures are still being held back gets no new login once as many are held as are free of delay.
Logins that succeed are never delayed.
"""

import ipaddress
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from proxy.auth.networks import Address

MOST_ADDRESSES: Final = 10_000
FIRST_DELAY: Final = 0.25
"""Seconds; doubled with each further failure."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`failures` within `window` seconds go undelayed, later ones by up to `most` seconds."""

    failures: int = 5
    window: float = 60.0
    most: float = 5.0


@dataclass(slots=True)
class _Record:
    """When an address failed within the window, and until when its answers are held back."""

    failures: deque[float] = field(default_factory=deque)
    held: deque[float] = field(default_factory=deque)


class Throttle:
    """Times are seconds of time.monotonic(), given by the caller."""

    def __init__(self, limits: Limits = Limits(), most_addresses: int = MOST_ADDRESSES) -> None:
        self.limits = limits
        self._most = most_addresses
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        """Addresses remembered."""
        return len(self._records)

    def wait(self, address: str, now: float) -> float:
        """Seconds until a login from this address is taken; 0: now."""
        record = self._records.get(address)
        if record is None or not self.limits.failures:
            return 0.0
        held = record.held
        while held and held[0] <= now:
            held.popleft()
        return held[0] - now if len(held) >= self.limits.failures else 0.0

    def failed(self, address: str, now: float) -> float:
        """A login has failed: the seconds for which to hold the answer back."""
        limits = self.limits
        if not limits.failures:
            return 0.0
        record = self._records.pop(address, None) or _Record()
        self._records[address] = record
        if len(self._records) > self._most:
            self._records.popitem(last=False)
        failures = record.failures
        while failures and failures[0] <= now - limits.window:
            failures.popleft()
        beyond = len(failures) - limits.failures
        failures.append(now)
        if len(failures) > limits.failures + _DOUBLINGS:
            failures.popleft()  # more would not make it slower
        if beyond < 0:
            return 0.0
        delay = min(limits.most, FIRST_DELAY * float(1 << beyond))
        record.held.append(max(now + delay, record.held[-1] if record.held else 0.0))
        return delay

    def clear(self) -> None:
        """Forget all failures."""
        self._records.clear()


_DOUBLINGS: Final = 12


def throttled_address(address: Address | None) -> str:
    """What counts as one address: an IPv6 client has a whole /64 to itself."""
    if address is None:
        return "local"
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
