"""Several workers behind one address: they must look like one Penstock."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.databases import Database
from tests.integration.admin.operating import operator, rows, until
from tests.integration.cache.feed.feeds import metric
from tests.proxies import Proxy, running_proxy

WORKERS = 3


def among(workers: int) -> dict[str, str]:
    return {"PENSTOCK_SERVER__WORKERS": str(workers)}


@pytest.fixture(scope="module")
def fleet(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    directory = tmp_path_factory.mktemp("fleet")
    with running_proxy(
        module_database, directory, extra="[pool]\nsize = 6\n", environment=among(WORKERS)
    ) as proxy:
        yield proxy


def client(proxy: Proxy) -> psycopg.Connection[Any]:
    return psycopg.connect(proxy.dsn(), autocommit=True)


def workers(proxy: Proxy) -> dict[int, int]:
    """Process ids by the workers' numbers; the last that were started."""
    started = [one for one in proxy.log() if one.get("event") == "worker started"]
    return {int(str(one["worker"])): int(str(one["pid"])) for one in started}


def worker_of(connection: psycopg.Connection[Any]) -> int:
    return connection.info.backend_pid >> 23


def plan_is_cached(connection: psycopg.Connection[Any]) -> bool:
    """Whether its worker knows the tables: until then their statements go by no rule."""
    told = connection.execute("EXPLAIN (PENSTOCK) SELECT count(*) FROM counted WHERE id = 0")
    return "rule 'counted'" in str(told.fetchall())


def clients(proxy: Proxy) -> list[dict[str, Any]]:
    with operator(proxy) as console:
        name = proxy.database.name
        return [one for one in rows(console, "SHOW CLIENTS") if one["database"] == name]


def test_clients_are_spread_and_seen_together(fleet: Proxy) -> None:
    with ExitStack() as stack:
        mine = [stack.enter_context(client(fleet)) for _ in range(2 * WORKERS)]
        for one in mine:
            assert one.execute("SELECT 1").fetchone() == (1,)
        assert {worker_of(one) for one in mine} == set(range(1, WORKERS + 1))
        seen = clients(fleet)
        assert len(seen) == 2 * WORKERS
        assert len({one["id"] for one in seen}) == len(seen)


def test_metrics_are_added_up(fleet: Proxy) -> None:
    def answered() -> float:
        text = urlopen(f"{fleet.url}/metrics").read().decode()
        return sum(
            float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("penstock_queries_total{") and 'kind="select"' in line
        )

    before = answered()
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(client(fleet)).execute("SELECT 1")
        assert answered() == before + WORKERS
    assert b'"ready": true' in urlopen(f"{fleet.url}/readyz").read()


def test_statistics_and_pools_are_added_up(fleet: Proxy) -> None:
    name = fleet.database.name

    def queries() -> int:
        with operator(fleet) as console:
            [found] = [one for one in rows(console, "SHOW STATS") if one["database"] == name]
            return int(found["total_query_count"])

    before = queries()
    with ExitStack() as stack:
        for _ in range(WORKERS):
            stack.enter_context(client(fleet)).execute("SELECT 1")
        assert queries() == before + WORKERS
        with operator(fleet) as console:
            [pool] = [one for one in rows(console, "SHOW POOLS") if one["database"] == name]
            assert pool["cl_active"] == WORKERS


def test_limits_hold_for_the_whole(fleet: Proxy) -> None:
    with ExitStack() as stack:
        mine = [stack.enter_context(client(fleet)) for _ in range(9)]

        def work(one: psycopg.Connection[Any]) -> None:
            one.execute("BEGIN")
            one.execute("SELECT pg_sleep(0.2), txid_current()")
            one.execute("COMMIT")

        threads = [threading.Thread(target=work, args=(one,)) for one in mine]
        for thread in threads:
            thread.start()
        with psycopg.connect(fleet.database.dsn()) as direct:
            most = 0
            while any(thread.is_alive() for thread in threads):
                row = direct.execute(
                    "SELECT count(*) FROM pg_stat_activity "
                    "WHERE query LIKE '%pg_sleep(0.2)%' AND state <> 'idle' "
                    "AND pid <> pg_backend_pid()"
                ).fetchone()
                assert row is not None
                most = max(most, row[0])
        assert 2 <= most <= 6


