"""The demonstration's database: a small shop, with the carts spread over the shards.

Its comment says whether it is complete: one that is not was interrupted and is made again.
"""

import asyncio
import time

import asyncpg

from proxy.demo.errors import DemoError
from proxy.local.postgres import PostgresServer
from proxy.local.stack import Stack

DATABASE = "shop"
CUSTOMERS = 2_000
PRODUCTS = 600
CATEGORIES = 12
ORDERS = 6_000
CARTS = 1_000
SUMMARY = (
    f"database {DATABASE}: {CUSTOMERS:,} customers, {PRODUCTS:,} products, {ORDERS:,} orders, "
    "and carts by customer_id on the shards"
)

SHARDED_TABLES = ({"name": "carts", "key": "customer_id", "type": "bigint"},)
RULES = """\
# So few that forty clients must share them.
[pool]
size = 10

[[cache.rule]]
name = "prices"
tables = ["products"]
ttl = "1min"

[[cache.rule]]
name = "bestsellers"
statement = "select p.name, p.price, *"
ttl = "1min"

[[cache.rule]]
name = "sales report"
statement = "select p.category, *"
ttl = "1min"
"""

_COMPLETE = "made by penstock demo, version 1"
_REPLAY_SECONDS = 30.0
_FILLERS = 4

_ON_PRIMARY = f"""\
CREATE TABLE customers (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    city text NOT NULL
);
CREATE TABLE products (
    id bigint PRIMARY KEY,
    name text NOT NULL,
    category int NOT NULL,
    price numeric(10, 2) NOT NULL,
    stock int NOT NULL
);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers,
    product_id bigint NOT NULL REFERENCES products,
    quantity int NOT NULL,
    placed timestamptz NOT NULL DEFAULT now()
);
INSERT INTO customers
SELECT n, 'Customer ' || n, (ARRAY['Oslo', 'Lima', 'Pune', 'Bonn', 'Kyiv'])[1 + n % 5]
FROM generate_series(1, {CUSTOMERS}) AS n;
INSERT INTO products
SELECT n, 'Product ' || n, n % {CATEGORIES}, 5 + n % 90, 1000000
FROM generate_series(1, {PRODUCTS}) AS n;
INSERT INTO orders (customer_id, product_id, quantity)
SELECT 1 + n * 7919 % {CUSTOMERS}, 1 + n * 104729 % {PRODUCTS}, 1 + n % 4
FROM generate_series(1, {ORDERS}) AS n;
CREATE INDEX ON orders (customer_id);
CREATE INDEX ON products (category);
ANALYZE;
"""
_ON_SHARDS = """\
CREATE TABLE carts (
    customer_id bigint NOT NULL,
    product_id bigint NOT NULL,
    quantity int NOT NULL,
    PRIMARY KEY (customer_id, product_id)
);
"""
ADD_TO_CART = (
    "INSERT INTO carts (customer_id, product_id, quantity) VALUES ($1, $2, $3) "
    "ON CONFLICT (customer_id, product_id) DO UPDATE SET quantity = excluded.quantity"
)


async def is_complete(stack: Stack) -> bool:
    """Whether an earlier demonstration has left the whole of it."""
    for server in (stack.primary, *stack.shards):
        connection = await asyncpg.connect(stack.dsn(server))
        try:
            comment = await connection.fetchval(
                "SELECT coalesce(shobj_description(oid, 'pg_database'), '') "
                "FROM pg_database WHERE datname = $1",
                DATABASE,
            )
        finally:
            await connection.close()
        if comment is None or (server is stack.primary and comment != _COMPLETE):
            return False
    return True


async def make(stack: Stack) -> None:
    """Make all of it but the carts' rows, in place of what an interrupted start left."""
    await asyncio.gather(
        _make_on(stack, stack.primary, _ON_PRIMARY),
        *(_make_on(stack, shard, _ON_SHARDS) for shard in stack.shards),
    )


async def _make_on(stack: Stack, server: PostgresServer, script: str) -> None:
    connection = await asyncpg.connect(stack.dsn(server))
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()
    connection = await asyncpg.connect(stack.dsn(server, DATABASE))
    try:
        await connection.execute(script)
    finally:
        await connection.close()


async def fill_carts(dsn: str) -> None:
    """One row for each cart through Penstock, which finds the shard of each."""

    async def fill(first: int) -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for customer in range(first, CARTS + 1, _FILLERS):
                await connection.execute(ADD_TO_CART, customer, 1 + customer % PRODUCTS, 1)
        finally:
            await connection.close()

    await asyncio.gather(*(fill(first) for first in range(1, _FILLERS + 1)))


async def mark_complete(stack: Stack) -> None:
    """The last step: from now on `is_complete`."""
    connection = await asyncpg.connect(stack.dsn(database=DATABASE))
    try:
        await connection.execute(f"COMMENT ON DATABASE {DATABASE} IS '{_COMPLETE}'")
    finally:
        await connection.close()


async def wait_for_replicas(stack: Stack) -> None:
    """Wait until each replica has replayed what the primary has written by now.

    Raises DemoError after half a minute.
    """
    connection = await asyncpg.connect(stack.dsn())
    try:
        position = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
    finally:
        await connection.close()
    await asyncio.gather(*(_replays(stack, replica, position) for replica in stack.replicas))


async def _replays(stack: Stack, replica: PostgresServer, position: str) -> None:
    connection = await asyncpg.connect(stack.dsn(replica))
    deadline = time.monotonic() + _REPLAY_SECONDS
    question = f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn"
    try:
        while not await connection.fetchval(question):
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{replica.name} did not replay the primary's writes within "
                    f"{_REPLAY_SECONDS:g} s; its log is {replica.log_file}"
                )
            await asyncio.sleep(0.01)
    finally:
        await connection.close()
