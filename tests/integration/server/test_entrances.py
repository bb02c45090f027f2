"""Several workers: clients with TLS, and at a Unix socket."""

import getpass
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from tests.certificates import Authority, new_authority
from tests.databases import Database
from tests.integration.admin.operating import operator, rows
from tests.integration.tls.encrypted import client_tls, log_in, open_tls, trusting
from tests.proxies import Proxy, running_proxy

WORKERS = 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    """Short: a socket's path has 107 bytes at most."""
    with TemporaryDirectory(prefix="penstock-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def fleet(
    module_database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    sockets: Path,
) -> Iterator[Proxy]:
    """By TCP only with TLS; at the Unix socket whom the system knows, and with a password."""
    directory = tmp_path_factory.mktemp("fleet")
    user = module_database.user
    (directory / "pg_hba.conf").write_text(
        f"local   penstock all peer map=system\n"
        f"local   all {user} scram-sha-256\n"
        f"hostssl all all 127.0.0.1/32 scram-sha-256\n"
    )
    (directory / "pg_ident.conf").write_text(f"system {getpass.getuser()} {user}\n")
    environment = {
        "PENSTOCK_SERVER__WORKERS": str(WORKERS),
        "PENSTOCK_SERVER__UNIX_SOCKET_DIR": str(sockets),
        "PENSTOCK_AUTH__METHOD": "hba",
        "PENSTOCK_AUTH__AUTH_HBA_FILE": "pg_hba.conf",
        "PENSTOCK_AUTH__AUTH_IDENT_FILE": "pg_ident.conf",
    }
    extra = client_tls("require", authority.server())
    with running_proxy(module_database, directory, extra=extra, environment=environment) as proxy:
        yield proxy
    assert not list(sockets.iterdir())


def encrypted(proxy: Proxy, **more: str) -> psycopg.Connection[Any]:
    return psycopg.connect(proxy.dsn(sslmode="require", **more), autocommit=True)


def local(proxy: Proxy, sockets: Path) -> psycopg.Connection[Any]:
    own = proxy.database
    return psycopg.connect(
        autocommit=True,
        host=str(sockets),
        port=proxy.port,
        user=own.user,
        password=own.password,
        dbname=own.name,
    )


def workers_of(connections: list[psycopg.Connection[Any]]) -> set[int]:
    return {one.info.backend_pid >> 23 for one in connections}


def test_tls_with_all_workers(fleet: Proxy) -> None:
    with ExitStack() as stack:
        mine = [
            stack.enter_context(encrypted(fleet, channel_binding="require"))
            for _ in range(2 * WORKERS)
        ]
        assert all(one.pgconn.ssl_in_use for one in mine)
        assert [one.execute("SELECT 1").fetchone() for one in mine] == [(1,)] * len(mine)
        assert workers_of(mine) == set(range(1, WORKERS + 1))


def test_plain_text_is_refused(fleet: Proxy) -> None:
    with pytest.raises(psycopg.OperationalError, match="only encrypted connections"):
        psycopg.connect(fleet.dsn(), sslmode="disable")


def test_the_unix_socket_leads_to_all_workers(fleet: Proxy, sockets: Path) -> None:
    with ExitStack() as stack:
        mine = [stack.enter_context(local(fleet, sockets)) for _ in range(2 * WORKERS)]
        assert [one.execute("SELECT 1").fetchone() for one in mine] == [(1,)] * len(mine)
        assert workers_of(mine) == set(range(1, WORKERS + 1))


def test_the_console_over_tls(fleet: Proxy) -> None:
    own = fleet.database.name
    with encrypted(fleet), operator(fleet) as console:
        assert console.pgconn.ssl_in_use
        seen = [one for one in rows(console, "SHOW CLIENTS") if one["database"] == own]
        assert seen
        assert all(one["tls"] for one in seen)


def test_a_worker_sees_who_is_at_the_socket(fleet: Proxy, sockets: Path) -> None:
    """The connection was accepted by another process than the one that asks the system."""
    own = fleet.database
    with psycopg.connect(
        autocommit=True, host=str(sockets), port=fleet.port, user=own.user, dbname="penstock"
    ) as console:
        assert console.execute("SHOW VERSION").fetchone() is not None


def test_a_cancel_request_over_tls(fleet: Proxy) -> None:
    """It comes to any worker, without TLS or with it."""
    for _ in range(WORKERS + 1):
        with encrypted(fleet) as one:
            timer = threading.Timer(0.3, one.cancel)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                one.execute("SELECT pg_sleep(20)")
            timer.join()
            assert one.execute("SELECT 1").fetchone() == (1,)


async def test_long_cancel_keys_name_their_worker(fleet: Proxy, authority: Authority) -> None:
    one = await log_in(fleet, await open_tls(fleet, trusting(authority)), minor=2)
    assert len(one.secret) == 32
    assert 1 <= one.process_id >> 23 <= WORKERS
    await one.leave()


def test_reload_with_a_wrong_certificate_changes_no_worker(
    fleet: Proxy, authority: Authority
) -> None:
    before = fleet.config_file.read_text()
    certificate = str(authority.directory / "server.crt")
    with operator(fleet) as console:
        fleet.config_file.write_text(before.replace(certificate, f"{certificate}.absent"))
        try:
            with pytest.raises(psycopg.Error, match="absent"):
                console.execute("RELOAD")
        finally:
            fleet.config_file.write_text(before)
        for _ in range(WORKERS):
            with encrypted(fleet) as one:
                assert one.execute("SELECT 1").fetchone() == (1,)
        console.execute("RELOAD")


def test_no_start_with_a_wrong_certificate(
    fleet: Proxy, tmp_path: Path, authority: Authority
) -> None:
    """The workers find it; their supervisor tells it and leaves no socket."""
    before, certificate = fleet.config_file.read_text(), str(authority.directory / "server.crt")
    config = tmp_path / "config.toml"
    config.write_text(before.replace(certificate, f"{certificate}.absent"))
    with TemporaryDirectory(prefix="penstock-") as directory:
        environment = {
            **os.environ,
            "PENSTOCK_SERVER__LISTEN": "127.0.0.1:0",
            "PENSTOCK_SERVER__HTTP_LISTEN": "",
            "PENSTOCK_SERVER__WORKERS": str(WORKERS),
            "PENSTOCK_SERVER__UNIX_SOCKET_DIR": directory,
        }
        ended = subprocess.run(
            [sys.executable, "-m", "proxy.cli.main", "serve", "--config", config],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert not os.listdir(directory)
    assert ended.returncode == 1
    assert "absent" in ended.stderr
