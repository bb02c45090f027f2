"""RELOAD, SIGHUP and SET: what changes at once, what waits for a restart, what is refused."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.databases import Database
from tests.integration.admin.operating import operator, rows, until
from tests.proxies import Proxy, running_proxy

Console = psycopg.Connection[dict[str, Any]]


@pytest.fixture
def console(proxy: Proxy) -> Iterator[Console]:
    with operator(proxy) as one:
        yield one


def edit(proxy: Proxy, change: Callable[[str], str]) -> None:
    proxy.config_file.write_text(change(proxy.config_file.read_text()))


def run(console: Console, command: str) -> str:
    """The command's notices."""
    heard: list[str] = []

    def hear(diagnostic: psycopg.errors.Diagnostic) -> None:
        heard.append(diagnostic.message_primary or "")

    console.add_notice_handler(hear)
    try:
        console.execute(command)
    finally:
        console.remove_notice_handler(hear)
    return "\n".join(heard)


def configured(console: Console) -> dict[str, str]:
    return {row["key"]: row["value"] for row in rows(console, "SHOW CONFIG")}


def test_nothing_has_changed(console: Console) -> None:
    assert run(console, "RELOAD").startswith("no setting has changed")


def test_clients_stay_while_settings_change(proxy: Proxy, console: Console) -> None:
    with psycopg.connect(proxy.dsn()) as one:
        one.execute("SELECT txid_current()")
        edit(proxy, lambda text: text + '[pool]\nsize = 3\nwait_timeout = "2s"\n')
        assert run(console, "RELOAD") == "applied: pool.size, pool.wait_timeout"
        assert one.execute("SELECT 1").fetchone() == (1,)  # still in its transaction
        one.commit()
    assert configured(console)["pool.size"] == "3"
    assert rows(console, "SHOW DATABASES")[0]["pool_size"] == 3
    assert {row["pool_size"] for row in rows(console, "SHOW NODE_POOLS")} == {3}


def test_what_needs_a_restart_is_named_and_not_in_force(proxy: Proxy, console: Console) -> None:
    before = configured(console)["server.listen"]

    def change(text: str) -> str:
        return text.replace(f'[server]\nlisten = "{before}"', '[server]\nlisten = "127.0.0.1:1"')

    edit(proxy, change)
    told = run(console, "RELOAD")
    assert "unchanged until Penstock is started again: server.listen" in told
    assert configured(console)["server.listen"] == before
    assert "server.listen" in run(console, "RELOAD")  # until it is taken back


def test_a_bad_file_is_refused_whole(proxy: Proxy, console: Console) -> None:
    before = configured(console)
    edit(proxy, lambda text: text + '[pool]\nsize = 3\nmode = "sometimes"\nsise = 4\n')
    with pytest.raises(psycopg.errors.ConfigFileError) as caught:
        console.execute("RELOAD")
    detail = caught.value.diag.message_detail or ""
    assert 'pool.mode = "sometimes": not a value that is allowed here' in detail
    assert "pool.sise: unknown key" in detail
    assert configured(console) == before
    with psycopg.connect(proxy.dsn()) as one:
        assert one.execute("SELECT 1").fetchone() == (1,)


def test_sighup_reloads_and_says_so_in_the_log(proxy: Proxy, console: Console) -> None:
    edit(proxy, lambda text: text + "[pool]\nsize = 4\n")
    proxy.process.send_signal(signal.SIGHUP)
    until(lambda: configured(console)["pool.size"] == "4", "the reload")
    [event] = [one for one in proxy.log() if one["event"] == "reloaded"]
    assert event["applied"] == ["pool.size"]
    edit(proxy, lambda text: text + "sise = 4\n")
    proxy.process.send_signal(signal.SIGHUP)
    [refused] = until(
        lambda: [one for one in proxy.log() if one["event"] == "reload refused"], "a refusal"
    )
    assert "pool.sise: unknown key" in str(refused["problems"])
    assert configured(console)["pool.size"] == "4"


