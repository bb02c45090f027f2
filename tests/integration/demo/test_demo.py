"""`penstock demo`: what it shows, and that it leaves nothing behind however it ends."""

import re
import signal
import socket

import aiohttp
import asyncpg
import pytest

from proxy.demo.workload import PHASES
from tests.integration.demo.demonstrations import Demonstration

pytestmark = pytest.mark.timeout(300)


def row(output: str, name: str) -> str:
    """The line of the table that begins with `name`, with what is folded below it."""
    found = re.search(rf"^ {re.escape(name)} .*\n(?:  .*\n)*", output, re.M)
    assert found is not None, f"{name!r} is missing in:\n{output}"
    return found[0]


def test_once_shows_who_served_what_and_leaves_nothing(demonstration: Demonstration) -> None:
    first = demonstration.run("--once")
    assert first.returncode == 0, first.stdout + first.stderr
    assert demonstration.processes() == []
    for phase in PHASES:
        assert row(first.stdout, phase.name)
    assert re.search(r"replica1 \d+, replica2 \d+", row(first.stdout, "customer by id"))
    hits = re.search(r"Redis (\d+)", row(first.stdout, "sales report"))
    assert hits is not None
    assert int(hits[1]) > 90
    assert "primary 100" in row(first.stdout, "place an order")
    assert re.search(r"shard0 \d+, shard1 \d+", row(first.stdout, "cart of a customer"))
    assert "EXPLAIN (PENSTOCK)" in first.stdout
    assert "0A000" in first.stdout
    assert "\x1b" not in first.stdout + first.stderr
    assert "made database" in first.stdout

    second = demonstration.run("--once")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "made database" not in second.stdout
    assert row(second.stdout, "customer by id")
    assert demonstration.processes() == []


async def test_it_stays_up_to_be_tried_until_ctrl_c(demonstration: Demonstration) -> None:
    with demonstration.started() as running:
        running.wait_for("Ctrl-C stops it all")
        url = running.wait_for(r"postgresql://\S+")[0]
        connection = await asyncpg.connect(url)
        try:
            assert await connection.fetchval("SELECT count(*) FROM customers") == 2000
        finally:
            await connection.close()
        metrics = running.wait_for(r"http://\S+/metrics")[0]
        async with aiohttp.ClientSession() as http, http.get(metrics) as answer:
            assert "penstock_queries_total" in await answer.text()

        beside = demonstration.run("--once")
        assert beside.returncode == 1
        assert "another demonstration runs" in beside.stderr
        assert running.process.poll() is None

        assert running.end(signal.SIGINT) == 0
        assert "Stopped" in running.text()
    assert demonstration.processes() == []


@pytest.mark.nightly
def test_interrupted_starts_leave_nothing_and_the_next_one_works(
    demonstration: Demonstration,
) -> None:
    moments = (
        ("initialised in", signal.SIGINT),
        ("✓ local stack", signal.SIGTERM),
        ("✓ made database", signal.SIGINT),
        ("✓ Penstock", signal.SIGHUP),
    )
    for moment, number in moments:
        with demonstration.started("--once") as running:
            running.wait_for(moment)
            assert running.end(number) == 128 + number, running.text()
            assert "Interrupted" in running.text()
            assert "Traceback" not in running.text(), running.text()
        assert demonstration.processes() == [], moment

    after = demonstration.run("--once")
    assert after.returncode == 0, after.stdout + after.stderr
    assert "made database" in after.stdout  # the half-made one was not taken for whole
    assert row(after.stdout, "cart of a customer")


@pytest.mark.nightly
def test_a_killed_one_is_cleaned_up_by_the_next(demonstration: Demonstration) -> None:
    with demonstration.started() as running:
        running.wait_for("Ctrl-C stops it all")
        running.end(signal.SIGKILL)
    assert demonstration.processes() != []
    after = demonstration.run("--once")
    assert after.returncode == 0, after.stdout + after.stderr
    assert "an earlier run left behind" in after.stdout
    assert demonstration.processes() == []


def test_a_port_in_use_is_named_with_the_way_out(demonstration: Demonstration) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupier:
        port = occupier.getsockname()[1]
        refused = demonstration.run("--once", "--port", str(port))
    assert refused.returncode == 1
    assert f"port {port} of 127.0.0.1 is in use" in refused.stderr
    assert "--port " in refused.stderr
    assert demonstration.processes() == []


def test_a_directory_with_other_files_is_left_alone(demonstration: Demonstration) -> None:
    demonstration.data.mkdir()
    precious = demonstration.data / "thesis.txt"
    precious.write_text("draft")
    refused = demonstration.run("--once")
    assert refused.returncode == 1
    assert "thesis.txt" in refused.stderr
    assert [path.name for path in demonstration.data.iterdir()] == ["thesis.txt"]
