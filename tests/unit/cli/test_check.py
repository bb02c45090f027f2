"""`penstock check`, run as a program."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def penstock(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy.cli.main", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_example_configuration_is_right() -> None:
    result = penstock("check")
    assert result.stderr == ""
    assert result.returncode == 0
    assert "  replica 127.0.0.1:5433\n" in result.stdout
    assert "cache rules: 3 (stock is always live, " in result.stdout
    assert result.stdout.endswith("config.toml: right\n")
    assert "change-me" not in result.stdout


def test_problems_go_to_standard_error_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text('[pool]\nsize = "x"\n[server]\nlisten = 1\n')
    result = penstock("check", "--config", "my.toml", directory=tmp_path)
    assert result.returncode == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[-1] == "4 problems found"
    assert 'my.toml:2: pool.size = "x": must be a whole number; allowed: 1 or more' in lines


def test_files_of_tls_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text(
        '[[auth.users]]\nname = "app"\npassword = "pw"\n[database.app.primary]\n'
        '[client_tls]\nmode = "require"\ncert_file = "my.crt"\nkey_file = "my.key"\n'
    )
    result = penstock("check", "--config", "my.toml", directory=tmp_path)
    assert result.returncode == 1
    assert "client_tls.cert_file: my.crt can't be read: No such file" in result.stderr
    (tmp_path / "my.toml").write_text(
        '[[auth.users]]\nname = "app"\npassword = "pw"\n[database.app.primary]\n'
        '[cache]\nredis = "rediss://h"\n[cache.tls]\nca_file = "my-ca.crt"\n'
    )
    result = penstock("check", "--config", "my.toml", directory=tmp_path)
    assert result.returncode == 1
    assert "cache.tls.ca_file: my-ca.crt can't be read: No such file" in result.stderr


def test_version() -> None:
    result = penstock("--version")
    assert result.returncode == 0
    assert result.stdout.startswith("penstock ")


def test_reference_prints_the_page() -> None:
    assert penstock("config", "reference").stdout == (ROOT / "docs/configuration.md").read_text()


def test_check_imports_no_server() -> None:
    """It must answer at once: the heavy packages stay out."""
    code = (
        "import sys; from proxy.cli.main import build;"
        "build('check')(['check'], standalone_mode=False);"
        "print(sorted({'asyncio', 'aiohttp', 'sqlglot', 'redis', 'asyncpg'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"
