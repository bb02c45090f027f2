"""Drivers that connect with TLS: what they ask for they get, and what they must refuse they do."""

import asyncio
import ssl
import threading
import time
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.certificates import Authority
from tests.integration.tls.encrypted import trusting
from tests.proxies import Proxy

LIBPQ_18 = psycopg.pq.version() >= 180000
needs_libpq_18 = pytest.mark.skipif(not LIBPQ_18, reason="psycopg's libpq is older than 18")


Connection = psycopg.Connection[tuple[Any, ...]]


def connect(proxy: Proxy, **more: Any) -> Connection:
    """psycopg by way of libpq, to the name that the certificate has."""
    return psycopg.connect(proxy.dsn(), host="localhost", hostaddr=proxy.host, **more)


def encrypted(connection: Connection) -> bool:
    """Whether libpq says so. Through Penstock, pg_stat_ssl tells of its own connection."""
    return bool(connection.pgconn.ssl_in_use)


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
def test_libpq_without_checks(secure: Proxy, mode: str) -> None:
    with connect(secure, sslmode=mode) as connection:
        assert encrypted(connection)
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_libpq_checks_the_certificate(
    secure: Proxy, authority: Authority, stranger: Authority, mode: str
) -> None:
    with connect(secure, sslmode=mode, sslrootcert=str(authority.file)) as connection:
        assert encrypted(connection)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        connect(secure, sslmode=mode, sslrootcert=str(stranger.file))


def test_libpq_without_tls_is_refused(secure: Proxy) -> None:
    with pytest.raises(psycopg.OperationalError, match="only encrypted connections"):
        connect(secure, sslmode="disable")


@needs_libpq_18
def test_libpq_that_begins_with_tls(secure: Proxy, authority: Authority) -> None:
    with connect(
        secure, sslmode="verify-full", sslnegotiation="direct", sslrootcert=str(authority.file)
    ) as connection:
        assert encrypted(connection)
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "version", ["TLSv1.2", "TLSv1.3"]
)  # other ciphers, another handshake, other records
def test_versions_of_tls(secure: Proxy, version: str) -> None:
    with connect(
        secure,
        sslmode="require",
        ssl_min_protocol_version=version,
        ssl_max_protocol_version=version,
    ) as connection:
        assert connection.execute("SELECT repeat('x', 1000000)").fetchone() == ("x" * 1_000_000,)


@needs_libpq_18
@pytest.mark.parametrize("legacy", [False, True], ids=["encrypted", "plain"])
def test_cancel(secure: Proxy, legacy: bool) -> None:
    """libpq's new functions encrypt the request, the old ones don't, whatever the connection."""
    with connect(secure, sslmode="require", max_protocol_version="3.2") as connection:
        cancel = connection.cancel if legacy else connection.cancel_safe
        canceling = threading.Timer(0.3, cancel)
        canceling.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(20)")
        canceling.join()
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


async def test_asyncpg(secure: Proxy, authority: Authority, stranger: Authority) -> None:
    connection = await asyncpg.connect(
        secure.dsn().replace(secure.host, "localhost"), ssl=trusting(authority)
    )
    assert await connection.fetchval("SELECT count(*) FROM generate_series(1, 1000)") == 1000
    with pytest.raises(asyncio.TimeoutError):
        await connection.execute("SELECT pg_sleep(20)", timeout=0.3)  # cancels, over TLS
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(
            secure.dsn().replace(secure.host, "localhost"), ssl=trusting(stranger)
        )


def test_copy_both_ways_and_large_values(secure: Proxy) -> None:
    """Much in both directions at once, in pieces of all sizes."""
    with connect(secure, sslmode="require") as connection:
        connection.execute("CREATE TEMP TABLE copied (number int, filler text)")
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            for number in range(50_000):
                copy.write_row((number, "f" * (number % 300)))
        total, length = 0, 0
        with connection.cursor().copy("COPY copied TO STDOUT") as copy:
            for row in copy.rows():
                total, length = total + int(row[0]), length + len(row[1])
        assert total == sum(range(50_000))
        assert length == sum(number % 300 for number in range(50_000))
        large = b"\0\xff" * 10_000_000
        assert connection.execute("SELECT length(%s::bytea)", [large]).fetchone() == (20_000_000,)
        found = connection.execute("SELECT %s::bytea", [large], binary=True).fetchone()
        assert found == (large,)


def test_many_at_once(secure: Proxy) -> None:
    """Each sees its own rows."""
    failures: list[str] = []

    def work(seed: int) -> None:
        with connect(secure, sslmode="require") as connection:
            for number in range(50):
                sent = f"{seed}/{number}/" + "y" * (seed * number * 7)
                row = connection.execute("SELECT %s", [sent]).fetchone()
                if row != (sent,):
                    failures.append(sent)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive()
    assert failures == []


def test_the_console_shows_it(secure: Proxy) -> None:
    with (
        connect(secure, sslmode="require", autocommit=True) as one,
        psycopg.connect(
            secure.dsn("penstock"), sslmode="require", autocommit=True, prepare_threshold=None
        ) as console,
    ):
        one.execute("SELECT 1")
        rows = console.cursor(row_factory=psycopg.rows.dict_row).execute("SHOW CLIENTS").fetchall()
        assert any(str(row["tls"]).startswith("TLSv1.3/TLS_") for row in rows)
        servers = console.cursor(row_factory=psycopg.rows.dict_row).execute("SHOW SERVERS")
        assert {row["tls"] for row in servers.fetchall()} == {""}  # the bundled server has none
