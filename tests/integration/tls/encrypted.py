"""Penstocks with TLS, and raw clients that speak it."""

import asyncio
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.certificates import Authority, Pair
from tests.databases import Database
from tests.integration.session.raw import PATIENCE, RawClient, startup
from tests.proxies import Proxy, running_proxy

SSL_REQUEST = struct.pack(">II", 8, 80877103)
GSS_REQUEST = struct.pack(">II", 8, 80877104)


def client_tls(mode: str, pair: Pair, **more: str) -> str:
    """The section [client_tls]."""
    values = {"cert_file": str(pair.certificate), "key_file": str(pair.key), **more}
    lines = "".join(f'{name} = "{value}"\n' for name, value in values.items())
    return f'[client_tls]\nmode = "{mode}"\n{lines}'


@contextmanager
def encrypting_proxy(
    database: Database, directory: Path, mode: str, authority: Authority, **more: str
) -> Iterator[Proxy]:
    """Penstock with a certificate of `authority` for this host."""
    directory.mkdir(exist_ok=True)
    extra = client_tls(mode, authority.server(), **more)
    with running_proxy(database, directory, extra=extra) as proxy:
        yield proxy


def trusting(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    """A client's context that checks Penstock's certificate."""
    context = ssl.create_default_context(cafile=authority.file)
    context.set_alpn_protocols(["postgresql"])
    if pair is not None:
        context.load_cert_chain(pair.certificate, pair.key)
    return context


async def ask_for_tls(proxy: Proxy) -> tuple[RawClient, bytes]:
    """A connection that has sent SSLRequest, and the answer."""
    one = await RawClient.open(proxy)
    one.send(SSL_REQUEST)
    async with asyncio.timeout(PATIENCE):
        return one, await one.reader.readexactly(1)


async def open_tls(proxy: Proxy, context: ssl.SSLContext) -> RawClient:
    """A connection with TLS by request, nothing sent in it."""
    one, answer = await ask_for_tls(proxy)
    assert answer == b"S"
    async with asyncio.timeout(PATIENCE):
        await one.writer.start_tls(context, server_hostname="localhost")
    return one


async def open_direct(proxy: Proxy, context: ssl.SSLContext) -> RawClient:
    """A connection that begins with TLS."""
    async with asyncio.timeout(PATIENCE):
        return RawClient(
            *await asyncio.open_connection(
                proxy.host, proxy.port, ssl=context, server_hostname="localhost"
            )
        )


async def log_in(proxy: Proxy, one: RawClient, minor: int = 0, **more: str) -> RawClient:
    """Start up and authenticate over a connection that is open."""
    own = {"user": proxy.database.user, "database": proxy.database.name, **more}
    one.send(startup(own, version=(3 << 16) + minor))
    await one.authenticate(proxy.database.password)
    return one
