"""SHOW MEM: sizes that grow with what they are the sizes of."""

from contextlib import ExitStack

import psycopg

from tests.integration.admin.consoles import console
from tests.proxies import Proxy


def memory(proxy: Proxy) -> dict[str, tuple[int, int, int]]:
    """(size, used, memtotal) by name."""
    with console(proxy) as one:
        rows = one.execute("SHOW MEM").fetchall()
    assert all(row["free"] == 0 for row in rows)
    return {row["name"]: (row["size"], row["used"], row["memtotal"]) for row in rows}


def test_sizes(proxy: Proxy) -> None:
    statements = f"prepared_statements {proxy.database.name}"
    with ExitStack() as stack:
        people = [
            stack.enter_context(psycopg.connect(proxy.dsn(), autocommit=True)) for _ in range(10)
        ]
        before = memory(proxy)
        assert 1e7 < before["process"][2] < 1e9
        for name in ("clients", "servers"):
            size, used, total = before[name]
            assert 500 < size < 100_000
            assert abs(size * used - total) <= used
        assert before["clients"][1] == 10
        for number, each in enumerate(people):
            text = f"SELECT '{'x' * 20_000}', {number}, %s::int"
            each.execute(text, [1], prepare=True)
        after = memory(proxy)
        assert after[statements][2] - before[statements][2] > 10 * 20_000
        assert after["clients"][2] < before["clients"][2] + 100_000  # statements are shared
