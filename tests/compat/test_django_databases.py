"""The databases of a Django test run, through `[database."*"]`."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.databases import Database, superuser_connection
from tests.proxies import running_proxy


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_made_migrated_cloned_and_dropped(database: Database, tmp_path: Path, mode: str) -> None:
    pytest.importorskip("django")
    primary = database.stack.primary
    with superuser_connection(primary) as connection:
        connection.execute(f"ALTER ROLE {database.user} CREATEDB")
    extra = (
        f'[database."*".primary]\nhost = "{primary.host}"\nport = {primary.port}\n'
        f'[pool]\nmode = "{mode}"\nmin_size = 1\n'
    )
    with running_proxy(database, tmp_path, extra=extra) as proxy:
        run = subprocess.run(
            [sys.executable, "-m", "tests.compat.django_shop.databases"],
            env=proxy.environment(),
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr[-3000:]
    with superuser_connection(primary) as connection:
        left = connection.execute(
            "SELECT count(*) FROM pg_database WHERE datname LIKE %s", [f"%{database.name}%"]
        ).fetchone()
    assert left == (1,)
