"""Which form the console script of a source tree runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.launch import compiled_tree, fingerprint

_LAUNCH = Path(__file__).resolve().parents[3] / "proxy" / "launch.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Sources with a command that tells where it runs, and what was compiled from them."""
    for tree in (tmp_path, tmp_path / "build" / "compiled"):
        package = tree / "proxy"
        (package / "cli").mkdir(parents=True)
        for file in ("__init__.py", "cli/__init__.py"):
            (package / file).touch()
        (package / "launch.py").write_bytes(_LAUNCH.read_bytes())
        told = "import sys\ndef main():\n    print(__file__, *sys.argv[1:])\n"
        (package / "cli" / "main.py").write_text(told)
    (tmp_path / "setup.py").touch()
    made_of = tmp_path / "build" / "compiled" / "made-of"
    made_of.write_text(fingerprint(tmp_path) + "\n")
    return tmp_path


def test_what_is_up_to_date_is_run(project: Path) -> None:
    told = _launched(project)
    assert told.stdout.split() == [
        str(project / "build" / "compiled" / "proxy" / "cli" / "main.py"),
        "serve",
    ]
    assert not told.stderr


@pytest.mark.parametrize("name", ["proxy/cli/main.py", "setup.py", "proxy/_new.c"])
def test_what_is_stale_is_not_run_and_that_is_said(project: Path, name: str) -> None:
    with (project / name).open("a") as file:
        file.write("# changed\n")
    told = _launched(project)
    assert told.stdout.split() == [str(project / "proxy" / "cli" / "main.py"), "serve"]
    assert "make compiled" in told.stderr


def test_a_file_that_is_gone_makes_it_stale(project: Path) -> None:
    (project / "proxy" / "cli" / "__init__.py").unlink()
    assert compiled_tree(project) is None


def test_without_a_compiled_form_nothing_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "build" / "compiled" / "made-of").unlink()
    assert compiled_tree(project) is None
    assert not capsys.readouterr().err


def _launched(project: Path) -> subprocess.CompletedProcess[str]:
    """As the console script does it: a file elsewhere, with the sources to be found."""
    script = project / "script.py"
    script.write_text(
        "import sys\n"
        f"sys.path.append({str(project)!r})\n"  # as an editable installation does
        "from proxy.launch import main\n"
        "main()\n"
    )
    scripts = project / "bin"
    scripts.mkdir()
    script = script.rename(scripts / "penstock")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, script, "serve"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        cwd=project,
    )
