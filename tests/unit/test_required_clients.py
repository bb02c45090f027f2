"""The suite's own rule: where a client is required, a test that skips for want of it fails."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = """
import pytest

def test_node():
    pytest.skip("node: not installed")

def test_other():
    pytest.skip("no noodles here")

@pytest.mark.xfail(reason="node is slow", strict=True)
def test_expected():
    assert False
"""
MODULE_SKIPS = 'import pytest\npytest.skip("php is not here", allow_module_level=True)\n'


def outcome(tests: str, required: str, directory: Path) -> tuple[int, str]:
    (directory / "test_clients.py").write_text(tests)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest"),
            *("-p", "no:cacheprovider", "--rootdir", directory, directory),
        ],
        cwd=ROOT,
        env={"PENSTOCK_REQUIRE_CLIENTS": required, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("tests", "required", "code", "counts"),
    [
        (SKIPS, "", 0, "2 skipped, 1 xfailed"),
        (SKIPS, "perl,node", 1, "1 failed, 1 skipped, 1 xfailed"),
        (MODULE_SKIPS, "node", 5, "1 skipped"),
        (MODULE_SKIPS, "php", 2, "1 error"),
    ],
)
def test_skips(tests: str, required: str, code: int, counts: str, tmp_path: Path) -> None:
    returned, said = outcome(tests, required, tmp_path)
    assert counts in said
    assert returned == code
