"""pgdog.toml and users.toml to Penstock's configuration.

Source: PgDog's documentation, "Configuration". Its times are milliseconds.
"""

import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

from proxy.config.foreign.draft import Draft, ImportFileError, known
from proxy.config.foreign.pgbouncer import somebody

_GENERAL: Final[dict[str, tuple[str, str]]] = {
    "pooler_mode": ("pool", "mode"),
    "default_pool_size": ("pool", "size"),
    "min_pool_size": ("pool", "min_size"),
    "auth_type": ("auth", "method"),
    "tls_certificate": ("client_tls", "cert_file"),
    "tls_private_key": ("client_tls", "key_file"),
    "tls_server_ca_certificate": ("server_tls", "ca_file"),
}
_TIMES: Final[dict[str, tuple[str, str]]] = {
    "connect_timeout": ("pool", "connect_timeout"),
    "checkout_timeout": ("pool", "wait_timeout"),
    "idle_timeout": ("pool", "idle_timeout"),
    "server_lifetime": ("pool", "max_lifetime"),
    "query_timeout": ("pool", "query_timeout"),
    "client_idle_timeout": ("pool", "client_idle_timeout"),
    "client_idle_in_transaction_timeout": ("pool", "idle_in_transaction_timeout"),
    "client_login_timeout": ("server", "login_timeout"),
    "shutdown_timeout": ("server", "shutdown_timeout"),
    "lsn_check_interval": ("routing", "monitor_interval"),
    "ban_replica_lag": ("routing", "max_lag"),
}
_DEFAULTS: Final = {
    "default_pool_size": 10,
    "checkout_timeout": 5000,
    "idle_timeout": 60_000,
    "shutdown_timeout": 60_000,
}
"""PgDog's defaults that differ from Penstock's and change what clients see."""

_BALANCE: Final = {
    "round_robin": "round_robin",
    "least_active_connections": "least_connections",
    "random": "round_robin",
}
_READS: Final = {
    "include_primary": "nearest",
    "exclude_primary": "replica",
    "include_primary_if_replica_banned": "replica_preferred",
}
_VERIFY: Final = {
    "disabled": "disable",
    "prefer": "prefer",
    "verify_ca": "verify-ca",
    "verify_full": "verify-full",
}
_TYPES: Final = {"bigint": "bigint", "uuid": "uuid", "varchar": "varchar"}
_OWN_POOL: Final = {"pool_size": "size", "min_pool_size": "min_size", "pooler_mode": "mode"}
_OWN_TIMES: Final = {"idle_timeout": "idle_timeout", "server_lifetime": "max_lifetime"}
_HANDLED: Final = {
    *("host", "port", "load_balancing_strategy", "read_write_split", "tls_verify"),
    *("openmetrics_port", "tls_client_required"),
}


