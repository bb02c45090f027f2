"""pgbouncer.ini to Penstock's configuration.

Source: PgBouncer's documentation, config.md, up to version 1.25.
"""

import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from proxy.config.foreign.draft import Draft, ImportFileError, known
from proxy.config.foreign.ini import Entry, connection_parameters, read_ini, read_userlist

Convert = Callable[[str], Any]


def _whole(text: str) -> Any:
    return int(text)


def _seconds(text: str) -> str:
    """PgBouncer's times are seconds, with a fraction or with a unit."""
    units = {"us": "us", "ms": "ms", "s": "s", "m": "min", "h": "h", "d": "d"}
    for unit in sorted(units, key=len, reverse=True):
        number = text.removesuffix(unit).strip()
        if text.endswith(unit) and number.replace(".", "", 1).isdigit():
            return f"{number}{units[unit]}"
    return f"{float(text):g}s"


def _milliseconds(text: str) -> str:
    return f"{float(text):g}ms"


def _text(text: str) -> str:
    return text


def _switch(text: str) -> bool:
    return text.strip().lower() in ("1", "on", "yes", "true", "t", "y")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _protocols(text: str) -> list[str]:
    words = {word.strip().lower() for word in text.replace(",", ":").split(":")}
    if words & {"all", "secure", "default", "legacy", ""}:
        return ["tlsv1.2", "tlsv1.3"]
    return sorted(words & {"tlsv1.2", "tlsv1.3"}) or ["tlsv1.2", "tlsv1.3"]


_POOL: Final[dict[str, tuple[str, Convert]]] = {
    "pool_mode": ("mode", _text),
    "default_pool_size": ("size", _whole),
    "min_pool_size": ("min_size", _whole),
    "reserve_pool_size": ("reserve_size", _whole),
    "reserve_pool_timeout": ("reserve_timeout", _seconds),
    "query_wait_timeout": ("wait_timeout", _seconds),
    "query_wait_notify": ("wait_notify", _seconds),
    "server_connect_timeout": ("connect_timeout", _seconds),
    "server_login_retry": ("login_retry", _seconds),
    "server_idle_timeout": ("idle_timeout", _seconds),
    "server_lifetime": ("max_lifetime", _seconds),
    "server_check_delay": ("check_delay", _seconds),
    "server_check_query": ("check_query", _text),
    "server_reset_query": ("reset_query", _text),
    "query_timeout": ("query_timeout", _seconds),
    "transaction_timeout": ("transaction_timeout", _seconds),
    "idle_transaction_timeout": ("idle_in_transaction_timeout", _seconds),
    "client_idle_timeout": ("client_idle_timeout", _seconds),
}
_OWN_POOL: Final = {
    **_POOL,
    "pool_size": _POOL["default_pool_size"],
    "reserve_pool": _POOL["reserve_pool_size"],
}
"""In lines of [databases] and [users]."""

_PLAIN: Final[dict[str, tuple[str, str, Convert]]] = {
    **{name: ("pool", key, convert) for name, (key, convert) in _POOL.items()},
    "max_client_conn": ("server", "max_client_connections", _whole),
    "client_login_timeout": ("server", "login_timeout", _seconds),
    "max_packet_size": ("server", "max_message_size", _whole),
    "so_reuseport": ("server", "reuse_port", _switch),
    "unix_socket_dir": ("server", "unix_socket_dir", _text),
    "unix_socket_mode": ("server", "unix_socket_mode", _text),
    "max_db_connections": ("limits", "database_connections", _whole),
    "max_user_connections": ("limits", "user_connections", _whole),
    "max_db_client_connections": ("limits", "database_clients", _whole),
    "max_user_client_connections": ("limits", "user_clients", _whole),
    "autodb_idle_timeout": ("limits", "on_demand_idle_timeout", _seconds),
    "admin_users": ("auth", "admins", _names),
    "auth_user": ("auth", "auth_user", _text),
    "auth_query": ("auth", "auth_query", _text),
    "auth_dbname": ("auth", "auth_dbname", _text),
    **{
        f"{side}_tls_{theirs}": (f"{side}_tls", ours, convert)
        for side in ("client", "server")
        for theirs, ours, convert in (
            ("sslmode", "mode", _text),
            ("cert_file", "cert_file", _text),
            ("key_file", "key_file", _text),
            ("ca_file", "ca_file", _text),
            ("protocols", "protocols", _protocols),
        )
    },
}
"""PgBouncer's key: table, key and conversion."""

