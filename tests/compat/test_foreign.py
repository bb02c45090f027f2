"""Perl's DBD::Pg, PHP's PDO and pgsql, Java's JDBC driver, Go's lib/pq, as Debian packages them."""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.compat.targets import Target

HERE = Path(__file__).parent
JDBC = Path("/usr/share/java/postgresql.jar")  # libpostgresql-jdbc-java
JAVA_SECONDS = 100.0
GO_PATH = Path("/usr/share/gocode")
PQ = GO_PATH / "src" / "github.com" / "lib" / "pq"  # golang-github-lib-pq-dev
BUILD_SECONDS = 400.0


@cache
def works(*command: str) -> bool:
    """Whether a program is there and has what the test needs."""
    if shutil.which(command[0]) is None:
        return False
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


needs_perl = pytest.mark.skipif(
    not works("perl", "-MDBD::Pg", "-MTest::More", "-e", "1"), reason="perl has no DBD::Pg"
)
needs_php = pytest.mark.skipif(
    not works(
        "php", "-r", 'exit(extension_loaded("pdo_pgsql") && extension_loaded("pgsql") ? 0 : 1);'
    ),
    reason="php has no pdo_pgsql and pgsql",
)
needs_java = pytest.mark.skipif(
    not (JDBC.exists() and works("java", "--list-modules")) or shutil.which("javac") is None,
    reason="java, its compiler or the JDBC driver is not installed",
)

needs_go = pytest.mark.skipif(
    not (PQ.is_dir() and works("go", "version")), reason="go or its lib/pq is not installed"
)


def must(target: Target, program: str, *arguments: str) -> str:
    """The output of a program that must succeed."""
    done = target.run(program, *arguments, timeout=JAVA_SECONDS)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


@needs_perl
def test_dbd_pg(target: Target) -> None:
    assert "not ok" not in must(target, "perl", str(HERE / "perl" / "dbd_pg.t"))


@needs_perl
def test_dbd_pg_on_few_server_connections(crowded: Target) -> None:
    assert "not ok" not in must(crowded, "perl", str(HERE / "perl" / "shared.t"))


@needs_php
@pytest.mark.parametrize("kind", ["target", "crowded"])
def test_php(kind: str, request: pytest.FixtureRequest) -> None:
    output = must(request.getfixturevalue(kind), "php", str(HERE / "php" / "clients.php"))
    assert output.endswith("done\n")


@needs_java
@pytest.mark.parametrize("kind", ["target", "crowded"])
def test_jdbc(kind: str, request: pytest.FixtureRequest) -> None:
    script = str(HERE / "java" / "Clients.java")
    output = must(request.getfixturevalue(kind), "java", "-cp", str(JDBC), script)
    assert output.endswith("done\n")


@pytest.fixture(scope="module")
def go_clients(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program, built from Debian's sources of lib/pq alone."""
    directory = tmp_path_factory.mktemp("go")
    place = {"GOPATH": str(GO_PATH), "GOCACHE": str(directory / "cache"), "GO111MODULE": "off"}
    done = subprocess.run(
        ["go", "build", "-o", str(directory / "clients"), str(HERE / "go" / "clients.go")],
        env={**os.environ, **place},
        capture_output=True,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return str(directory / "clients")


@needs_go
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["target", "crowded"])
def test_lib_pq(kind: str, go_clients: str, request: pytest.FixtureRequest) -> None:
    assert must(request.getfixturevalue(kind), go_clients).endswith("done\n")


@pytest.fixture(autouse=True)
def _empty_schema(target: Target) -> None:
    """Every script makes its own tables."""
    target.prepare("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
