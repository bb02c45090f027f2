"""Configuration text of local servers."""

from pathlib import Path

from proxy.local.postgres_config import repointed, server_config, standby_conninfo

SOCKETS = Path("/tmp/o'brien, \\co")


def test_strings_are_quoted_for_the_configuration_file() -> None:
    text = server_config(name="primary", port=5433, socket_dir=SOCKETS, durable=True)
    assert "port = 5433\n" in text
    assert "cluster_name = 'primary'\n" in text
    assert "unix_socket_directories = '\"/tmp/o''brien, \\\\co\"'\n" in text


def test_only_a_stack_that_may_lose_data_goes_without_fsync() -> None:
    def text(durable: bool) -> str:
        return server_config(name="p", port=1, socket_dir=SOCKETS, durable=durable)

    assert "fsync" not in text(durable=True)
    assert "fsync = 'off'" in text(durable=False)
    assert "synchronous_commit" not in text(durable=False)


def test_the_primarys_address_is_replaced_and_the_rest_kept() -> None:
    old = "# header\nprimary_conninfo = 'host=/old port=1'\nwork_mem = '8MB'\n"
    conninfo = standby_conninfo(name="replica1", socket_dir=Path("/run/s"), port=7)
    new = repointed(old, conninfo)
    assert new == (
        "# header\nwork_mem = '8MB'\n"
        "primary_conninfo = 'host=''/run/s'' port=7 user=postgres application_name=replica1'\n"
    )
    assert repointed(new, conninfo) == new