def from_pgdog(path: Path, users: Path | None) -> Draft:
    """The configuration that pgdog.toml amounts to. `users`: users.toml, by default beside it.
    Raises ImportFileError."""
    data = _read(path)
    draft = Draft(f"Made from PgDog's {path.name} by `penstock import`.")
    draft.say(
        (), "Lines that begin with NO EQUAL name what Penstock does not have, or does itself."
    )
    general = data.pop("general", {})
    _server(draft, general)
    _general(draft, {**_DEFAULTS, **general}, path.parent, set(general))
    file = users or path.with_name("users.toml")
    listed = _read(file) if users is not None or file.exists() else {}
    admin = {**data.pop("admin", {}), **listed.pop("admin", {})}
    databases = data.pop("databases", [])
    tables = data.pop("sharded_tables", [])
    _databases(draft, databases, tables, general)
    _users(draft, listed.pop("users", []))
    _admin(draft, admin)
    tcp = data.pop("tcp", {})
    for key, value in tcp.items():
        _tcp(draft, key, value)
    for key in [*data, *(f"{file.name}: {name}" for name in listed)]:
        draft.lose((), f"[{key}]: not a table that Penstock has")
    somebody(draft)
    return draft


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ImportFileError(f"{path}: can't be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ImportFileError(f"{path}: {error}") from None


def _server(draft: Draft, general: dict[str, Any]) -> None:
    host = general.get("host", "0.0.0.0")
    draft.put(("server",), "listen", f"{host}:{general.get('port', 6432)}")
    if "openmetrics_port" in general:
        draft.put(("server",), "http_listen", f"{host}:{general['openmetrics_port']}")


def _general(draft: Draft, general: dict[str, Any], directory: Path, given: set[str]) -> None:
    for key, value in general.items():
        remark = "" if key in given else "PgDog's default"
        if key in _HANDLED:
            continue
        if key in _TIMES:
            table, name = _TIMES[key]
            draft.put((table,), name, f"{value}ms", remark)
        elif key in _GENERAL:
            table, name = _GENERAL[key]
            if name.endswith("_file"):
                value = str((directory / value).resolve())
            draft.put(
                (table,),
                name,
                {"scram": "scram-sha-256", "plain": "password"}.get(value, value)
                if key == "auth_type"
                else value,
                remark,
            )
        else:
            draft.lose((), f"general.{key} = {value}: not a setting that Penstock has")
    if "tls_verify" in general and known("server_tls.mode"):
        draft.put(("server_tls",), "mode", _VERIFY.get(general["tls_verify"], "prefer"))
    elif "tls_verify" in general:
        draft.lose((), f"general.tls_verify = {general['tls_verify']}: not in this version")
    if "tls_certificate" in general and known("client_tls.mode"):
        mode = "require" if general.get("tls_client_required") else "prefer"
        draft.put(("client_tls",), "mode", mode)
    draft.put(("auth",), "method", draft.values(("auth",)).get("method", "scram-sha-256"))


def _databases(
    draft: Draft,
    databases: list[dict[str, Any]],
    tables: list[dict[str, Any]],
    general: dict[str, Any],
) -> None:
    by_name: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in databases:
        by_name[str(one.get("name"))].append(one)
    for name, entries in by_name.items():
        shards = {int(one.get("shard", 0)) for one in entries}
        _nodes(draft, name, entries, general)
        if len(shards) > 1:
            _shards(draft, name, entries, [one for one in tables if one.get("database") == name])
    for table in tables:
        if len({one.get("shard", 0) for one in by_name.get(table.get("database", ""), [])}) < 2:
            draft.lose((), f"sharded_tables of {table.get('database')}: it has only one shard")


def _nodes(draft: Draft, name: str, entries: list[dict[str, Any]], general: dict[str, Any]) -> None:
    top = ("database", name)
    first = [one for one in entries if int(one.get("shard", 0)) == 0]
    primaries = [one for one in first if one.get("role", "primary") == "primary"]
    primary = primaries[0] if primaries else first[0]
    if not primaries:
        draft.lose((*top, "primary"), "no primary was named: its role is to be found out")
    draft.put((*top, "primary"), "host", primary.get("host", "127.0.0.1"))
    draft.put((*top, "primary"), "port", primary.get("port", 5432))
    if primary.get("database_name", name) != name:
        draft.put(top, "server_database", primary["database_name"])
    replicas = [one for one in first if one is not primary]
    if replicas:
        hosts = [f"{one.get('host', '127.0.0.1')}:{one.get('port', 5432)}" for one in replicas]
        draft.put((*top, "replicas"), "hosts", hosts)
        reads = _READS[general.get("read_write_split", "include_primary")]
        draft.put((*top, "replicas"), "read_preference", reads)
        strategy = general.get("load_balancing_strategy", "random")
        draft.put((*top, "replicas"), "balance", _BALANCE.get(strategy, "round_robin"))
        if strategy not in ("round_robin", "least_active_connections"):
            draft.lose((*top, "replicas"), f"load_balancing_strategy = {strategy}: by turns here")
    for one in entries:
        _node(draft, top, one)


def _node(draft: Draft, top: tuple[str, ...], one: dict[str, Any]) -> None:
    pool: dict[str, Any] = {}
    for key, value in one.items():
        if key in _OWN_POOL:
            pool[_OWN_POOL[key]] = value
        elif key in _OWN_TIMES:
            pool[_OWN_TIMES[key]] = f"{value}ms"
        elif key in ("user", "password"):
            draft.lose(top, f"{key} of {one.get('host')}: each client logs in as itself")
        elif key not in ("name", "host", "port", "role", "shard", "database_name"):
            draft.lose(top, f"{key} = {value} of {one.get('host')}: not a setting of databases")
    draft.put_pool(top, pool)


def _shards(
    draft: Draft, name: str, entries: list[dict[str, Any]], tables: list[dict[str, Any]]
) -> None:
    top = ("database", name, "sharding")
    shards = []
    for number in sorted({int(one.get("shard", 0)) for one in entries}):
        own = [one for one in entries if int(one.get("shard", 0)) == number]
        chosen = next((one for one in own if one.get("role", "primary") == "primary"), own[0])
        shard = {"host": chosen.get("host", "127.0.0.1"), "port": chosen.get("port", 5432)}
        if chosen.get("database_name", name) != name:
            shard["database"] = chosen["database_name"]
        shards.append(shard)
        if number and len(own) > 1:
            draft.lose(top, f"replicas of shard {number}: shards have none")
    found = [table for one in tables if (table := _sharded(draft, top, one))]
    draft.put(top, "enabled", bool(found))
    draft.put(top, "shards", shards)
    draft.put(top, "table", found)
    draft.say(top, "Tables that are not listed are taken to be on the primary, here shard 0's.")
    draft.say(top, "Check that rows lie where this hash puts them before anything is written.")
    if not found:
        draft.lose(top, "no table that can be taken over: sharding is off")


def _sharded(draft: Draft, top: tuple[str, ...], one: dict[str, Any]) -> dict[str, Any] | None:
    kind = _TYPES.get(one.get("data_type", "bigint"))
    where = f"sharded table {one.get('name', '(any)')}.{one.get('column')}"
    if kind is None or one.get("hasher", "postgres") != "postgres":
        draft.lose(top, f"{where}: only PostgreSQL's hash of bigint, uuid and varchar is the same")
        return None
    if "name" not in one:
        draft.lose(top, f"{where}: every sharded table has to be named; add them")
        return None
    for key in set(one) - {"database", "name", "column", "data_type", "hasher", "primary"}:
        draft.lose(top, f"{where}: {key}")
    return {"name": one["name"], "key": one["column"], "type": kind}


def _users(draft: Draft, users: list[dict[str, Any]]) -> None:
    for one in users:
        name = str(one.get("name"))
        entry = draft.users.setdefault(name, {"name": name})
        pool: dict[str, Any] = {}
        for key, value in one.items():
            if key in ("password", "server_password"):
                if entry.setdefault(key, value) != value:
                    draft.lose(("auth",), f"a second {key} of {name} for {one.get('database')}")
            elif key in _OWN_POOL and known("auth.users.0.pool"):
                pool[_OWN_POOL[key]] = value
            elif key in ("database", "databases", "all_databases"):
                draft.say(
                    ("auth",), f"{name} may use every database here, not {key} = {value} only"
                )
            elif key != "name":
                draft.lose(("auth",), f"{key} of user {name}: not a setting of users")
        if pool:
            entry["pool"] = pool


def _admin(draft: Draft, admin: dict[str, Any]) -> None:
    if not admin:
        return
    user = str(admin.get("user", "admin"))
    draft.put(("auth",), "admins", [user])
    entry = draft.users.setdefault(user, {"name": user})
    if "password" in admin:
        entry.setdefault("password", admin["password"])
    if admin.get("name", "admin") != "penstock":
        draft.say(("auth",), "the console is the database penstock, or pgbouncer")


def _tcp(draft: Draft, key: str, value: Any) -> None:
    ours = {
        "keepalive": "keepalive",
        "time": "keepalive_idle",
        "interval": "keepalive_interval",
        "retries": "keepalive_count",
        "user_timeout": "user_timeout",
    }.get(key)
    if ours is None:
        draft.lose((), f"tcp.{key} = {value}: not a setting that Penstock has")
        return
    timed = key in ("time", "interval", "user_timeout")
    for side in ("client_tcp", "server_tcp"):
        draft.put((side,), ours, f"{value}ms" if timed else value)
