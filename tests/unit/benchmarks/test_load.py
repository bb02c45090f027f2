"""What is read out of pgbench's output, and what is made of latencies."""

import pytest

from benchmarks.clients.load import make_load, percentile
from benchmarks.clients.pgbench import parse_log, parse_summary
from benchmarks.servers.programs import BenchmarkError

SUMMARY = """\
pgbench (18.6)
transaction type: <builtin: select only>
duration: 1 s
number of transactions actually processed: 12345
number of failed transactions: 0 (0.000%)
latency average = 0.4 ms
initial connection time = 31.4 ms
tps = 12804.512343 (without initial connection time)
"""


def test_percentiles_are_values_that_the_share_lies_below() -> None:
    assert percentile(list(range(1000, 2000)), 0.5) == 1500
    assert percentile(list(range(1000, 2000)), 0.99) == 1990


def test_no_percentile_with_fewer_than_ten_values_above_it() -> None:
    assert percentile(list(range(999)), 0.99) is None
    assert percentile(list(range(10_000)), 0.999) == 9990
    assert percentile(list(range(9_999)), 0.999) is None
    assert percentile([], 0.5) is None


def test_latencies_are_sorted_and_in_milliseconds() -> None:
    load = make_load(40, 10.0, list(range(40_000, 0, -1000)))
    assert (load.p50, load.p99, load.p999) == (21.0, None, None)


def test_the_log_of_transactions() -> None:
    lines = ["0 199 2241 0 1175850568 995598", "1 3 750 1 1175850569 2663 120", ""]
    assert parse_log(lines) == [(2241, 1175850568.995598), (750, 1175850569.002663)]


def test_transactions_that_were_skipped_or_failed_have_no_latency() -> None:
    lines = ["0 81 skipped 0 1412881037 912698", "3 0 failed 0 1499414498 84905"]
    assert parse_log(lines) == []


def test_the_summary() -> None:
    assert parse_summary(SUMMARY) == (12345, 12804.512343)


def test_connecting_may_be_part_of_a_transaction() -> None:
    text = SUMMARY.replace("without initial connection time", "including reconnection times")
    assert parse_summary(text) == (12345, 12804.512343)


def test_a_summary_without_figures_is_refused() -> None:
    with pytest.raises(BenchmarkError, match="tps"):
        parse_summary("number of transactions actually processed: 0\n")
