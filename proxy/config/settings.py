"""Every setting, typed. Descriptions here are the configuration reference (docs/configuration.md).

Values only: `load` reads files and the environment into these.
"""

from typing import Annotated, Literal

from pydantic import Field

from proxy.config.cache_settings import CacheSettings, FeedSettings
from proxy.config.section import Section as Section
from proxy.config.transport import (
    ClientTlsSettings,
    ServerTlsSettings,
    TcpSettings,
)
from proxy.config.types import (
    Address,
    Bytes,
    Duration,
    File,
    FileMode,
    Glob,
    HostPort,
    Name,
    OffIfEmpty,
    Secret,
)

Port = Annotated[int, Field(ge=1, le=65535)]


class ServerSettings(Section):
    """Where Penstock listens and how much it accepts."""

    listen: Address = Field(HostPort("127.0.0.1", 6432), description="SQL listener")
    http_listen: Annotated[Address | None, OffIfEmpty] = Field(
        HostPort("127.0.0.1", 9432), description='metrics and health listener; "": none'
    )
    reuse_port: bool = Field(
        False, description="share the addresses with another Penstock: for restarts without a gap"
    )
    unix_socket_dir: Annotated[File | None, OffIfEmpty] = Field(
        None, description="also listen on `.s.PGSQL.<port>` in this directory; unset: don't"
    )
    unix_socket_mode: FileMode = Field(0o777, description="who may connect to that socket")
    workers: int = Field(
        1, ge=1, le=128, description="processes that serve clients; limits are divided among them"
    )
    max_client_connections: int = Field(1000, ge=1, description="clients at once; more get 53300")
    max_opening_connections: int = Field(
        1000,
        ge=1,
        description="connections at once whose client has not said who it is, TLS handshakes "
        "included; beyond it the oldest of them is closed",
    )
    login_timeout: Duration = Field(15.0, description="from connect to authenticated, TLS included")
    max_message_size: Bytes = Field(1 << 30, description="largest client message taken")
    drain_timeout: Duration = Field(
        5.0, description="at SIGTERM: time for clients to leave before transactions are waited for"
    )
    shutdown_timeout: Duration = Field(
        10.0, description="at SIGTERM and SIGINT: time for open transactions to end"
    )


class LogSettings(Section):
    """Structured logs on standard error."""

    format: Literal["console", "json"] = Field(
        "console", description="lines for people, or one JSON object a line"
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least serious kind of message that is written"
    )


class PoolSettings(Section):
    """Server connections and their use by clients: one pool per node, database and user."""

    mode: Literal["transaction", "session", "statement"] = Field(
        "transaction", description="how long a client keeps a server connection"
    )
    size: int = Field(
        20, ge=1, description="connections of one pool at most; of each worker one at least"
    )
    min_size: int = Field(
        0, ge=0, description="connections kept open once the pool has been used; `size` at most"
    )
    reserve_size: int = Field(0, ge=0, description="further connections when clients wait too long")
    reserve_timeout: Duration = Field(
        5.0, description="a wait after which the reserve is used; 0: never"
    )
    wait_timeout: Duration = Field(30.0, description="longest wait for a connection; 0: no limit")
    wait_notify: Duration = Field(
        5.0, description="a wait after which the client is told by a NOTICE; 0: never"
    )
    connect_timeout: Duration = Field(
        5.0, description="to connect and log in to a server; 0: no limit"
    )
    login_retry: Duration = Field(0.2, description="after a failed login, before the next attempt")
    idle_timeout: Duration = Field(
        600.0, description="close a connection unused for so long; 0: never"
    )
    max_lifetime: Duration = Field(
        3600.0,
        description="replace a connection this old, up to a tenth earlier by chance; 0: never",
    )
    check_delay: Duration = Field(
        30.0, description="unused for longer, a connection is tried before it is lent; 0: always"
    )
    check_query: str = Field(
        "SELECT 1", description='what a connection is tried with; "": they are not tried'
    )
    reset_query: str = Field(
        "DISCARD ALL",
        description='cleans a connection after a client in session mode; "": it is closed instead',
    )
    listen: Literal["shared", "pinned"] = Field(
        "shared",
        description="LISTEN outside session mode: on one connection for all clients of the "
        "database, or on one that the client keeps",
    )
    listener_loss: Literal["close", "warn"] = Field(
        "close",
        description="when that connection is lost: close the clients that listen, or listen "
        "again and warn them; of a database, not of a user",
    )
    query_timeout: Duration = Field(
        0.0, description="a query that runs longer is cancelled, its client closed; 0: no limit"
    )
    transaction_timeout: Duration = Field(
        0.0, description="the same for a transaction from its start; 0: no limit"
    )
    idle_in_transaction_timeout: Duration = Field(
        0.0, description="close clients idle in a transaction for so long; 0: never"
    )
    client_idle_timeout: Duration = Field(
        0.0, description="close clients idle outside a transaction for so long; 0: never"
    )


