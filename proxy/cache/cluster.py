"""What the nodes of a Redis Cluster say of where the primary of a slot is.

A replica becomes the primary by the votes of a majority of the primaries that have slots, and none
votes while it doesn't hold the old one for failed. So a place counts as confirmed if a majority of
the primaries names it and does not hold it for failed. All keys of Penstock are in one slot (see
`CacheSettings.key_prefix`), so one primary is all that is needed.
"""

from binascii import crc_hqx
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from proxy.cache.site import Account, Address, Verdict, failures

SLOTS: Final = 16384

QUESTION: Final = (b"CLUSTER", b"NODES")


def slot_of(tag: bytes) -> int:
    """The slot of all keys with this hash tag."""
    return crc_hqx(tag, 0) % SLOTS


class _Node(NamedTuple):
    address: Address
    flags: frozenset[str]
    epoch: int
    owns: bool
    """The slot that is asked for."""
    has_slots: bool


class _View(NamedTuple):
    votes: bool
    """The node that says this is a primary with slots."""
    owner: _Node | None
    primaries: tuple[Address, ...]


def judge(slot: int, accounts: Sequence[Account]) -> Verdict:
    """What the nodes' answers come to."""
    views = [view for account in accounts if (view := _view(slot, account)) is not None]
    owned = [(view, view.owner) for view in views if view.owner is not None]
    if not owned:
        return Verdict(None, f"no node tells who has slot {slot}{failures(accounts)}")
    leading, owner = max(owned, key=lambda pair: pair[1].epoch)
    primary = owner.address
    needed = len(leading.primaries) // 2 + 1
    confirming = sum(
        view.votes and one.address == primary and not one.flags & {"fail", "fail?"}
        for view, one in owned
    )
    if confirming >= needed:
        return Verdict(primary, "", primary, False, leading.primaries)
    why = (
        f"{confirming} of {len(leading.primaries)} primaries of the cluster say that slot {slot} "
        f"is well at {primary[0]}:{primary[1]}, and {needed} are needed"
    )
    return Verdict(None, why + failures(accounts), primary, False, leading.primaries)


def _view(slot: int, account: Account) -> _View | None:
    """From the answer to CLUSTER NODES, a line for each node."""
    reply: Any = account.reply
    if not isinstance(reply, bytes):
        return None
    nodes: list[_Node] = []
    votes = False
    for line in reply.decode("utf-8", "replace").splitlines():
        node = _node(slot, line, account.of)
        if node is None:
            continue
        nodes.append(node)
        if "myself" in node.flags:
            votes = "master" in node.flags and node.has_slots
    primaries = tuple(one.address for one in nodes if "master" in one.flags and one.has_slots)
    return _View(votes, next((one for one in nodes if one.owns), None), primaries)


def _node(slot: int, line: str, asked: Address) -> _Node | None:
    """`id host:port@busport[,hostname] flags primary ping pong epoch link slots…`"""
    words = line.split()
    if len(words) < 8:
        return None
    host, _, port = words[1].partition(",")[0].partition("@")[0].rpartition(":")
    flags = frozenset(words[2].split(","))
    try:
        address = (host or asked[0], int(port))
        owns = any(_covers(word, slot) for word in words[8:])
        epoch = int(words[6])
    except ValueError:
        return None
    return _Node(address, flags, epoch, owns and "master" in flags, len(words) > 8)


def _covers(word: str, slot: int) -> bool:
    """`5`, `5-9`; `[5->-id]` tells of a slot under way."""
    if word.startswith("["):
        return False
    first, _, last = word.partition("-")
    return int(first) <= slot <= int(last or first)
