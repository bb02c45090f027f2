"""The page docs/configuration.md, made from the settings' types, descriptions and defaults."""

from collections.abc import Iterator

from proxy.config.schema import Shape, constraint_text, fields_of, shape_of_field, written_default
from proxy.config.section import Section
from proxy.config.settings import Settings

_INTRODUCTION = """\
# Configuration

<!-- Made by `penstock config reference` from proxy/config/settings.py: edit there. -->

Penstock reads one TOML file (`penstock serve --config config.toml`), the files that it includes,
and the environment. `penstock check` reports everything that is wrong with them at once, each with
file, line, key, value and what is allowed. [config.toml](../config.toml) and the files in
[rules/](../rules) are an example that passes.

## Where values come from

1. Defaults, as listed below.
2. The main file and the files that its `include` matches, merged: tables merge, arrays of tables
   are joined in the order of the files' names, and any other key set in two places is an error. An
   `include` that matches no file is an error; an included file can't include others.
3. Environment variables, which win: `PENSTOCK_`, then the path with **two** underscores between its
   parts. Case does not matter, `_` stands for `-` too, a number picks an element of an array
   counted from 0, and an array is written as in TOML:

   ```sh
   PENSTOCK_SERVER__LISTEN=0.0.0.0:6432
   PENSTOCK_DATABASE__APP__REPLICAS__HOSTS='["10.0.0.2:5432", "10.0.0.3:5432"]'
   PENSTOCK_AUTH__USERS__0__PASSWORD=env:APP_PASSWORD
   ```

## Kinds of values

| kind | how it is written |
| --- | --- |
| address | `"host:port"` or `"[ipv6]:port"` |
| duration | a number of seconds, or text with a unit: `us`, `ms`, `s`, `min`, `h`, `d` |
| size | a number of bytes, or text with a unit of 1024: `B`, `kB`, `MB`, `GB` |
| file | a path; a relative one starts at the main file's directory |
| mode | of a file, in octal digits: `"0770"` |
| secret | the text itself, `"env:NAME"`, `"file:PATH"`, or `"command:PROGRAM ARGUMENTS"` |
| key | 32 random bytes as a secret, in base64 or hexadecimal digits: `openssl rand -base64 32` |
| URL | of Redis, a secret: see `[cache]` |
| glob | `*` any text, `?` one character, `[ab]` one of these |

A secret comes from an environment variable, a file, or what a command prints (within 10 s, no shell
between). Files and commands start at the main file's directory; the end of the line is left off.
What is missing or empty is an error. No message or log shows a secret. A password may also be given
as PostgreSQL stores it, `md5…` or `SCRAM-SHA-256$…`.
"""

_EXAMPLES = {
    "": """\
include = ["rules/*.toml"]
""",
    "server": """\
[server]
listen = "0.0.0.0:6432"
http_listen = "127.0.0.1:9432"
max_client_connections = 5000
""",
    "client_tls": """\
[client_tls]
mode = "require"
cert_file = "tls/penstock.crt"
key_file = "tls/penstock.key"
""",
    "server_tls": """\
[server_tls]
mode = "verify-full"
ca_file = "tls/servers-ca.crt"
""",
    "client_tcp": """\
[client_tcp]
keepalive_idle = "60s"
keepalive_interval = "10s"
keepalive_count = 3
""",
    "server_tcp": """\
[server_tcp]
user_timeout = "30s"
""",
    "log": """\
[log]
format = "json"
level = "warning"
""",
    "pool": """\
[pool]
mode = "transaction"
size = 40
idle_timeout = "10min"
""",
    "limits": """\
[limits]
node_connections = 90
user_clients = 500
""",
    "auth": """\
[auth]
method = "scram-sha-256"
admins = ["ops"]
auth_user = "ops"  # looks up users that are not named here
""",
    "auth.users": """\
[[auth.users]]
name = "app"
password = "env:APP_PASSWORD"

[[auth.users]]
name = "ops"
password = "file:secrets/ops"
""",
    "routing": """\
[routing]
read_your_writes = "session"
max_lag = "10s"
""",
    "routing.rule": """\
[[routing.rule]]
name = "balances are current"
tables = ["balances"]
node = "primary"
""",
    "cache": """\
[cache]
redis = "rediss://cache.example:6380/0"
timeout = "100ms"
encryption_key = "env:CACHE_KEY"
""",
    "cache.tls": """\
[cache.tls]
ca_file = "tls/redis-ca.crt"
cert_file = "tls/penstock.crt"
key_file = "tls/penstock.key"
""",
    "cache.feed": """\
[cache.feed]
enabled = true
user = "ops"
max_lag = "5s"
""",
    "cache.write_back": """\
[cache.write_back]
interval = "100ms"
replicas = 1
""",
    "cache.rule": """\
[[cache.rule]]
name = "catalogue pages"
tables = ["products", "categor*"]
ttl = "30s"

[[cache.rule]]
name = "front page totals"
statement = "select count(*) from orders*"
ttl = "5s"
max_size = "64kB"

[[cache.rule]]
name = "baskets"
tables = ["baskets", "basket_items"]
granularity = "key"
key = "user_id"

[[cache.rule]]
name = "people"
tables = ["users"]
databases = ["app"]
users = ["web*"]
ttl = "60s"
jitter = "10s"
stale = "5s"
empty_ttl = "1s"
""",
    "cache.invalidation": """\
[[cache.invalidation]]
name = "pages of products"
writes = ["products", "prices"]
tables = ["product_pages"]
keys = ["product:*"]
delay = "500ms"
""",
    "database.NAME": """\
[database.app]
server_database = "app_production"
monitor_user = "ops"
""",
    "database.NAME.primary": """\
[database.app.primary]
host = "10.0.0.1"
port = 5432
""",
    "database.NAME.replicas": """\
[database.app.replicas]
hosts = ["10.0.0.2:5432", "10.0.0.3:5432"]
read_preference = "replica_preferred"
balance = "least_connections"
""",
    "database.NAME.sharding": """\
[database.app.sharding]
enabled = true
shards = [
    { host = "10.0.1.1" },
    { host = "10.0.1.2" },
]
""",
    "database.NAME.sharding.shards": """\
[[database.app.sharding.shards]]
host = "10.0.1.1"
port = 5432
database = "app_shard0"
""",
    "database.NAME.sharding.table": """\
[[database.app.sharding.table]]
name = "accounts"
key = "account_id"
type = "bigint"
""",
    "database.NAME.node_tls.NAME": """\
[database.app.node_tls.replica2]
mode = "verify-ca"
ca_file = "tls/elsewhere-ca.crt"
""",
}

