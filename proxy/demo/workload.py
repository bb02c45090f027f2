"""What the demonstration sends: a few kinds of work as applications do it, each measured."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import aiohttp
import asyncpg

from proxy.demo import shop
from proxy.demo.errors import DemoError
from proxy.demo.metrics import Snapshot, because, explain, scrape
from proxy.demo.sides import HAS_PSYCOPG, Side

CUSTOMER = "SELECT id, name, city FROM customers WHERE id = $1"
PAGE = (
    "SELECT p.name, p.price, sum(o.quantity) AS sold FROM products p "
    "JOIN orders o ON o.product_id = p.id WHERE p.category = $1 "
    "GROUP BY p.id ORDER BY sold DESC, p.id LIMIT 10"
)
REPORT = (
    "SELECT p.category, count(*) AS orders, sum(o.quantity * p.price) AS revenue "
    "FROM orders o JOIN products p ON p.id = o.product_id GROUP BY p.category ORDER BY 1"
)
ORDER = "INSERT INTO orders (customer_id, product_id, quantity) VALUES ($1, $2, $3)"
ORDERS_OF = "SELECT count(*) FROM orders WHERE customer_id = $1"
CART = "SELECT product_id, quantity FROM carts WHERE customer_id = $1"
PRICE = "UPDATE products SET price = $2 WHERE id = $1"
PRICE_OF = "SELECT price FROM products WHERE id = $1"
ALL_CARTS = "SELECT count(*) FROM carts"

CLIENTS = 40
CROWD = f"{CLIENTS} clients at once"
_TURNS = 10
_ROUNDS = 4
"""The two sides take turns, so that whatever else the machine does falls on both."""

Work = Callable[[Side, int], Awaitable[None]]
"""Does one piece of work on a side; the number makes each piece another one."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One kind of work and how it is shown.

    Attributes:
        times: pieces of work on each side.
        kinds: which statements of it the table counts, as the metrics name them.
        asked: the statement that Penstock is asked to explain.
        prepared: statements that the work runs through `Side.fetch`.
        keyed: they are about a sharded table.
        needs_psycopg: the work runs on psycopg's connection.
    """

    name: str
    times: int
    work: Work
    kinds: frozenset[str]
    asked: str
    prepared: tuple[str, ...] = ()
    keyed: bool = False
    needs_psycopg: bool = False


@dataclass(slots=True)
class Outcome:
    """What happened in a phase. Durations in seconds."""

    phase: Phase
    before: Snapshot
    after: Snapshot
    because: str
    penstock: list[float]
    direct: list[float]


async def _customer(side: Side, number: int) -> None:
    await side.fetch(CUSTOMER, 1 + number * 37 % shop.CUSTOMERS)


async def _page(side: Side, number: int) -> None:
    await side.fetch(PAGE, number % shop.CATEGORIES)


async def _report(side: Side, number: int) -> None:
    await side.fetch(REPORT)


async def _order(side: Side, number: int) -> None:
    await side.fetch(ORDER, 1 + number % shop.CUSTOMERS, 1 + number % shop.PRODUCTS, 1)


async def _order_and_look(side: Side, number: int) -> None:
    """The next read must show the order, wherever it is served."""
    customer = shop.CUSTOMERS // 2 + 2 * number + side.number
    before = (await side.fetch(ORDERS_OF, customer))[0][0]
    await side.fetch(ORDER, customer, 1, 1)
    after = (await side.fetch(ORDERS_OF, customer))[0][0]
    if after != before + 1:
        raise DemoError(
            f"a session did not see its own write: customer {customer} had {before} orders, "
            f"placed one, and was shown {after}. This is a bug in Penstock"
        )


async def _cart(side: Side, number: int) -> None:
    customer = 1 + number % shop.CARTS
    await side.fetch(CART, customer, key=customer)


async def _add_to_cart(side: Side, number: int) -> None:
    customer = 1 + number % shop.CARTS
    await side.fetch(shop.ADD_TO_CART, customer, 1 + number % shop.PRODUCTS, 2, key=customer)


async def _change_price(side: Side, number: int) -> None:
    """A cached read, a write of what it read, and the read again, which must show the write."""
    await side.fetch(PRICE_OF, 1)
    price = Decimal(500 + number) / 100
    await side.fetch(PRICE, 1, price)
    shown = (await side.fetch(PRICE_OF, 1))[0][0]
    if shown != price:
        raise DemoError(
            f"a cached read was stale: the price was set to {price}, the next read showed {shown}. "
            "This is a bug in Penstock"
        )


async def _checkout(side: Side, number: int) -> None:
    assert side.psycopg is not None
    customer, product = 1 + number % shop.CUSTOMERS, 1 + number % shop.PRODUCTS
    async with side.psycopg.transaction():
        await side.psycopg.execute(
            "UPDATE products SET stock = stock - 1 WHERE id = %s AND stock > 0", [product]
        )
        await side.psycopg.execute(
            "INSERT INTO orders (customer_id, product_id, quantity) VALUES (%s, %s, 1)",
            [customer, product],
        )
        await side.psycopg.execute("SELECT stock FROM products WHERE id = %s", [product])


_SELECT = frozenset({"select"})
PHASES = (
    Phase("customer by id", 300, _customer, _SELECT, CUSTOMER, (CUSTOMER,)),
    Phase("bestsellers page", 300, _page, _SELECT, PAGE, (PAGE,)),
    Phase("sales report", 100, _report, _SELECT, REPORT, (REPORT,)),
    Phase("place an order", 100, _order, frozenset({"insert"}), ORDER, (ORDER,)),
    Phase("order, then read it back", 100, _order_and_look, _SELECT, ORDERS_OF, (ORDER, ORDERS_OF)),
    Phase("change a cached price", 100, _change_price, _SELECT, PRICE_OF, (PRICE, PRICE_OF)),
    Phase("cart of a customer", 300, _cart, _SELECT, CART, (CART,), keyed=True),
    Phase(
        "add to a cart",
        100,
        _add_to_cart,
        frozenset({"insert"}),
        shop.ADD_TO_CART,
        (shop.ADD_TO_CART,),
        keyed=True,
    ),
    Phase(
        "checkout (transaction)",
        100,
        _checkout,
        frozenset({"commit"}),
        "BEGIN",
        needs_psycopg=True,
    ),
)


def phases() -> list[Phase]:
    """Those that can be run here."""
    return [phase for phase in PHASES if HAS_PSYCOPG or not phase.needs_psycopg]


async def run_phase(
    phase: Phase, penstock: Side, direct: Side, http: aiohttp.ClientSession, metrics_url: str
) -> Outcome:
    """Do the work on both sides by turns, with Penstock's metrics before and after."""
    for side in (penstock, direct):
        for sql in phase.prepared:
            await side.prepare(sql, phase.keyed)
    before = await scrape(http, metrics_url)
    share = phase.times // _ROUNDS
    durations: tuple[list[float], list[float]] = ([], [])
    for first in range(0, phase.times, share):
        numbers = range(first, first + share)
        durations[0].extend(await _timed(phase.work, penstock, numbers))
        # Asked in the session that has just done the work: what it wrote counts.
        asked = await explain(penstock.connection, with_values(phase.asked))
        durations[1].extend(await _timed(phase.work, direct, numbers))
    after = await scrape(http, metrics_url)
    return Outcome(phase, before, after, because(asked), *durations)


