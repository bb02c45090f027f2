"""JavaScript clients under node: node-postgres with its cursors and streams, and postgres.js.

Their libraries come from the committed lock file into a cache outside the repository.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.compat.targets import Target

SCRIPTS = Path(__file__).parent / "node"
INSTALL_SECONDS = 110.0
RUN_SECONDS = "20000"

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="node or npm is not installed"
)


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """What the lock file names, installed once per lock file and user."""
    lock = (SCRIPTS / "package-lock.json").read_bytes()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "penstock" / "node" / hashlib.sha256(lock).hexdigest()[:16]
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as guard:  # several workers may want it at once
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (directory / "complete").exists():
            _install(directory)
    return directory / "node_modules"


def _install(directory: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SCRIPTS / name, directory)
    done = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"npm ci failed in {directory}:\n{done.stdout}{done.stderr}")
    (directory / "complete").touch()


def run_script(target: Target, node_modules: Path, directory: Path, script: str) -> None:
    """Run one file of tests by node's own runner; its report is the failure's text."""
    shutil.copy(SCRIPTS / script, directory)
    (directory / "node_modules").symlink_to(node_modules)
    arguments = ("--test", "--test-reporter=spec", f"--test-timeout={RUN_SECONDS}", script)
    done = target.run("node", *arguments, cwd=directory, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_node_postgres(target: Target, node_modules: Path, tmp_path: Path) -> None:
    run_script(target, node_modules, tmp_path, "node_postgres.test.mjs")


def test_postgres_js(target: Target, node_modules: Path, tmp_path: Path) -> None:
    run_script(target, node_modules, tmp_path, "postgres_js.test.mjs")


def test_many_clients_on_few_server_connections(
    crowded: Target, node_modules: Path, tmp_path: Path
) -> None:
    run_script(crowded, node_modules, tmp_path, "shared.test.mjs")
