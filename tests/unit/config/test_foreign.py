"""Configurations of PgBouncer and PgDog, read as Penstock's."""

from pathlib import Path

import pytest

from proxy.config.foreign.draft import Draft, ImportFileError, known
from proxy.config.foreign.pgbouncer import _DEFAULTS, _NO_EQUAL, _PLAIN, _TCP, from_pgbouncer
from proxy.config.foreign.pgdog import from_pgdog
from proxy.config.load import load
from proxy.config.settings import Settings

# The settings of [pgbouncer] in PgBouncer 1.25's documentation.
SETTINGS = [
    "logfile",
    "pidfile",
    "listen_addr",
    "listen_port",
    "unix_socket_dir",
    "unix_socket_mode",
    "unix_socket_group",
    "user",
    "pool_mode",
    "max_client_conn",
    "default_pool_size",
    "min_pool_size",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "max_db_connections",
    "max_db_client_connections",
    "max_user_connections",
    "max_user_client_connections",
    "server_round_robin",
    "track_extra_parameters",
    "ignore_startup_parameters",
    "peer_id",
    "disable_pqexec",
    "application_name_add_host",
    "conffile",
    "service_name",
    "job_name",
    "stats_period",
    "max_prepared_statements",
    "scram_iterations",
    "auth_type",
    "auth_hba_file",
    "auth_ident_file",
    "auth_file",
    "auth_user",
    "auth_query",
    "auth_dbname",
    "auth_ldap_options",
    "syslog",
    "syslog_ident",
    "syslog_facility",
    "log_connections",
    "log_disconnections",
    "log_pooler_errors",
    "log_stats",
    "verbose",
    "admin_users",
    "stats_users",
    "server_reset_query",
    "server_reset_query_always",
    "server_check_delay",
    "server_check_query",
    "server_fast_close",
    "server_lifetime",
    "server_idle_timeout",
    "server_connect_timeout",
    "server_login_retry",
    "client_login_timeout",
    "autodb_idle_timeout",
    "dns_max_ttl",
    "dns_nxdomain_ttl",
    "dns_zone_check_period",
    "resolv_conf",
    "client_tls_sslmode",
    "client_tls_key_file",
    "client_tls_cert_file",
    "client_tls_ca_file",
    "client_tls_protocols",
    "client_tls_ciphers",
    "client_tls13_ciphers",
    "client_tls_ecdhcurve",
    "client_tls_dheparams",
    "server_tls_sslmode",
    "server_tls_ca_file",
    "server_tls_key_file",
    "server_tls_cert_file",
    "server_tls_protocols",
    "server_tls_ciphers",
    "server_tls13_ciphers",
    "query_timeout",
    "query_wait_timeout",
    "query_wait_notify",
    "cancel_wait_timeout",
    "client_idle_timeout",
    "idle_transaction_timeout",
    "transaction_timeout",
    "suspend_timeout",
    "pkt_buf",
    "max_packet_size",
    "listen_backlog",
    "sbuf_loopcnt",
    "so_reuseport",
    "tcp_defer_accept",
    "tcp_socket_buffer",
    "tcp_keepalive",
    "tcp_keepcnt",
    "tcp_keepidle",
    "tcp_keepintvl",
    "tcp_user_timeout",
]


def bouncer(directory: Path, text: str, userlist: str = "") -> tuple[Draft, Settings]:
    """The draft, and what `penstock check` makes of it."""
    (directory / "pgbouncer.ini").write_text(text)
    (directory / "userlist.txt").write_text(userlist)
    return checked(directory, from_pgbouncer(directory / "pgbouncer.ini"))


def checked(directory: Path, draft: Draft) -> tuple[Draft, Settings]:
    (directory / "config.toml").write_text(draft.render())
    return draft, load(directory / "config.toml", {})


def test_databases_users_and_pools(tmp_path: Path) -> None:
    _, settings = bouncer(
        tmp_path,
        """
        ; what a comment looks like
        [databases]
        app = host=10.0.0.1 port=5433 dbname=app_production pool_size=50
        "my db" = host=10.0.0.2
        [pgbouncer]
        listen_addr = *
        listen_port = 6500
        auth_type = scram-sha-256
        admin_users = ann
        default_pool_size = 30
        pool_mode = transaction
        server_idle_timeout = 300
        query_wait_timeout = 7.5
        """,
    )
    assert str(settings.server.listen) == "0.0.0.0:6500"
    assert settings.server.max_client_connections == 100  # PgBouncer's default
    assert (settings.pool.size, settings.pool.mode) == (30, "transaction")
    assert (settings.pool.idle_timeout, settings.pool.wait_timeout) == (300.0, 7.5)
    app = settings.databases["app"]
    assert (app.primary.host, app.primary.port) == ("10.0.0.1", 5433)
    assert app.server_database == "app_production"
    assert app.pool is not None
    assert (app.pool.size, app.pool.mode) == (50, "transaction")
    assert settings.databases["my db"].primary.host == "10.0.0.2"
    assert settings.auth.admins == ("ann",)
    assert "ann" in {user.name for user in settings.auth.users}


