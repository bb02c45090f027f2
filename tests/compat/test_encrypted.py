"""Foreign clients with TLS: the system's psql, JDBC, node."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority, new_authority
from tests.compat.targets import DIRECT, Target
from tests.compat.test_foreign import HERE, JAVA_SECONDS, JDBC, needs_java
from tests.compat.test_node import RUN_SECONDS, SCRIPTS, node_modules
from tests.databases import Database
from tests.proxies import running_proxy

__all__ = ["node_modules"]

pytestmark = pytest.mark.skipif(
    bool(os.environ.get(DIRECT)), reason="the bundled server does no TLS"
)
PSQL = shutil.which("psql")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return new_authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def secure(
    module_database: Database, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Target]:
    """Penstock that takes encrypted connections only."""
    pair = authority.server()
    extra = (
        f'[client_tls]\nmode = "require"\ncert_file = "{pair.certificate}"\n'
        f'key_file = "{pair.key}"\n'
    )
    with running_proxy(module_database, tmp_path_factory.mktemp("secure"), extra=extra) as proxy:
        yield Target(proxy.host, proxy.port, module_database)


def psql(target: Target, mode: str, authority: Authority) -> subprocess.CompletedProcess[str]:
    assert PSQL is not None
    return subprocess.run(
        [PSQL, "-XAt", "-c", "\\conninfo", "-c", "SELECT count(*) FROM generate_series(1, 99999)"],
        env={
            **target.environment(),
            "PGHOST": "localhost",
            "PGSSLMODE": mode,
            "PGSSLROOTCERT": str(authority.file),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.skipif(PSQL is None, reason="the system has no psql; the bundled one does no TLS")
def test_psql(secure: Target, authority: Authority, stranger: Authority) -> None:
    done = psql(secure, "verify-full", authority)
    if "sslmode value" in done.stderr:
        pytest.skip("this psql does no TLS")
    assert done.returncode == 0, done.stderr
    assert "TLSv1.3" in done.stdout
    assert done.stdout.endswith("99999\n")
    refused = psql(secure, "verify-full", stranger)
    assert "certificate verify failed" in refused.stderr
    assert "encrypted connections" in psql(secure, "disable", authority).stderr


@needs_java
def test_jdbc(secure: Target, authority: Authority, stranger: Authority) -> None:
    done = secure.run(
        "java",
        *("-cp", str(JDBC), str(HERE / "java" / "Encrypted.java")),
        *(str(authority.file), str(stranger.file)),
        timeout=JAVA_SECONDS,
    )
    assert done.stdout.endswith("done\n"), done.stdout + done.stderr


@pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="node or npm is not installed"
)
def test_node(
    secure: Target, node_modules: Path, tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    script = "encrypted.test.mjs"
    shutil.copy(SCRIPTS / script, tmp_path)
    (tmp_path / "node_modules").symlink_to(node_modules)
    own = {"AUTHORITY": str(authority.file), "STRANGER": str(stranger.file)}
    done = subprocess.run(
        ["node", "--test", "--test-reporter=spec", f"--test-timeout={RUN_SECONDS}", script],
        env={**secure.environment(), **own},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
