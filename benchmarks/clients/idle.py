"""Clients that log in and then ask nothing, as many as a process may have sockets.

They run in a process of their own, so that pgbench's latencies are not disturbed from here:
`python -m benchmarks.clients.idle PORT COUNT USER DATABASE`, the password in PGPASSWORD. It prints
"connected" when all are, and ends when its input does.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import resource
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from benchmarks.clients.load import Target
from benchmarks.servers.programs import BenchmarkError

_AT_ONCE = 64
"""Logins under way; more would overflow the queue of connections to accept."""
_LOGIN_SECONDS = 60.0

_OK, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 10, 11, 12


@contextmanager
def idle_clients(target: Target, count: int) -> Iterator[None]:
    """So many for the length of a block. Raises BenchmarkError if they can't all log in."""
    if not count:
        yield
        return
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.clients.idle"),
            *(str(target.port), str(count), target.user, target.database),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=target.environment(),
    )
    with process:
        try:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "connected":
                assert process.stderr is not None
                raise BenchmarkError(f"{count} idle clients: {process.stderr.read()[-1000:]}")
            yield
        finally:
            process.kill()


async def _connect_all(port: int, count: int, user: str, database: str) -> list[object]:
    """The connections, which live as long as somebody has them."""
    turns = asyncio.Semaphore(_AT_ONCE)
    password = os.environ["PGPASSWORD"]

    async def one() -> object:
        async with turns, asyncio.timeout(_LOGIN_SECONDS):
            streams = await asyncio.open_connection("127.0.0.1", port)
            await _log_in(*streams, user, database, password)
            return streams

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def _log_in(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    user: str,
    database: str,
    password: str,
) -> None:
    """From the start-up packet to ReadyForQuery (PostgreSQL documentation, "Start-up")."""
    parameters = f"user\0{user}\0database\0{database}\0\0".encode()
    body = (196608).to_bytes(4) + parameters
    writer.write((len(body) + 4).to_bytes(4) + body)
    nonce = base64.b64encode(secrets.token_bytes(18)).decode()
    while True:
        head = await reader.readexactly(5)
        body = await reader.readexactly(int.from_bytes(head[1:]) - 4)
        match head[:1], int.from_bytes(body[:4]) if head[:1] == b"R" else None:
            case b"Z", _:
                return
            case b"E", _:
                raise BenchmarkError(body.replace(b"\0", b" ").decode(errors="replace"))
            case b"R", request if request == _SASL:
                first = f"n,,n=,r={nonce}".encode()
                _send(writer, b"SCRAM-SHA-256\0" + len(first).to_bytes(4) + first)
            case b"R", request if request == _SASL_CONTINUE:
                _send(writer, _proof(password, nonce, body[4:].decode()).encode())
            case b"R", request if request not in (_OK, _SASL_FINAL):
                raise BenchmarkError(f"authentication request {request} is not expected")
            case _:
                pass


def _send(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(b"p" + (len(body) + 4).to_bytes(4) + body)


def _proof(password: str, nonce: str, server_first: str) -> str:
    """The client's final message (RFC 5802, section 3)."""
    fields = dict(part.split("=", 1) for part in server_first.split(","))
    salted = _salted(password, base64.b64decode(fields["s"]), int(fields["i"]))
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    without_proof = f"c=biws,r={fields['r']}"
    signed = f"n=,r={nonce},{server_first},{without_proof}".encode()
    signature = hmac.digest(stored_key, signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    return f"{without_proof},p={base64.b64encode(proof).decode()}"


@lru_cache
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    """The same for all clients of one server, and dear."""
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


async def _main(port: int, count: int, user: str, database: str) -> None:
    connections = await _connect_all(port, count, user, database)
    print("connected", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    del connections


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
