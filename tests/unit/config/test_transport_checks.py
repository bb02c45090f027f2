"""Settings of TLS and sockets: what makes no sense together, and where files are looked for."""

from pathlib import Path

import pytest

from proxy.config.load import ConfigError, load

BASE = """
[[auth.users]]
name = "app"
password = "pw"
[database.app.primary]
port = 5432
[database.app.replicas]
hosts = ["a:1", "b:2"]
"""
PAIR = 'cert_file = "c"\nkey_file = "k"\n'


def messages(directory: Path, extra: str) -> list[tuple[str, str]]:
    """(key, message) of every problem with the base and `extra`."""
    path = directory / "config.toml"
    path.write_text(BASE + extra)
    try:
        load(path, {})
    except ConfigError as error:
        return [(problem.key, problem.message) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("extra", "key", "message"),
    [
        ('[client_tls]\nmode = "prefer"\n', "client_tls.mode", "set client_tls.cert_file"),
        (
            f'[client_tls]\nmode = "verify-ca"\n{PAIR}',
            "client_tls.mode",
            "set client_tls.ca_file",
        ),
        ('[client_tls]\ncert_file = "c"\n', "client_tls.cert_file", "no use without key_file"),
        ('[client_tls]\nkey_file = "c"\n', "client_tls.key_file", "no use without cert_file"),
        (f"[client_tls]\n{PAIR}protocols = []\n", "client_tls.protocols", "no version of TLS"),
        (
            f'[client_tls]\n{PAIR}ca_file = "system"\n',
            "client_tls.ca_file",
            "any public authority",
        ),
        ('[server_tls]\nmode = "verify-full"\n', "server_tls.mode", "set ca_file"),
        ('[server_tls]\nca_file = "c"\n', "server_tls.ca_file", 'not looked at with mode "prefer"'),
        (
            '[database.app.tls]\nmode = "verify-ca"\n',
            "database.app.tls.mode",
            "set ca_file",
        ),
        (
            '[database.app.node_tls.replica3]\nmode = "disable"\n',
            "database.app.node_tls.replica3",
            "no node of this name",
        ),
        (
            '[database.app.node_tls.replica2]\nkey_file = "k"\n',
            "database.app.node_tls.replica2.key_file",
            "no use without cert_file",
        ),
        ('[server]\nlisten = "/tmp:6432"\n', "server.listen", "server.unix_socket_dir"),
        ('[server]\nunix_socket_mode = "0999"\n', "server.unix_socket_mode", "octal digits"),
        ('[server]\nunix_socket_mode = "77"\n', "server.unix_socket_mode", "octal digits"),
    ],
)
def test_finds(tmp_path: Path, extra: str, key: str, message: str) -> None:
    ((found, said),) = messages(tmp_path, extra)
    assert found == key
    assert message in said


@pytest.mark.parametrize(
    "extra",
    [
        f'[client_tls]\nmode = "require"\n{PAIR}',
        f'[client_tls]\nmode = "allow"\n{PAIR}ca_file = "a"\n',
        '[server_tls]\nmode = "verify-full"\nca_file = "system"\n',
        '[database.app.node_tls.primary]\nmode = "disable"\n',
        '[server_tls]\nprotocols = ["tlsv1.3"]\n',
        '[server]\nunix_socket_dir = ""\nunix_socket_mode = "0770"\n',
    ],
)
def test_accepts(tmp_path: Path, extra: str) -> None:
    assert messages(tmp_path, extra) == []


def test_files_are_found_from_the_main_files_directory(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        BASE
        + '[client_tls]\ncert_file = "tls/c"\nkey_file = "/etc/k"\n'
        + '[server_tls]\nmode = "verify-ca"\nca_file = "system"\n'
        + '[server]\nunix_socket_dir = "run"\nunix_socket_mode = "0700"\n'
    )
    settings = load(path, {})
    assert settings.client_tls.cert_file == tmp_path / "tls" / "c"
    assert settings.client_tls.key_file == Path("/etc/k")
    assert settings.server_tls.ca_file == Path("system")
    assert settings.server.unix_socket_dir == tmp_path / "run"
    assert settings.server.unix_socket_mode == 0o700