class LimitSettings(Section):
    """How many connections there may be at once, beyond the size of each pool. 0: no limit."""

    node_connections: int = Field(
        0, ge=0, description="to one server (host and port), of all databases and users"
    )
    database_connections: int = Field(
        0, ge=0, description="to all servers of one database; `database.NAME.max_connections` wins"
    )
    user_connections: int = Field(
        0, ge=0, description="of one user to all servers; `auth.users.max_connections` wins"
    )
    database_clients: int = Field(
        0, ge=0, description="clients of one database; `database.NAME.max_client_connections` wins"
    )
    user_clients: int = Field(
        0, ge=0, description="clients of one user; `auth.users.max_client_connections` wins"
    )
    admin_clients: int = Field(
        3, ge=0, description="`auth.admins` taken beyond `server.max_client_connections`"
    )
    notification_backlog: Bytes = Field(
        16 << 20,
        description="notifications that may wait for a client that listens; one that lets more "
        "wait is closed",
    )
    on_demand_databases: int = Field(
        100, ge=1, description='databases that `[database."*"]` serves at once'
    )
    on_demand_idle_timeout: Duration = Field(
        3600.0, description="such a database without clients is dropped after so long; 0: never"
    )


class UserSettings(Section):
    """A login that clients may use. The same name and password log in to the servers."""

    name: Name = Field(description="the role's name, here and on the servers")
    password: Secret | None = Field(
        None, description="what clients log in with; best not written in this file"
    )
    server_password: Secret | None = Field(
        None, description="what Penstock logs in to the servers with; default: `password`"
    )
    max_connections: int | None = Field(
        None, ge=0, description="server connections; default: `limits.user_connections`"
    )
    max_client_connections: int | None = Field(
        None, ge=0, description="clients at once; default: `limits.user_clients`"
    )
    pool: PoolSettings | None = Field(None, description="overrides keys of `[pool]`")


class AuthSettings(Section):
    """How clients log in. Names that begin with `auth_` are PgBouncer's."""

    method: Literal["scram-sha-256", "md5", "password", "cert", "peer", "trust", "hba"] = Field(
        "scram-sha-256",
        description="what all clients must show; `trust`: nothing, for loopback only; `password`: "
        "the password itself, so only with TLS; `hba`: what `auth_hba_file` says",
    )
    users: tuple[UserSettings, ...] = Field((), description="who may log in")
    admins: tuple[Name, ...] = Field((), description="users who may use the admin console")
    auth_file: File | None = Field(
        None, description="further users, in the format of PgBouncer's userlist.txt"
    )
    auth_hba_file: File | None = Field(
        None, description='rules in the format of pg_hba.conf; with `method = "hba"`'
    )
    auth_ident_file: File | None = Field(
        None, description="maps in the format of pg_ident.conf, for `map=` in `auth_hba_file`"
    )
    auth_user: Name | None = Field(
        None, description="looks up on the primary who is in no file; unset: nobody is looked up"
    )
    auth_query: Name = Field(
        "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END "
        "FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin",
        description="how: takes the name as `$1`, gives name and stored secret",
    )
    auth_dbname: Name | None = Field(
        None, description="the database to look in; default: the one that the client wants"
    )
    throttle_failures: int = Field(
        5, ge=0, description="failed logins of an address that are answered at once; 0: all"
    )
    throttle_window: Duration = Field(60.0, description="for how long a failed login counts")
    throttle_delay: Duration = Field(
        5.0, description="further failures are answered later and later, up to this"
    )
    mock_authentication_nonce: Secret | None = Field(
        None,
        description="key of the salts for plain passwords and unknown users; default: random at "
        "each start. Set it where several processes or restarts must look alike",
    )


_HOST = "name, IP address, or the absolute path of a Unix socket's directory"


class PrimarySettings(Section):
    """The server that takes the writes (the specification's master)."""

    host: Name = Field("127.0.0.1", description=_HOST)
    port: Port = Field(5432, description="TCP port, or the Unix socket's number")


class ReplicaSettings(Section):
    """The streaming replicas of the primary."""

    hosts: tuple[Address, ...] = Field((), description="one address for each replica")
    read_preference: Literal[
        "primary", "primary_preferred", "replica", "replica_preferred", "nearest"
    ] = Field("replica_preferred", description="where reads go; `replica` needs `hosts`")
    balance: Literal["round_robin", "least_connections"] = Field(
        "round_robin", description="which of several fit replicas gets the next read"
    )
    sync_mode: Literal["async", "remote_write", "on", "remote_apply", "quorum"] = Field(
        "async", description="what the primary waits for; stated, and shown against the server's"
    )


