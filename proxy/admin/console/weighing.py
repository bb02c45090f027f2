"""How much memory objects take, with all that is theirs alone."""

import gc
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

_CONTAINERS: Final = (dict, list, tuple, set, frozenset, deque)
_VALUES: Final = (bytes, bytearray, str, memoryview)
_OWN: Final = frozenset(
    {
        "proxy.net.channel.Channel",
        "proxy.net.tls_channel.TlsChannel",
        "proxy.pool.backend.Backend",
        "proxy.routing.route.Facts",
        "proxy.session.batch.Batch",
        "proxy.session.client.Client",
        "proxy.session.intake.CopyIntake",
        "proxy.session.intake.Intake",
        "proxy.session.listening.Listening",
        "proxy.session.relay.Relay",
        "proxy.session.sequences.Sequences",
        "proxy.session.session.Session",
        "proxy.session.transaction.Transaction",
        "proxy.session.upstream.Upstream",
        "proxy.sql.listening.Outlook",
    }
)
"""Classes whose objects belong to one client or server; plans, pools and the like are shared."""
_SAMPLE: Final = 20


def total(objects: Sequence[object]) -> int:
    """The bytes of all of these, from a sample of them."""
    if not objects:
        return 0
    step = max(1, len(objects) // _SAMPLE)
    sample = objects[::step]
    return round(sum(map(weight, sample)) / len(sample) * len(objects))


def weight(root: object) -> int:
    """The bytes of an object and of what it holds that is not shared with others of its class."""
    seen = {id(root)}
    queue, found = [root], 0
    own = type(root)
    while queue:
        one = queue.pop()
        found += sys.getsizeof(one)
        for other in _held(one):
            if id(other) not in seen and not isinstance(other, own):
                seen.add(id(other))
                queue.append(other)
    return found


def _held(one: object) -> Iterable[object]:
    if isinstance(one, _VALUES):
        return ()
    return [other for other in gc.get_referents(one) if _belongs(other)]


def _belongs(other: object) -> bool:
    if isinstance(other, _CONTAINERS + _VALUES):
        return True
    kind = type(other)
    return f"{kind.__module__}.{kind.__qualname__}" in _OWN
