"""`penstock import`."""

from pathlib import Path

from typer.testing import CliRunner

from proxy.cli.main import build


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(build("import"), ["import", *arguments])
    return done.exit_code, done.stdout, done.stderr


INI = "[databases]\na = host=h\n[pgbouncer]\nauth_type = trust\nfrobnicate = 1\n"


def test_to_standard_output(tmp_path: Path) -> None:
    (tmp_path / "pgbouncer.ini").write_text(INI)
    code, out, err = run(str(tmp_path / "pgbouncer.ini"))
    assert code == 0
    assert '[database.a.primary]\nhost = "h"' in out
    assert err.startswith("no equal: frobnicate = 1")


def test_to_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    (tmp_path / "pgbouncer.ini").write_text(INI)
    target = tmp_path / "config.toml"
    assert run(str(tmp_path / "pgbouncer.ini"), "-o", str(target))[0] == 0
    assert target.stat().st_mode & 0o777 == 0o600
    code, _, err = run(str(tmp_path / "pgbouncer.ini"), "-o", str(target))
    assert code == 1
    assert "exists" in err
    assert run(str(tmp_path / "pgbouncer.ini"), "-o", str(target), "--force")[0] == 0


def test_what_check_would_refuse_is_said(tmp_path: Path) -> None:
    (tmp_path / "pgbouncer.ini").write_text("[pgbouncer]\nauth_type = trust\n")
    code, _, err = run(str(tmp_path / "pgbouncer.ini"))
    assert code == 1
    assert "to be put right: config.toml: database: there is none" in err


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    code, out, err = run(str(tmp_path / "nowhere.ini"))
    assert (code, out) == (1, "")
    assert "can't be read" in err