class ShardSettings(Section):
    """One shard: a server and the database on it."""

    host: Name = Field("127.0.0.1", description=_HOST)
    port: Port = Field(5432, description="TCP port, or the Unix socket's number")
    database: Name | None = Field(None, description="default: the name of the sharded database")


class ShardedTable(Section):
    """A table whose rows are spread over the shards by one column."""

    name: Name = Field(description="the table's bare name, without a schema")
    key: Name = Field(description="column whose value picks the shard")
    type: Literal["bigint", "integer", "smallint", "text", "varchar", "uuid"] = Field(
        "bigint", description="the column's type: it decides the hash function"
    )


class ShardingSettings(Section):
    """Tables spread over further servers by key."""

    enabled: bool = Field(False, description="false: every table is on the primary")
    shards: tuple[ShardSettings, ...] = Field(
        (), description="in the order of the hash's remainders: never reorder a filled set"
    )
    tables: tuple[ShardedTable, ...] = Field((), alias="table", description="what is sharded")


class RoutingRule(Section):
    """Overrides the node of matching statements. The first match wins."""

    name: Name = Field(description="shown by `penstock explain`")
    tables: tuple[Glob, ...] = Field((), description="every table named must match one")
    statement: Glob | None = Field(
        None, description="matches the whole normalised text, in any case"
    )
    node: Literal["primary", "replica"] = Field(description="where matching reads go")


class RoutingSettings(Section):
    """Reads to replicas, writes to the primary."""

    enabled: bool = Field(True, description="false: everything goes to the primary")
    read_your_writes: Literal["session", "table", "global", "off"] = Field(
        "session", description="whose earlier writes a read must see"
    )
    monitor_interval: Duration = Field(0.1, description="between samples of replication positions")
    max_lag: Duration = Field(30.0, description="replicas further behind get no reads; 0: any")
    rules: tuple[RoutingRule, ...] = Field((), alias="rule", description="exceptions, in order")


class DatabaseSettings(Section):
    """One database that clients can name."""

    server_database: Name | None = Field(None, description="its name on the servers, if different")
    primary: PrimarySettings = Field(PrimarySettings(), description="`master` means the same")
    replicas: ReplicaSettings = Field(ReplicaSettings(), description="streaming replicas")
    sharding: ShardingSettings = Field(ShardingSettings(), description="tables spread by key")
    pool: PoolSettings | None = Field(None, description="overrides keys of `[pool]`")
    connect_query: str = Field(
        "", description="run on each new server connection before its first use"
    )
    max_connections: int | None = Field(
        None, ge=0, description="server connections; default: `limits.database_connections`"
    )
    max_client_connections: int | None = Field(
        None, ge=0, description="clients at once; default: `limits.database_clients`"
    )
    tls: ServerTlsSettings | None = Field(None, description="overrides [server_tls] whole")
    node_tls: dict[Name, ServerTlsSettings] = Field(
        {}, description="overrides `tls` whole, by node: primary, replica1, …, shard0, …"
    )
    feed: FeedSettings | None = Field(None, description="overrides [cache.feed] whole")
    monitor_user: Name | None = Field(
        None, description="login for health, positions and catalogue; default: the first user"
    )
    auth_user: Name | None = Field(None, description="overrides auth.auth_user")
    auth_query: Name | None = Field(None, description="overrides auth.auth_query")
    auth_dbname: Name | None = Field(None, description="overrides auth.auth_dbname")


class Settings(Section):
    """The whole configuration."""

    include: tuple[Name, ...] = Field(
        (), description="further files (globs, relative to this file), merged in sorted order"
    )
    server: ServerSettings = Field(ServerSettings(), description="listeners and limits")
    client_tls: ClientTlsSettings = Field(ClientTlsSettings(), description="clients' TLS")
    server_tls: ServerTlsSettings = Field(ServerTlsSettings(), description="servers' TLS")
    client_tcp: TcpSettings = Field(TcpSettings(), description="clients' TCP connections")
    server_tcp: TcpSettings = Field(TcpSettings(), description="servers' TCP connections")
    log: LogSettings = Field(LogSettings(), description="structured logs")
    pool: PoolSettings = Field(PoolSettings(), description="backend connections")
    limits: LimitSettings = Field(LimitSettings(), description="connections at once")
    auth: AuthSettings = Field(AuthSettings(), description="logins")
    routing: RoutingSettings = Field(RoutingSettings(), description="primary or replica")
    cache: CacheSettings = Field(CacheSettings(), description="results in Redis")
    databases: dict[Name, DatabaseSettings] = Field(
        {}, alias="database", description="by the name that clients give"
    )