def test_the_mode_is_session_where_none_is_given(tmp_path: Path) -> None:
    _, settings = bouncer(tmp_path, "[databases]\na =\n[pgbouncer]\nauth_type = trust\n")
    assert (settings.pool.mode, settings.auth.method) == ("session", "trust")


@pytest.mark.parametrize("key", SETTINGS)
def test_no_setting_of_pgbouncers_is_unknown(tmp_path: Path, key: str) -> None:
    values = {
        "auth_type": "trust",
        "pool_mode": "session",
        "client_tls_sslmode": "disable",
        "server_tls_sslmode": "prefer",
        "client_tls_protocols": "secure",
        "unix_socket_mode": "0770",
        "listen_addr": "127.0.0.1",
        "admin_users": "ann",
    }
    value = values.get(key, "7")
    own = f"[databases]\na = host=h\n[pgbouncer]\n{key} = {value}\n"
    (tmp_path / "7").write_text("")
    file = tmp_path / "pgbouncer.ini"
    file.write_text(own if key == "auth_type" else own + "auth_type = trust\n")
    draft = from_pgbouncer(file)
    assert not [remark for remark in draft.without_equal if "no setting of PgBouncer's" in remark]
    if key in _NO_EQUAL:
        assert any(remark.startswith(f"{key} = ") for remark in draft.without_equal)


def test_nothing_is_in_two_lists() -> None:
    assert not set(_PLAIN) & set(_NO_EQUAL)
    assert not set(_TCP) & set(_NO_EQUAL)
    assert set(_DEFAULTS) <= set(_PLAIN)


def test_what_has_no_equal_is_named_with_its_place(tmp_path: Path) -> None:
    draft, _ = bouncer(
        tmp_path,
        "[databases]\na = host=h,i user=bob password=x frob=1 datestyle=ISO\n"
        "[peers]\n1 = host=/tmp\n"
        "[pgbouncer]\nauth_type=any\nstats_users = carl\nfrobnicate = 7\n",
    )
    told = "\n".join(draft.without_equal)
    for said in (
        "frobnicate = 7: no setting of PgBouncer's that is known",
        "pgbouncer.ini:8",
        "stats_users = carl",
        "host i: add it to database.NAME.replicas",
        "user = bob: each client is itself on the server",
        "frob: not a parameter that is known",
        "datestyle = ISO",
        "[peers] 1",
        "auth_type = any",
    ):
        assert said in told
    assert all(f"NO EQUAL: {remark}" in draft.render() for remark in draft.without_equal)


@pytest.mark.skipif(known("auth.auth_file"), reason="the file is used as it is")
def test_users_of_the_user_list(tmp_path: Path) -> None:
    draft, settings = bouncer(
        tmp_path,
        "[databases]\na =\n[pgbouncer]\nauth_file = userlist.txt\nadmin_users = ann\n",
        '; comment\n"ann" "hu""sh"\n"bob" "md5aabbcc" ""\n',
    )
    secrets = {user.name: user.password for user in settings.auth.users}
    assert secrets["ann"] is not None
    assert secrets["ann"].get_secret_value() == 'hu"sh'
    assert secrets["bob"] is not None  # made up, and said so
    assert "the password of bob: one was made up" in draft.without_equal
    assert "aabbcc" not in draft.render()


def test_includes_and_quotes(tmp_path: Path) -> None:
    (tmp_path / "more.ini").write_text("[databases]\nb = host='x y' dbname='it''s'\n")
    _, settings = bouncer(
        tmp_path, "[pgbouncer]\nauth_type = trust\n%include more.ini\nc = host=z\n"
    )
    assert settings.databases["b"].primary.host == "x y"
    assert settings.databases["b"].server_database == "it's"
    assert settings.databases["c"].primary.host == "z"