def test_users_and_their_passwords(proxy: Proxy, console: Console) -> None:
    user = '[[auth.users]]\nname = "{}"\npassword = "{}"\n'
    edit(proxy, lambda text: text + user.format("newcomer", "first"))
    assert run(console, "RELOAD") == "applied: auth.users"
    dsn = f"host={proxy.host} port={proxy.port} dbname=penstock user=newcomer password="
    with pytest.raises(psycopg.OperationalError, match="may not use the admin console"):
        psycopg.connect(dsn + "first")
    edit(proxy, lambda text: text.replace('"first"', '"second"'))
    assert run(console, "RELOAD") == "applied: auth.users"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(dsn + "first")
    edit(
        proxy,
        lambda text: text.replace(
            f'admins = ["{proxy.database.user}"]',
            f'admins = ["{proxy.database.user}", "newcomer"]',
        ),
    )
    assert run(console, "RELOAD") == "applied: auth.admins"
    with psycopg.connect(dsn + "second") as one:
        assert one.execute("SHOW VERSION").fetchone()
    assert "second" not in proxy.log_file.read_text()


def test_databases_come_and_go(proxy: Proxy, console: Console) -> None:
    primary = proxy.database.stack.primary
    own = (
        f'[database.alias]\nserver_database = "{proxy.database.name}"\n'
        f'[database.alias.primary]\nhost = "{primary.host}"\nport = {primary.port}\n'
    )
    edit(proxy, lambda text: text + own)
    assert run(console, "RELOAD") == "applied: database.alias"
    with psycopg.connect(proxy.dsn("alias"), autocommit=True) as one:
        assert one.execute("SELECT current_database()").fetchone() == (proxy.database.name,)
        edit(proxy, lambda text: text.replace(own, ""))
        assert run(console, "RELOAD") == "applied: database.alias"
        with pytest.raises(psycopg.OperationalError, match='database "alias" does not exist'):
            psycopg.connect(proxy.dsn("alias"))
        assert one.execute("SELECT 1").fetchone() == (1,)  # it is not dropped
    until(
        lambda: [one for one in proxy.log() if one["event"] == "database stopped"],
        "the end of the database",
    )
    assert "alias" not in {row["database"] for row in rows(console, "SHOW POOLS")}


def test_replicas_come_and_go(proxy: Proxy, console: Console) -> None:
    stack = proxy.database.stack
    both = [f'"{one.host}:{one.port}"' for one in stack.replicas]

    def replicas() -> dict[str, int]:
        found = rows(console, "SHOW REPLICATION")
        return {row["node"]: row["port"] for row in found if row["role"] == "replica"}

    def ready() -> bool:
        return all(row["healthy"] for row in rows(console, "SHOW REPLICATION"))

    def ports(one: psycopg.Connection[Any]) -> set[int]:
        """Replicas that there are connections to after some reads."""
        for _ in range(8):
            one.execute("SELECT count(*) FROM things")
        return {row["port"] for row in rows(console, "SHOW SERVERS") if row["role"] == "replica"}

    with psycopg.connect(proxy.dsn(), autocommit=True) as one:
        one.execute("CREATE TABLE things (id int)")
        until(lambda: ports(one) == {replica.port for replica in stack.replicas}, "both replicas")
        edit(proxy, lambda text: text.replace(", ".join(both), both[1]))
        assert "replicas.hosts" in run(console, "RELOAD")
        assert replicas() == {"replica2": stack.replicas[1].port}  # keeps its name
        until(ready, "healthy nodes")
        assert ports(one) == {stack.replicas[1].port}
        edit(proxy, lambda text: text.replace(f"[{both[1]}]", "[" + ", ".join(both[::-1]) + "]"))
        run(console, "RELOAD")
        assert replicas() == {
            "replica2": stack.replicas[1].port,
            "replica1": stack.replicas[0].port,
        }
        until(ready, "healthy nodes")
        until(lambda: ports(one) == {replica.port for replica in stack.replicas}, "both replicas")