async def run_crowd(
    penstock: Side, direct: Side, http: aiohttp.ClientSession, metrics_url: str
) -> Outcome:
    """Many clients at once, each with a connection of its own, all connections open before."""
    crowds = [await _gather_crowd(side) for side in (penstock, direct)]
    for crowd in crowds:
        await _all_read(crowd)
    phase = Phase(CROWD, CLIENTS * _TURNS, _customer, _SELECT, CUSTOMER)
    asked = await explain(await penstock.open(), with_values(CUSTOMER))
    before = await scrape(http, metrics_url)
    durations = await _all_read(crowds[0])
    after = await scrape(http, metrics_url)
    return Outcome(phase, before, after, because(asked), durations, await _all_read(crowds[1]))


async def _gather_crowd(side: Side) -> list[Any]:
    """A prepared statement for each client."""
    return [await (await side.open()).prepare(CUSTOMER) for _ in range(CLIENTS)]


async def _all_read(crowd: list[Any]) -> list[float]:
    async def client(number: int, statement: Any) -> list[float]:
        durations = []
        for turn in range(_TURNS):
            begun = time.perf_counter()
            await statement.fetch(1 + (number + turn * CLIENTS) % shop.CUSTOMERS)
            durations.append(time.perf_counter() - begun)
        return durations

    found = await asyncio.gather(*(client(*one) for one in enumerate(crowd)))
    return [duration for durations in found for duration in durations]


async def _timed(work: Work, side: Side, numbers: Sequence[int]) -> list[float]:
    durations = []
    for number in numbers:
        begun = time.perf_counter()
        await work(side, number)
        durations.append(time.perf_counter() - begun)
    return durations


def with_values(sql: str) -> str:
    """A value in the place of each parameter: only Bind could name others."""
    return re.sub(r"\$\d+", "1", sql)


async def refusal_of(connection: asyncpg.Connection, sql: str) -> str:
    """Penstock's words for a statement that it refuses; raises DemoError if it does not."""
    try:
        await connection.fetch(sql)
    except asyncpg.PostgresError as error:
        return f"{error.args[0]} ({error.sqlstate}). {getattr(error, 'hint', '')}"
    raise DemoError(f"{sql} was not refused, though no single shard can answer it")
