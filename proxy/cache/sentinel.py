"""What Sentinels say of where the primary is.

A failover needs `quorum` Sentinels that see the primary down, and the votes of a majority. So a
place counts as confirmed if a majority names it, and so many see it up that fewer than the quorum
can be left. What a Sentinel says that has not heard of the latest failover yet is told by its lower
epoch. Against a failover by command, which needs no quorum, helps that whoever runs it says so.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from proxy.cache.site import Account, Address, Verdict, failures

_BLIND = frozenset((b"s_down", b"o_down", b"disconnected"))
"""Flags of a primary that this Sentinel doesn't see up."""


class _View(NamedTuple):
    primary: Address
    flags: frozenset[bytes]
    epoch: int
    quorum: int
    sentinels: int


def question(master: str) -> tuple[bytes, ...]:
    """The command that asks a Sentinel."""
    return b"SENTINEL", b"MASTER", master.encode()


def judge(accounts: Sequence[Account]) -> Verdict:
    """What the Sentinels' answers come to."""
    views = [view for view in map(_view, (account.reply for account in accounts)) if view]
    if not views:
        return Verdict(None, f"no Sentinel tells of the primary{failures(accounts)}")
    latest = max(view.epoch for view in views)
    primary = next(view.primary for view in views if view.epoch == latest)
    if any(b"failover_in_progress" in view.flags for view in views):
        return Verdict(None, "the Sentinels are in the middle of a failover", None, True)
    total = max(len(accounts), *(view.sentinels for view in views))
    quorum = max(view.quorum for view in views)
    needed = max(total // 2 + 1, total - quorum + 1)
    confirming = sum(view.primary == primary and not view.flags & _BLIND for view in views)
    if confirming >= needed:
        return Verdict(primary, "", primary)
    why = (
        f"{confirming} of {total} Sentinels see the primary {primary[0]}:{primary[1]} up, and "
        f"{needed} are needed"
    )
    if len(accounts) < needed:
        why += f": name all of them in cache.sentinels, which has {len(accounts)}"
    return Verdict(None, why + failures(accounts), primary)


def _view(reply: Any) -> _View | None:
    """From the answer to SENTINEL MASTER: names and values in turn."""
    if not isinstance(reply, list):
        return None
    told: dict[bytes, bytes] = dict(zip(reply[::2], reply[1::2], strict=False))
    try:
        return _View(
            (told[b"ip"].decode(), int(told[b"port"])),
            frozenset(told[b"flags"].split(b",")),
            int(told[b"config-epoch"]),
            int(told[b"quorum"]),
            int(told[b"num-other-sentinels"]) + 1,
        )
    except (KeyError, ValueError):
        return None