_TCP: Final[dict[str, tuple[str, Convert]]] = {
    "tcp_keepalive": ("keepalive", _switch),
    "tcp_keepidle": ("keepalive_idle", _seconds),
    "tcp_keepintvl": ("keepalive_interval", _seconds),
    "tcp_keepcnt": ("keepalive_count", _whole),
    "tcp_user_timeout": ("user_timeout", _milliseconds),
}

_NO_EQUAL: Final[dict[str, str]] = {
    "logfile": "logs go to standard error: let the service manager keep them",
    "pidfile": "run it under a service manager; it tells systemd its process id",
    "syslog": "logs go to standard error: let the service manager pass them on",
    "syslog_ident": "see syslog",
    "syslog_facility": "see syslog",
    "log_connections": "connections are counted in /metrics",
    "log_disconnections": "connections are counted in /metrics",
    "log_pooler_errors": "such errors are always logged",
    "log_stats": "statistics are in /metrics and SHOW STATS",
    "stats_period": "averages are over 60 s",
    "stats_users": "only auth.admins may use the console; add them there if they may do everything",
    "user": "start it as that user (systemd: User=)",
    "unix_socket_group": "choose the directory's group and mode instead",
    "service_name": "the service manager names it",
    "job_name": "the service manager names it",
    "conffile": "see `penstock serve --config`",
    "server_round_robin": "the connection used last is lent first",
    "server_reset_query_always": "settings that a client changed are put right on every lend",
    "server_fast_close": "RECONNECT waits for the end of transactions",
    "cancel_wait_timeout": "a cancel request is sent on at once",
    "suspend_timeout": "10 s",
    "shutdown_wait_for_servers": "see the signals in docs/admin.md",
    "disable_pqexec": "several statements in one query are always allowed",
    "max_prepared_statements": "prepared statements always work, 500 are kept on a connection",
    "application_name_add_host": "the client's own application_name is passed on",
    "ignore_startup_parameters": "all start-up parameters are passed on to the server",
    "track_extra_parameters": "all settings that a client changes are tracked",
    "scram_iterations": "secrets made from plain passwords have 4096 iterations",
    "auth_ldap_parameter": "there is no LDAP",
    "auth_ldap_options": "there is no LDAP",
    "pkt_buf": "buffers grow as needed",
    "sbuf_loopcnt": "does not apply",
    "listen_backlog": "4096",
    "tcp_defer_accept": "does not apply",
    "tcp_socket_buffer": "the system's",
    "dns_max_ttl": "names are resolved by the system at each connect",
    "dns_nxdomain_ttl": "names are resolved by the system at each connect",
    "dns_zone_check_period": "names are resolved by the system at each connect",
    "resolv_conf": "the system's",
    "peer_id": "[peers] has no equal",
    "client_tls_ciphers": "OpenSSL's defaults",
    "server_tls_ciphers": "OpenSSL's defaults",
    "client_tls13_ciphers": "OpenSSL's defaults",
    "server_tls13_ciphers": "OpenSSL's defaults",
    "client_tls_ecdhcurve": "OpenSSL's defaults",
    "client_tls_dheparams": "OpenSSL's defaults",
    "load_balance_hosts": "one host is the primary; list replicas in database.NAME.replicas",
}
_DEFAULTS: Final = {
    "pool_mode": "session",
    "max_client_conn": "100",
    "query_wait_timeout": "120",
    "server_connect_timeout": "15",
    "client_login_timeout": "60",
}
"""PgBouncer's defaults that differ from Penstock's and change what clients see."""

_METHODS: Final = {"any": "trust", "plain": "password"}
_HANDLED: Final = {
    *("listen_addr", "listen_port", "auth_type", "auth_file", "auth_hba_file", "auth_ident_file"),
    "verbose",
}