@pytest.mark.parametrize("times", range(WORKERS))
def test_a_cancel_request_finds_its_worker(fleet: Proxy, times: int) -> None:
    with client(fleet) as one:
        timer = threading.Timer(0.3, one.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            one.execute("SELECT pg_sleep(20)")
        timer.join()
        assert one.execute("SELECT 1").fetchone() == (1,)


def test_commands_reach_all_workers(fleet: Proxy) -> None:
    with ExitStack() as stack:
        mine = [stack.enter_context(client(fleet)) for _ in range(WORKERS)]
        console = stack.enter_context(operator(fleet))
        console.execute("PAUSE")
        answered: list[int] = []
        threads = [
            threading.Thread(
                target=lambda one=one: answered.append(len(one.execute("SELECT 1").fetchall()))
            )
            for one in mine
        ]
        for thread in threads:
            thread.start()
        until(
            lambda: sum(one["cl_waiting"] for one in rows(console, "SHOW POOLS")) == WORKERS,
            "all clients wait",
        )
        assert answered == []
        console.execute("RESUME")
        for thread in threads:
            thread.join(20)
        assert answered == [1] * WORKERS


def test_one_client_is_killed_by_its_id(fleet: Proxy) -> None:
    with client(fleet) as one, client(fleet) as other, operator(fleet) as console:
        one.execute("SET application_name = 'victim'")
        found = until(
            lambda: next(
                (
                    row
                    for row in rows(console, "SHOW CLIENTS")
                    if row["application_name"] == "victim"
                ),
                None,
            ),
            "the client by its name",
        )
        console.execute(f"KILL_CLIENT {found['id']}")
        with pytest.raises(psycopg.OperationalError):
            one.execute("SELECT 1")
        assert other.execute("SELECT 1").fetchone() == (1,)


def is_hit(proxy: Proxy, connection: psycopg.Connection[Any], sql: str) -> bool:
    """Whether the cache answers; until a process knows of the others it doesn't."""
    before = metric(proxy, "penstock_cache_hits_total")
    connection.execute(sql.encode())
    return metric(proxy, "penstock_cache_hits_total") > before


def test_cached_statements_are_counted_together(module_database: Database, tmp_path: Path) -> None:
    reads = 20
    rule = '[[cache.rule]]\nname = "counted"\ntables = ["counted"]\nttl = "60s"\n'
    with psycopg.connect(module_database.dsn(), autocommit=True) as direct:
        direct.execute("CREATE TABLE counted (id int)")
    with (
        running_proxy(
            module_database,
            tmp_path,
            extra=rule + "[routing]\nenabled = false\n",
            environment=among(2),
        ) as proxy,
        ExitStack() as stack,
    ):
        mine = [stack.enter_context(client(proxy)) for _ in range(4)]
        assert len({worker_of(one) for one in mine}) == 2
        for one in mine:
            until(partial(plan_is_cached, one), "a plan by the rule")
            until(partial(is_hit, proxy, one, "SELECT max(id) FROM counted"), "a hit")
        for one in mine:
            for number in range(reads):
                one.execute(f"SELECT count(*) FROM counted WHERE id = {number % 3}")
        with mine[0].transaction():
            mine[0].execute("INSERT INTO counted VALUES (1)")
            mine[0].execute("SELECT count(*) FROM counted WHERE id = 1")
        with operator(proxy) as console:
            statements = rows(console, "SHOW CACHE_STATEMENTS")
            cache = {(one["name"], one["metric"]): one for one in rows(console, "SHOW CACHE")}
        by_text = {one["statement"]: one for one in statements}
        row = by_text.pop("SELECT count(*) FROM counted WHERE id = $1")
        (other,) = by_text.values()
        assert row["hits"] + row["misses"] + row["bypasses"] == 4 * reads + 1
        assert row["hits"] > reads
        assert "the transaction has written (1)" in row["bypassed_because"]
        because = "bypasses: the transaction has written"
        assert cache["counted", because]["this_process"] == "1"
        assert int(cache["counted", "hits"]["this_process"]) == row["hits"] + other["hits"]
        assert int(cache["counted", "misses"]["this_process"]) == row["misses"] + other["misses"]


def test_reload_changes_all_workers_or_none(fleet: Proxy) -> None:
    before = fleet.config_file.read_text()
    with operator(fleet) as console:
        try:
            fleet.config_file.write_text(before.replace("size = 6", "size = 9"))
            console.execute("RELOAD")
            shown = {one["key"]: one["value"] for one in rows(console, "SHOW CONFIG")}
            assert shown["pool.size"] == "9"
            with client(fleet) as one:
                one.execute("SELECT 1")
            sizes = [one["pool_size"] for one in rows(console, "SHOW NODE_POOLS")]
            assert sizes
            assert max(sizes) <= 9
            fleet.config_file.write_text(before.replace("size = 6", "size = 0"))
            with pytest.raises(psycopg.Error, match="old one stays in force"):
                console.execute("RELOAD")
            shown = {one["key"]: one["value"] for one in rows(console, "SHOW CONFIG")}
            assert shown["pool.size"] == "9"
        finally:
            fleet.config_file.write_text(before)
            console.execute("RELOAD")


def test_a_schema_change_is_known_to_all(fleet: Proxy) -> None:
    with ExitStack() as stack:
        mine = [stack.enter_context(client(fleet)) for _ in range(WORKERS)]
        mine[0].execute("CREATE TABLE widths (id int PRIMARY KEY, width int)")
        mine[0].execute("INSERT INTO widths VALUES (1, 2)")
        on_primary = "/* penstock: primary */ SELECT * FROM widths"
        for one in mine:
            one.execute(on_primary, prepare=True)
        mine[0].execute("ALTER TABLE widths ADD COLUMN height int DEFAULT 3")
        deadline = time.monotonic() + 10
        for one in mine[1:]:
            while True:  # the news takes a moment; what it may not be is a wrong row
                try:
                    cursor = one.execute(on_primary, prepare=True)
                except psycopg.errors.FeatureNotSupported:
                    assert time.monotonic() < deadline
                    one.execute("DEALLOCATE ALL")
                    continue
                assert cursor.description is not None
                names = [column.name for column in cursor.description]
                row = cursor.fetchone()
                assert row is not None
                assert len(row) == len(names)
                if names == ["id", "width", "height"]:
                    assert row == (1, 2, 3)
                    break


def test_a_dead_worker_is_replaced_and_others_do_not_notice(
    database: Database, tmp_path: Path
) -> None:
    with running_proxy(database, tmp_path, environment=among(2)) as proxy, ExitStack() as stack:
        mine = [stack.enter_context(client(proxy)) for _ in range(4)]
        numbers = [worker_of(one) for one in mine]
        victim = workers(proxy)[numbers[0]]
        os.kill(victim, signal.SIGKILL)
        until(lambda: victim not in workers(proxy).values(), "another worker")
        for number, one in zip(numbers, mine, strict=True):
            if number == numbers[0]:
                with pytest.raises(psycopg.OperationalError):
                    one.execute("SELECT 1")
            else:
                assert one.execute("SELECT 1").fetchone() == (1,)
        with ExitStack() as inner:
            fresh = [inner.enter_context(client(proxy)) for _ in range(4)]
            assert {worker_of(one) for one in fresh} == {1, 2}


def test_workers_end_with_their_supervisor(database: Database, tmp_path: Path) -> None:
    def loses_its_supervisor() -> None:
        with running_proxy(database, tmp_path, environment=among(2)) as proxy:
            running = list(workers(proxy).values())
            proxy.process.kill()
            proxy.process.wait()
            until(
                lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in running),
                "the end of the workers",
            )

    with pytest.raises(AssertionError, match="penstock ended with -9"):
        loses_its_supervisor()


