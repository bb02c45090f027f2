"""The shortest way through everything."""

import psycopg

from tests.proxies import Proxy


def test_select(proxy: Proxy) -> None:
    with psycopg.connect(proxy.dsn()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