def from_pgbouncer(path: Path) -> Draft:
    """The configuration that pgbouncer.ini amounts to. Raises ImportFileError."""
    entries = read_ini(path)
    draft = Draft(f"Made from PgBouncer's {path.name} by `penstock import`.")
    draft.say(
        (), "Lines that begin with NO EQUAL name what Penstock does not have, or does itself."
    )
    own = {one.key: one for one in entries if one.section == "pgbouncer"}
    _listen(draft, own)
    for entry in own.values():
        _setting(draft, entry, path.parent)
    for key, value in _DEFAULTS.items():
        if key not in own:
            table, name, convert = _PLAIN[key]
            draft.put((table,), name, convert(value), "PgBouncer's default")
    _login(draft, own, path.parent)
    for entry in entries:
        if entry.section == "databases":
            _database(draft, entry)
        elif entry.section == "users":
            _user(draft, entry)
        elif entry.section == "peers":
            draft.lose((), f"[peers] {entry.key}: cancel requests are not passed to other hosts")
        elif entry.section != "pgbouncer":
            raise ImportFileError(f"{entry.where}: [{entry.section}] is no section of PgBouncer's")
    somebody(draft)
    return draft


def _listen(draft: Draft, own: dict[str, Entry]) -> None:
    hosts = _names(own["listen_addr"].value) if "listen_addr" in own else []
    port = own["listen_port"].value if "listen_port" in own else "6432"
    if not hosts:
        draft.say(("server",), "listen_addr was not set: PgBouncer listened on no TCP port")
    host = {"*": "0.0.0.0"}.get(hosts[0], hosts[0]) if hosts else "127.0.0.1"
    draft.put(("server",), "listen", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    for other in hosts[1:]:
        draft.lose(("server",), f"listen_addr {other}: one address is listened on")


def _setting(draft: Draft, entry: Entry, directory: Path) -> None:
    key, value = entry.key, entry.value
    if key in _HANDLED - {"verbose"}:
        return
    if key == "verbose":
        if value.strip() not in ("", "0"):
            draft.put(("log",), "level", "debug")
    elif key in _TCP:
        name, convert = _TCP[key]
        for side in ("client_tcp", "server_tcp"):
            draft.put((side,), name, _converted(entry, convert))
    elif key in _PLAIN:
        table, name, convert = _PLAIN[key]
        if name.endswith("_file") and value:
            value = str((directory / value).resolve())
        if value or convert is _text:
            found = _converted(Entry(entry.section, key, value, entry.where), convert)
            draft.put((table,), name, found)
    elif key in _NO_EQUAL:
        draft.lose((), f"{key} = {value}: {_NO_EQUAL[key]}")
    else:
        draft.lose((), f"{key} = {value}: no setting of PgBouncer's that is known ({entry.where})")


def _converted(entry: Entry, convert: Convert) -> Any:
    try:
        return convert(entry.value)
    except ValueError:
        raise ImportFileError(
            f"{entry.where}: {entry.key} = {entry.value}: not a value that it can have"
        ) from None


def _login(draft: Draft, own: dict[str, Entry], directory: Path) -> None:
    theirs = own["auth_type"].value if "auth_type" in own else "md5"
    if not draft.put(("auth",), "method", _METHODS.get(theirs, theirs)):
        draft.put(("auth",), "method", "scram-sha-256")
    if theirs == "any":
        draft.lose(("auth",), "auth_type = any: clients log in as who they say they are")
    for key in ("auth_hba_file", "auth_ident_file"):
        if key in own and own[key].value:
            draft.put(("auth",), key, str((directory / own[key].value).resolve()))
    if "auth_file" not in own or not own["auth_file"].value:
        return
    file = (directory / own["auth_file"].value).resolve()
    if known("auth.auth_file"):
        draft.put(("auth",), "auth_file", str(file))
    try:
        listed = read_userlist(file)
    except ImportFileError as error:
        draft.say(("auth",), f"auth_file: {error}; `penstock check` tells when it is as it must be")
        return
    if known("auth.auth_file"):
        for name in listed:
            draft.users.setdefault(name, {})
        return
    for name, secret in listed.items():
        user = draft.users.setdefault(name, {"name": name})
        if secret.startswith(("md5", "SCRAM-SHA-256$")) or not secret:
            draft.lose(("auth",), f"the stored secret of {name}: its password itself is needed")
        else:
            user["password"] = secret


def _database(draft: Draft, entry: Entry) -> None:
    name, given = entry.key, connection_parameters(entry.value, entry.where)
    if name == "*" and not known("limits.on_demand_databases"):
        draft.lose((), "[databases] *: databases have to be listed in this version")
        return
    top: tuple[str, ...] = ("database", name)
    hosts, ports = _names(given.pop("host", "")), _names(given.pop("port", ""))
    host = hosts[0] if hosts else "127.0.0.1"
    if (not hosts or host.startswith("/")) and not known("server.unix_socket_dir"):
        draft.lose((*top, "primary"), f"the Unix socket {host}: servers are reached by TCP")
        host = "127.0.0.1"
    draft.put((*top, "primary"), "host", host)
    draft.put((*top, "primary"), "port", int(ports[0]) if ports else 5432)
    if not hosts:
        remark = "host was not set: PgBouncer went through a Unix socket; its directory can be host"
        draft.say((*top, "primary"), remark)
    for other in hosts[1:]:
        remark = "add it to database.NAME.replicas if it is a replica of the first"
        draft.lose((*top, "primary"), f"host {other}: {remark}")
    dbname = given.pop("dbname", name)
    if dbname != name:
        draft.put(top, "server_database", dbname)
    plain: dict[str, tuple[str, Convert]] = {
        "max_db_connections": ("max_connections", _whole),
        "max_db_client_connections": ("max_client_connections", _whole),
        "connect_query": ("connect_query", _text),
        "auth_user": ("auth_user", _text),
        "auth_query": ("auth_query", _text),
        "auth_dbname": ("auth_dbname", _text),
    }
    pool: dict[str, Any] = {}
    for key, value in given.items():
        own = Entry("databases", key, value, entry.where)
        if key in plain:
            ours, convert = plain[key]
            draft.put(top, ours, _converted(own, convert))
        elif key in _OWN_POOL:
            ours, convert = _OWN_POOL[key]
            pool[ours] = _converted(own, convert)
        elif key in ("user", "password"):
            _forced(draft, top, given)
        elif key in ("client_encoding", "datestyle", "timezone"):
            draft.lose(top, f"{key} = {value}: clients' own settings are passed on")
        else:
            draft.lose(top, f"{key}: {_NO_EQUAL.get(key, 'not a parameter that is known')}")
    draft.put_pool(top, pool)


def _forced(draft: Draft, top: tuple[str, ...], given: dict[str, str]) -> None:
    """`user=`: everybody is that user on the server. Penstock has every client be itself there."""
    user = given.get("user")
    if user is None:
        draft.lose(top, "password without user: set server_password of the users who need it")
        return
    draft.lose(top, f"user = {user}: each client is itself on the server; add those users there")
    entry = draft.users.setdefault(user, {})
    if "password" in given and (entry or "auth_file" not in draft.values(("auth",))):
        entry.update(name=user)
        entry.setdefault("password", given["password"])


def _user(draft: Draft, entry: Entry) -> None:
    name, given = entry.key, connection_parameters(entry.value, entry.where)
    user = draft.users.setdefault(name, {})
    user["name"] = name
    pool: dict[str, Any] = {}
    for key, value in given.items():
        own = Entry("users", key, value, entry.where)
        if key in _OWN_POOL and known("auth.users.0.pool"):
            ours, convert = _OWN_POOL[key]
            pool[ours] = _converted(own, convert)
        elif key == "max_user_connections" and known("auth.users.0.max_connections"):
            user["max_connections"] = _converted(own, _whole)
        elif key == "max_user_client_connections" and known("auth.users.0.max_connections"):
            user["max_client_connections"] = _converted(own, _whole)
        else:
            draft.lose(("auth",), f"[users] {name}: {key} = {value}: set for all users only")
    if pool:
        user["pool"] = pool


def somebody(draft: Draft) -> None:
    """Somebody must be able to log in, and admins must be users: complete the list of users."""
    admins: Iterable[str] = draft.values(("auth",)).get("admins", [])
    in_file = draft.has(("auth",), "auth_file")
    for name in admins:
        if name not in draft.users:
            draft.users[name] = {"name": name}
    if not draft.users:
        draft.users["postgres"] = {"name": "postgres"}
    if in_file:  # those who are only in the file stay there
        draft.users = {name: user for name, user in draft.users.items() if len(user) > 1}
    if draft.values(("auth",)).get("method") == "trust":
        return
    for user in draft.users.values():
        if "password" not in user and not in_file:
            user["password"] = secrets.token_urlsafe(18)
            user["remark"] = "NO EQUAL: the password was not known: this one is made up, replace it"
            draft.without_equal.append(f"the password of {user['name']}: one was made up")