def test_a_primary_at_another_address(proxy: Proxy, console: Console) -> None:
    """The shards' servers have a database of the same name: one of them is the new primary."""
    stack = proxy.database.stack
    old, new = stack.primary, stack.shards[0]
    with (
        psycopg.connect(proxy.dsn()) as inside,
        psycopg.connect(proxy.dsn(), autocommit=True) as other,
    ):
        inside.execute("SELECT txid_current()")
        other.execute("SELECT txid_current()")
        edit(
            proxy,
            lambda text: text.replace(
                f'host = "{old.host}"\nport = {old.port}', f'host = "{new.host}"\nport = {new.port}'
            ).replace("hosts = [", "hosts = [] # ["),
        )
        run(console, "RELOAD")
        found = other.execute("SELECT inet_server_port(), txid_current()").fetchone()
        assert found is not None
        assert found[0] == new.port
        row = inside.execute("SELECT inet_server_port()").fetchone()
        assert row == (old.port,)  # its transaction ends where it began
        inside.commit()
        row = inside.execute("SELECT inet_server_port(), txid_current()").fetchone()
        assert row is not None
        assert row[0] == new.port
    until(
        lambda: {r["port"] for r in rows(console, "SHOW SERVERS")} == {new.port},
        "the end of the old primary's connections",
    )


def test_rules_of_routing_and_log_level(proxy: Proxy, console: Console) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as one:
        one.execute("CREATE TABLE balances (id int)")
        question = "EXPLAIN (PENSTOCK) SELECT * FROM balances"
        assert "a hint or rule asks for the primary" not in str(one.execute(question).fetchall())
        edit(
            proxy,
            lambda text: (
                text.replace('format = "json"', 'format = "json"\nlevel = "warning"')
                + '[[routing.rule]]\nname = "balances are current"\n'
                'tables = ["balances"]\nnode = "primary"\n'
            ),
        )
        assert run(console, "RELOAD") == "applied: log.level, routing.rule"
        assert "a hint or rule asks for the primary" in str(one.execute(question).fetchall())
    before = len(proxy.log())
    console.execute("RECONNECT")  # logged as information
    assert len(proxy.log()) == before


def test_set_holds_until_the_next_reload(proxy: Proxy, console: Console) -> None:
    assert run(console, "SET pool.size = 7") == "applied: pool.size"
    assert configured(console)["default_pool_size"] == "7"
    run(console, "SET default_pool_size = 6")
    assert configured(console)["pool.size"] == "6"
    run(console, "RELOAD")
    assert configured(console)["pool.size"] == "20"


@pytest.mark.parametrize(
    ("command", "sqlstate", "said"),
    [
        ("SET pool.size = none", "22023", "must be a whole number"),
        ("SET pool.sise = 4", "22023", "did you mean pool.size?"),
        ("SET server.listen = '127.0.0.1:1'", "55P02", "start Penstock again"),
    ],
)
def test_set_refuses(console: Console, command: str, sqlstate: str, said: str) -> None:
    with pytest.raises(psycopg.Error) as caught:
        console.execute(command)
    assert caught.value.sqlstate == sqlstate
    assert said in str(caught.value)


def test_fewer_clients_than_are_there(database: Database, tmp_path: Path) -> None:
    environment = {
        "PENSTOCK_SERVER__MAX_CLIENT_CONNECTIONS": "3",
        "PENSTOCK_LIMITS__ADMIN_CLIENTS": "0",
    }
    with (
        running_proxy(database, tmp_path, environment=environment) as proxy,
        operator(proxy) as console,
        psycopg.connect(proxy.dsn(), autocommit=True) as first,
        psycopg.connect(proxy.dsn(), autocommit=True) as second,
    ):
        run(console, "SET max_client_conn = 1")
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            psycopg.connect(proxy.dsn())
        assert first.execute("SELECT 1").fetchone() == second.execute("SELECT 1").fetchone()


def test_other_tls_to_the_servers_replaces_connections(proxy: Proxy, console: Console) -> None:
    """Those that were made the old way go when they are released; without a change all stay."""

    def backend(one: psycopg.Connection[Any]) -> int:
        (found,) = one.execute(b"SELECT pg_backend_pid()").fetchone() or (0,)
        return int(found)

    with psycopg.connect(proxy.dsn(), autocommit=True) as one:
        before = backend(one)
        run(console, "RELOAD")
        assert backend(one) == before
        one.execute(b"BEGIN")
        assert run(console, "SET server_tls.mode = 'disable'") == "applied: server_tls.mode"
        assert backend(one) == before
        one.execute(b"COMMIT")
        after = backend(one)
        assert after != before
        edit(proxy, lambda text: text + '[server_tls]\nmode = "disable"\n[pool]\nsize = 7\n')
        run(console, "RELOAD")
        assert backend(one) == after
