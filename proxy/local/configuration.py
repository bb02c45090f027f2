"""The configuration file of a Penstock that serves a local stack. Values in, TOML out."""

import json
from collections.abc import Mapping, Sequence

from proxy.local.stack import Stack


def render_config(
    stack: Stack,
    *,
    database: str | None = None,
    listen: str = "127.0.0.1:6432",
    http_listen: str | None = "127.0.0.1:9432",
    sharded_tables: Sequence[Mapping[str, str]] = (),
    include: Sequence[str] = (),
    extra: str = "",
) -> str:
    """A complete configuration for `stack`, as TOML (see `proxy.config.settings`).

    Args:
        database: the one that clients may name; default: the stack's own.
        listen: the SQL listener, "host:port".
        http_listen: the HTTP listener; None for the default of the settings.
        sharded_tables: `[[database.NAME.sharding.table]]`, such as {"name": ..., "key": ...,
            "type": ...}; none: sharding is off.
        include: further files.
        extra: TOML to append: further tables, such as `[[cache.rule]]`.
    """
    name = database or stack.database
    parts = [
        "" if not include else f"include = {_toml(list(include))}\n",
        _table("server", {"listen": listen, **_given("http_listen", http_listen)}),
        _table("auth", {"method": "scram-sha-256", "admins": [stack.app_user]}),
        _table("[auth.users]", {"name": stack.app_user, "password": stack.app_password}),
        "" if stack.redis is None else _table("cache", {"redis": stack.redis.url}),
        _database(stack, name, sharded_tables),
        extra,
    ]
    return "\n".join(part for part in parts if part)


def _database(stack: Stack, name: str, sharded_tables: Sequence[Mapping[str, str]]) -> str:
    prefix = f"database.{_toml(name)}"
    hosts = [f"{replica.host}:{replica.port}" for replica in stack.replicas]
    tables = [
        _table(f"{prefix}.primary", {"host": stack.primary.host, "port": stack.primary.port}),
        _table(f"{prefix}.replicas", {"hosts": hosts}) if hosts else "",
    ]
    if sharded_tables:
        tables.append(_table(f"{prefix}.sharding", {"enabled": True}))
        for shard in stack.shards:
            address = {"host": shard.host, "port": shard.port}
            tables.append(_table(f"[{prefix}.sharding.shards]", address))
        for table in sharded_tables:
            tables.append(_table(f"[{prefix}.sharding.table]", table))
    return "\n".join(table for table in tables if table)


def _given(key: str, value: str | None) -> dict[str, str]:
    return {} if value is None else {key: value}


def _table(name: str, values: Mapping[str, object]) -> str:
    return f"[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items())


def _toml(value: object) -> str:
    """TOML's strings, integers, booleans and arrays of them are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