def test_a_user_list_that_can_not_be_read(tmp_path: Path) -> None:
    """Often only PgBouncer's own account may: all else is made all the same."""
    path = tmp_path / "pgbouncer.ini"
    path.write_text(
        "[databases]\na = host=h\n[pgbouncer]\nauth_file = nowhere.txt\nadmin_users = ann\n"
    )
    text = from_pgbouncer(path).render()
    assert f'auth_file = "{tmp_path / "nowhere.txt"}"' in text
    assert "nowhere.txt: can't be read" in text
    assert "[database.a.primary]" in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[pgbouncer]\nwhat is this\n", "pgbouncer.ini:2: neither a section nor key = value"),
        ("a = b\n", "pgbouncer.ini:1: neither"),
        ("[pgbouncer]\ndefault_pool_size = many\n", "default_pool_size = many: not a value"),
        ("[databases]\na = host=h pool_size=x\n", "pool_size = x: not a value"),
        ("[databases]\na = host\n", "not a parameter = value: host"),
        ("[other]\na = b\n", "[other] is no section"),
        ("%include nowhere.ini\n", "nowhere.ini: can't be read"),
        ("%include pgbouncer.ini\n", "include each other"),
    ],
)
def test_what_is_no_pgbouncer_ini(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ImportFileError) as caught:
        bouncer(tmp_path, text)
    assert said in str(caught.value)


PGDOG = """
[general]
port = 6433
default_pool_size = 15
checkout_timeout = 3000
load_balancing_strategy = "least_active_connections"
read_write_split = "exclude_primary"
healthcheck_interval = 30000

[admin]
user = "boss"
password = "adm"

[[databases]]
name = "shop"
host = "10.0.0.1"
[[databases]]
name = "shop"
host = "10.0.0.2"
port = 5433
role = "replica"

[[databases]]
name = "events"
host = "10.0.1.1"
[[databases]]
name = "events"
host = "10.0.1.2"
shard = 1
database_name = "events_1"

[[sharded_tables]]
database = "events"
name = "clicks"
column = "user_id"
data_type = "bigint"
[[sharded_tables]]
database = "events"
name = "pictures"
column = "v"
data_type = "vector"

[[plugins]]
name = "x"
"""
USERS = """
[[users]]
name = "alice"
database = "shop"
password = "pw"
[[users]]
name = "alice"
database = "events"
password = "other"
"""


def test_pgdog(tmp_path: Path) -> None:
    (tmp_path / "pgdog.toml").write_text(PGDOG)
    (tmp_path / "users.toml").write_text(USERS)
    draft, settings = checked(tmp_path, from_pgdog(tmp_path / "pgdog.toml", None))
    assert str(settings.server.listen) == "0.0.0.0:6433"
    assert (settings.pool.size, settings.pool.wait_timeout) == (15, 3.0)
    assert settings.pool.idle_timeout == 60.0  # PgDog's default
    shop = settings.databases["shop"]
    assert [str(one) for one in shop.replicas.hosts] == ["10.0.0.2:5433"]
    assert (shop.replicas.read_preference, shop.replicas.balance) == (
        "replica",
        "least_connections",
    )
    events = settings.databases["events"].sharding
    assert events.enabled
    assert [(one.host, one.database) for one in events.shards] == [
        ("10.0.1.1", None),
        ("10.0.1.2", "events_1"),
    ]
    assert [(one.name, one.key, one.type) for one in events.tables] == [
        ("clicks", "user_id", "bigint")
    ]
    assert [user.name for user in settings.auth.users] == ["alice", "boss"]
    assert settings.auth.admins == ("boss",)
    told = "\n".join(draft.without_equal)
    for said in ("healthcheck_interval", "pictures.v", "[plugins]", "a second password of alice"):
        assert said in told
    assert "other" not in told


def test_pgdog_without_users(tmp_path: Path) -> None:
    (tmp_path / "pgdog.toml").write_text('[[databases]]\nname = "a"\nhost = "h"\n')
    draft, settings = checked(tmp_path, from_pgdog(tmp_path / "pgdog.toml", None))
    assert len(settings.auth.users) == 1
    assert any("was made up" in remark for remark in draft.without_equal)


def test_what_is_no_pgdog_toml(tmp_path: Path) -> None:
    (tmp_path / "pgdog.toml").write_text("[general\n")
    with pytest.raises(ImportFileError, match=r"pgdog.toml"):
        from_pgdog(tmp_path / "pgdog.toml", None)
