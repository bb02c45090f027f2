"""Every setting, typed. Descriptions here are the configuration reference (docs/configuration.md).

Values only: `load` reads files and the environment into these.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from proxy.config.types import Address, Bytes, Duration, HostPort


class Section(BaseModel):
    """A table of the configuration file: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ServerSettings(Section):
    """Where Penstock listens and how much it accepts."""

    listen: Address = Field(HostPort("127.0.0.1", 6432), description="SQL listener")
    http_listen: Address | None = Field(
        HostPort("127.0.0.1", 9432), description="metrics and health listener"
    )
    max_client_connections: int = Field(1000, ge=1, description="clients at once; more get 53300")
    login_timeout: Duration = Field(15.0, description="from connect to authenticated")
    max_message_size: Bytes = Field(1 << 30, description="largest client message taken")
    shutdown_timeout: Duration = Field(10.0, description="wait for running queries at a stop")


class LogSettings(Section):
    """Structured logs on standard error."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class PoolSettings(Section):
    """Backend connections: one pool per node, database and user."""

    mode: Literal["transaction", "session"] = "transaction"
    size: int = Field(20, ge=1, description="connections of one pool at most")
    wait_timeout: Duration = Field(30.0, description="longest wait for a connection")
    connect_timeout: Duration = Field(5.0, description="to connect and log in to a server")
    idle_timeout: Duration = Field(
        600.0, description="close a connection unused for so long; 0: never"
    )
    max_lifetime: Duration = Field(3600.0, description="replace a connection this old; 0: never")


class UserSettings(Section):
    """A login that clients may use. The same name and password log in to the servers."""

    name: str
    password: SecretStr | None = Field(
        None, description='"env:NAME" and "file:PATH" read the secret from there'
    )
    server_password: SecretStr | None = Field(None, description="if the servers' differs")


class AuthSettings(Section):
    """How clients log in."""

    method: Literal["scram-sha-256", "trust"] = "scram-sha-256"
    users: tuple[UserSettings, ...] = ()
    admins: tuple[str, ...] = Field((), description="users who may use the admin console")


class PrimarySettings(Section):
    """The server that takes the writes (the specification's master)."""

    host: str = "127.0.0.1"
    port: int = Field(5432, ge=1, le=65535)


class ReplicaSettings(Section):
    """The streaming replicas of the primary."""

    hosts: tuple[Address, ...] = ()
    read_preference: Literal[
        "primary", "primary_preferred", "replica", "replica_preferred", "nearest"
    ] = Field("replica_preferred", description="where reads go")
    balance: Literal["round_robin", "least_connections"] = "round_robin"
    sync_mode: Literal["async", "remote_write", "on", "remote_apply", "quorum"] = Field(
        "async", description="what the primary waits for; stated, and shown against the server's"
    )


class ShardSettings(Section):
    """One shard: a server and the database on it."""

    host: str = "127.0.0.1"
    port: int = Field(5432, ge=1, le=65535)
    database: str | None = Field(None, description="default: the name of the sharded database")


class ShardedTable(Section):
    """A table whose rows are spread over the shards by one column."""

    name: str
    key: str = Field(description="column whose value picks the shard")
    type: Literal["bigint", "integer", "smallint", "text", "varchar", "uuid"] = "bigint"


class ShardingSettings(Section):
    """Tables spread over further servers by key."""

    enabled: bool = False
    shards: tuple[ShardSettings, ...] = ()
    tables: tuple[ShardedTable, ...] = Field((), alias="table")


class RoutingRule(Section):
    """Overrides the node of matching statements. The first match wins."""

    name: str
    tables: tuple[str, ...] = Field((), description="globs; every table named must match one")
    statement: str | None = Field(None, description="glob over the normalised statement")
    node: Literal["primary", "replica"]


class RoutingSettings(Section):
    """Reads to replicas, writes to the primary."""

    enabled: bool = Field(True, description="false: everything goes to the primary")
    read_your_writes: Literal["session", "table", "global", "off"] = Field(
        "session", description="whose earlier writes a read must see"
    )
    monitor_interval: Duration = Field(0.1, description="between samples of replication positions")
    max_lag: Duration = Field(30.0, description="replicas further behind get no reads; 0: any")
    rules: tuple[RoutingRule, ...] = Field((), alias="rule")


class CacheRule(Section):
    """Statements whose results are kept. The first match wins."""

    name: str
    tables: tuple[str, ...] = Field((), description="globs; every table read must match one")
    statement: str | None = Field(None, description="glob over the normalised statement")
    ttl: Duration = Field(60.0, gt=0, description="longest life of an entry")
    max_size: Bytes = Field(1 << 20, description="larger results are not kept")
    enabled: bool = Field(True, description="false: matching statements are never cached")


class CacheSettings(Section):
    """Results in Redis."""

    redis: str | None = Field(
        None, description="redis://[user:password@]host:port/db; none: no cache"
    )
    timeout: Duration = Field(0.25, description="a slower Redis counts as away")
    reconnect_interval: Duration = Field(0.5, description="between attempts to reach Redis again")
    prefix: str = Field("penstock", description="first part of every key")
    rules: tuple[CacheRule, ...] = Field((), alias="rule")


class DatabaseSettings(Section):
    """One database that clients can name."""

    server_database: str | None = Field(None, description="its name on the servers, if different")
    primary: PrimarySettings = PrimarySettings()
    replicas: ReplicaSettings = ReplicaSettings()
    sharding: ShardingSettings = ShardingSettings()
    pool: PoolSettings | None = Field(None, description="overrides [pool] whole")
    monitor_user: str | None = Field(
        None, description="login for health, positions and catalogue; default: the first user"
    )


class Settings(Section):
    """The whole configuration."""

    include: tuple[str, ...] = Field((), description="further files (globs), merged: rules")
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    pool: PoolSettings = PoolSettings()
    auth: AuthSettings = AuthSettings()
    routing: RoutingSettings = RoutingSettings()
    cache: CacheSettings = CacheSettings()
    databases: dict[str, DatabaseSettings] = Field({}, alias="database")