_NOTES = {
    "pool": (
        "`[database.NAME.pool]` and a user's `[auth.users.pool]` override single keys of it; where "
        "both have one, the user's wins. Time-outs of clients and queries are looked at once a "
        "second, so they may come up to a second late."
    ),
    "client_tls": (
        "Changed files of a certificate, key or authority are read again within a second, for new "
        "connections; if they can't be used, the old ones stay in use and the log says why."
    ),
    "server_tls": "Changed files are read again as those of `[client_tls]` are.",
    "database.NAME.node_tls.NAME": (
        "The second `NAME` is a node's, as metrics and the console show it: `primary`, `replica1` "
        "for the first of `replicas.hosts`, `shard0` for the first shard."
    ),
    "database.NAME": (
        "`NAME` is what clients put into their connection string. It can't be `penstock`: that "
        "name opens the admin console. `[database.NAME.pool]` has the keys of `[pool]`, "
        "`[database.NAME.tls]` those of `[server_tls]`, `[database.NAME.feed]` those of "
        "`[cache.feed]`. "
        '`[database."*"]` serves every other name, which is then the name on the servers too, '
        "unless `server_database` is set."
    ),
    "cache": (
        "A URL is `redis://[user:password@]host[:port][/db]`, `rediss://…` for TLS, or "
        "`unix://[user:password@]/path[?db=N]`; what is special in a URL is percent-encoded.\n\n"
        "Name Redis in one of three ways: `redis`, `sentinels` or `cluster`. Behind Sentinels and "
        "in a cluster the cache is in use while enough of them confirm where the primary is, and "
        "after a failover everything counts as invalidated. In a cluster all keys are on the "
        "primary of one slot, which `prefix` decides: it gives failover, not more room."
    ),
    "cache.tls": "Changed files are read again for the next connection.",
    "cache.feed": (
        "`penstock cache feed setup` makes on the primary what it needs and says what is missing. "
        "While it is enabled, tables whose changes don't come over it are not cached. "
        'Databases that only `[database."*"]` serves have no feed: with it enabled they are not '
        "cached."
    ),
    "auth.users": "`[auth.users.pool]`, below its user, has the keys of `[pool]`.",
    "database.NAME.primary": "`[database.NAME.master]` means the same and is shown as the primary.",
    "database.NAME.sharding.table": (
        "`[[sharding.table]]` at the top level of any file means the same and is moved to its "
        'database: the one named by `database = "NAME"` in the entry, which may be left out while '
        "there is only one database."
    ),
}


_SAID_BEFORE = {"database.NAME.pool", "auth.users.pool", "database.NAME.tls", "database.NAME.feed"}
"""Their keys are those of top-level tables, as notes on the tables above them say."""


def page() -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION, "## The top level\n", *_section("", Settings)]
    for heading, model, shape in _sections("", Settings):
        brackets = "[[{}]]" if shape.item is not None and not shape.by_name else "[{}]"
        parts.append(f"## `{brackets.format(heading)}`\n")
        parts += _section(heading, model)
    return "\n".join(parts)


def examples() -> dict[str, str]:
    """The example of each section, by its heading."""
    return dict(_EXAMPLES)


def headings() -> list[str]:
    """The heading of every section but the top level's, in order."""
    return [heading for heading, _, _ in _sections("", Settings)]


def _sections(prefix: str, model: type[Section]) -> Iterator[tuple[str, type[Section], Shape]]:
    """Every section below a model: its heading, its model, and how it is written."""
    for key, info in fields_of(model).items():
        shape = shape_of_field(info)
        table = shape.model or (shape.item.model if shape.item else None)
        if table is None:
            continue
        heading = f"{prefix}{key}.NAME" if shape.by_name else f"{prefix}{key}"
        if heading in _SAID_BEFORE:
            continue
        yield heading, table, shape
        yield from _sections(f"{heading}.", table)


def _section(heading: str, model: type[Section]) -> Iterator[str]:
    yield f"{(model.__doc__ or '').strip()}\n"
    if note := _NOTES.get(heading):
        yield f"{note}\n"
    yield "| key | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |"
    for key, info in fields_of(model).items():
        shape = shape_of_field(info)
        default = written_default(info)
        cells = (
            f"`{key}`",
            shape.type_name,
            "**required**" if info.is_required() else f"`{default}`" if default else "",
            _escaped(constraint_text(shape)) if shape.is_leaf else "",
            _escaped(info.description or ""),
        )
        yield f"| {' | '.join(cells)} |"
    yield f"\n```toml\n{_EXAMPLES[heading]}```\n"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