def test_the_fleet_ends_when_its_clients_have_left(database: Database, tmp_path: Path) -> None:
    with (
        running_proxy(database, tmp_path, environment=among(2)) as proxy,
        psycopg.connect(proxy.dsn(), row_factory=dict_row) as one,
    ):
        one.execute("SELECT 1")
        proxy.process.send_signal(signal.SIGTERM)
        one.execute("SELECT 1")  # in its transaction
        one.commit()
        one.close()
        assert proxy.process.wait(20) == 0


def test_a_database_on_demand_and_limits_of_the_whole(
    module_database: Database, tmp_path: Path
) -> None:
    """One worker alone knows the database; the console shows it, and what holds for all."""
    port = module_database.stack.primary.port
    extra = (
        f'[database."*".primary]\nport = {port}\n[pool]\nsize = 7\n'
        "[limits]\ndatabase_connections = 9\n"
    )
    with (
        running_proxy(module_database, tmp_path, extra=extra, environment=among(WORKERS)) as proxy,
        psycopg.connect(proxy.dsn(), dbname="postgres", autocommit=True) as guest,
        operator(proxy) as console,
    ):
        assert guest.execute("SELECT current_database()").fetchone() == ("postgres",)
        shown = {one["name"]: one for one in rows(console, "SHOW DATABASES")}
        assert set(shown) == {module_database.name, "postgres"}
        for one in shown.values():
            assert (int(one["pool_size"]), int(one["max_connections"])) == (7, 9)
        console.execute("PAUSE postgres")
        console.execute("RESUME postgres")
        with pytest.raises(psycopg.Error, match='"nowhere" does not exist'):
            console.execute("PAUSE nowhere")
        assert guest.execute("SELECT 1").fetchone() == (1,)
