"""The slot and what else the feed asks of the primary, over a connection beside the stream."""

import re
from dataclasses import dataclass
from hashlib import sha1

from proxy.cache.feed.progress import Snapshot
from proxy.pool.backend import Backend
from proxy.pool.own_query import ask
from proxy.sql.quoting import identifier, literal
from proxy.topology.health import Lineage
from proxy.wire.errors import PgError

PLUGIN = "pgoutput"
OLDEST_SERVER = 14
"""pgoutput passes messages on from this version."""
IN_USE = "55006"
MISSING = "42704"
EXISTS = "42710"

_MOST_NAME = 63
_FAILOVER_FROM = 17
_OPTIONS_FROM = 15


def slot_name(prefix: str, database: str) -> str:
    """The slot of a database: slots of all databases of a server share one space of names."""
    plain = re.sub(r"[^a-z0-9_]", "_", database.lower())
    name = f"{prefix}_{plain}"
    if plain == database and len(name) <= _MOST_NAME:
        return name
    digest = sha1(database.encode(), usedforsecurity=False).hexdigest()[:10]
    return f"{name[: _MOST_NAME - 11]}_{digest}"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A row of pg_replication_slots, for a logical slot."""

    plugin: str
    database: str
    active_pid: int | None
    confirmed: int
    """What was confirmed; the stream goes on from there."""
    wal_status: str
    """reserved, extended, unreserved, or lost."""
    retained: int
    """Bytes of WAL that the server keeps for it."""


def server_major(backend: Backend) -> int:
    """The server's major version."""
    found = re.match(rb"\d+", backend.parameters.get(b"server_version", b"0"))
    return int(found[0]) if found else 0


async def look_at_slot(side: Backend, name: str) -> SlotState | None:
    """The slot; None if there is none. Raises PgError."""
    answer = await ask(
        side,
        (
            "SELECT plugin, database, active_pid, confirmed_flush_lsn - '0/0'::pg_lsn, wal_status, "
            "pg_current_wal_insert_lsn() - restart_lsn FROM pg_replication_slots "
            f"WHERE slot_name = {literal(name)}"
        ).encode(),
    )
    if not answer.rows:
        return None
    plugin, database, pid, confirmed, status, retained = (
        None if value is None else value.decode() for value in answer.rows[0]
    )
    return SlotState(
        plugin or "",
        database or "",
        int(pid) if pid else None,
        int(confirmed or 0),
        status or "",
        int(retained or 0),
    )


async def identify(stream: Backend) -> Lineage:
    """Which WAL the server writes. Raises PgError."""
    row = (await ask(stream, b"IDENTIFY_SYSTEM")).rows[0]
    return Lineage(int(row[0] or 0), int(row[1] or 0))


async def create_slot(stream: Backend, name: str) -> None:
    """Create it, from now on. Waits for the transactions that are running. Raises PgError."""
    major = server_major(stream)
    if major < _OPTIONS_FROM:
        options = "NOEXPORT_SNAPSHOT"
    elif major < _FAILOVER_FROM:
        options = "(SNAPSHOT 'nothing')"
    else:  # standbys that synchronise slots keep it over a promotion
        options = "(SNAPSHOT 'nothing', FAILOVER true)"
    command = f"CREATE_REPLICATION_SLOT {identifier(name)} LOGICAL {PLUGIN} {options}"
    try:
        await ask(stream, command.encode())
    except PgError as error:
        if error.sqlstate != EXISTS:
            raise


async def drop_slot(side: Backend, name: str) -> None:
    """Drop it, and end who reads from it. Raises PgError; a slot that is gone is no error."""
    slot = literal(name)
    await ask(
        side,
        (
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots "
            f"WHERE slot_name = {slot} AND active_pid IS NOT NULL"
        ).encode(),
    )
    try:
        await ask(side, f"SELECT pg_drop_replication_slot({slot})".encode())
    except PgError as error:
        if error.sqlstate != MISSING:
            raise


def start_command(name: str, publication: str) -> str:
    """Streams from what was confirmed last."""
    names = literal(identifier(publication))
    return (
        f"START_REPLICATION SLOT {identifier(name)} LOGICAL 0/0 "
        f"(proto_version '1', publication_names {names}, messages 'true')"
    )


async def take_snapshot(side: Backend) -> Snapshot:
    """Which transactions are running. Raises PgError."""
    value = (await ask(side, b"SELECT pg_current_snapshot()")).rows[0][0]
    return Snapshot.parse((value or b"").decode())


async def publication_state(side: Backend, publication: str) -> str:
    """A text that differs once the publication covers something else; "" without one."""
    name = literal(publication)
    answer = await ask(
        side,
        (
            "SELECT concat_ws(' ', p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, "
            "p.pubtruncate, p.pubviaroot, (SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) "
            f"FROM pg_publication_tables t WHERE t.pubname = {name})) "
            f"FROM pg_publication p WHERE p.pubname = {name}"
        ).encode(),
    )
    return (answer.rows[0][0] or b"").decode() if answer.rows else ""
