"""The fast path: queries that are relayed as those before them, in C alone (`_fast_path.c`).

What most clients send most of the time is one plain read after another, each of a text whose plan
is known, outside any transaction, answered in one piece. Such a query needs nothing of what a
session and a relay are there for, but costs as much in their code as all of its system calls. So a
session that has just had one answered may put its client's connection here, with the server's: from
then on both are read in C, and as long as requests are known and answers plain no Python runs.
Anything else makes a connection leave, with the other end of what is under way, and the session
goes on as if it had done it all: it is the only place where things are decided.

There are *groups* of clients and servers that fit together: one pool, one state of settings, one
set of plans. Groups of several replicas are linked in a ring, in which a client goes on to the next
with each request. That goes to the server of the group that was used last. If none is free the
client leaves, for there may be one elsewhere; but in a group that is *crowded* it waits: those who
wait here and those who wait for the same servers elsewhere take turns. Requests are recognised by
what plans are kept by: the text's skeleton (see `sql.skeleton`), the text, what Parse prepares, or
the name that servers have for a statement. Of those they were given, each by its own dictionary of
them, both clients and servers are asked which statements they have; a server that has not the one
that a client runs does not get it.
A *slot* counts queries and their durations for one tally.

Servers here count as lent. Before this process says anything of itself, it calls
`session.fast_rings.settle`.

Without the C form there is none (`AVAILABLE`), and nothing else changes.
"""

from collections.abc import Callable
from typing import Any, Final

ASKS: Final = 0
"""A client leaves; it has sent these bytes, if any, which are no request of the fast path."""
RESUMES: Final = 1
"""Client and server leave while a request is under way; the server has sent these bytes, if any."""
RETURNS: Final = 2
"""A server leaves that is idle; with the last request served that ran no statement by its
name: whole if that began with Parse, else one byte of it."""
REST: Final = 3
"""A client's socket hasn't taken the end of an answer; it has left, or has to."""
UNSENT: Final = 4
"""As RESUMES, but the server's socket hasn't taken the end of the request."""

Odd = tuple[int, int, Any, Any, bytes, bytes, float, bytes]
"""One of the above; the descriptor that it is about (of the server for RETURNS and UNSENT); the
client's owner and the server's or None; the last request or nothing; if that ran a statement by its
name, the last one that didn't; when the last came (seconds of time.perf_counter()); the bytes."""
Collected = tuple[
    list[tuple[int, int, int, int, int, int, float]], list[tuple[int, int, float, tuple[int, ...]]]
]
"""By group: its number, simple queries, those with Parse, those of a named statement, bytes from
clients, to them, seconds that they have waited for servers. By slot: its number, queries, seconds,
queries by bucket. All since the last time."""

AVAILABLE: bool = False

configure: Callable[[tuple[float, ...], bytes, object], None]
"""Upper bounds of the buckets, 256 flags: by which messages an answer is not plain, and what stands
for the description of a statement that must be prepared anew."""
turn: Callable[[int, int], list[int] | None]
"""Serve what is ready in an epoll set, so many at once. None if that is all; else what is ready and
not on the fast path (descriptor << 8 | events), and there may be something for `take_odd`."""
open_group: Callable[[], int]
link_group: Callable[[int, int], None]
"""A client of the first group goes on in the second with its next request; both close together."""
close_group: Callable[[int], None]
"""Nothing is recognised in it any more."""
end_group: Callable[[int], None]
"""Its number may be given again: it is closed, all have left, what it counted was collected."""
forget: Callable[[int], None]
"""What the group has learnt."""
members: Callable[[int], int]
"""How many clients and servers are in the group."""
watch: Callable[[Any], None]
"""The table of a `cache.doorkeeper.Doorkeeper`; it must never be closed."""
open_slot: Callable[[bool], int]
"""The flag: what was asked for before, by the doorkeeper's table, leaves."""
learn: Callable[[int, bytes, int, bool], bool]
"""Recognise requests of the group that are like this one, and count them in the slot; the flag:
its text must be the very same. False if it can't be done."""
add_client: Callable[[int, object, int, Any], None]
"""(descriptor, owner, group, its statements by their names). The client must be idle."""
add_waiting: Callable[[int, object, int, Any, bytes, float], bool]
"""The same for a client that waits for a server, with its request and when that came; false if the
request isn't recognised. The group is crowded from now on. `add_server` must follow."""
add_server: Callable[[int, object, int, Any, bool], bool]
"""(descriptor, owner, group, what it has prepared: descriptions by name, whether others want its
servers too). The server must be idle. Whether there is something for `take_odd`."""
recall: Callable[[int, bool], tuple[object, bytes] | None]
"""Take an idle server out of the group: its owner, and a request as for RETURNS. None if there is
none. The flag: others want the servers."""
take_last: Callable[[int], tuple[object, bytes] | None]
"""The same with the one that was used last, where `recall` begins with the longest unused."""
uncrowd: Callable[[int], list[int]]
"""The group is not crowded any more; descriptors of the clients that wait in it, to be dropped."""
drop: Callable[[int], bool]
"""Make the connection leave, as odd; false if it isn't here."""
take_odd: Callable[[], list[Odd]]
"""What has left since the last time, and why."""
under_way: Callable[[float], list[int]]
"""Descriptors of clients whose requests have come until then and are under way, or wait."""
touched: Callable[[], list[tuple[object, float]]]
"""Owners of clients that have asked for something since the last time, and when they last did."""
collect: Callable[[], Collected]

try:
    from proxy.net import _fast_path
except ImportError:
    pass
else:
    AVAILABLE = True
    configure, turn = _fast_path.configure, _fast_path.turn
    open_group, link_group = _fast_path.open_group, _fast_path.link_group
    close_group, end_group = _fast_path.close_group, _fast_path.end_group
    watch = _fast_path.watch
    forget, learn, open_slot = _fast_path.forget, _fast_path.learn, _fast_path.open_slot
    add_client, add_server = _fast_path.add_client, _fast_path.add_server
    add_waiting, members = _fast_path.add_waiting, _fast_path.members
    recall, drop, take_odd = _fast_path.recall, _fast_path.drop, _fast_path.take_odd
    uncrowd, take_last = _fast_path.uncrowd, _fast_path.take_last
    under_way, touched = _fast_path.under_way, _fast_path.touched
    collect = _fast_path.collect
