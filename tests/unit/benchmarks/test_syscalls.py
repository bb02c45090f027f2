"""System calls out of strace's table."""

from benchmarks.measuring.syscalls import calls_each, parse_counts

TABLE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 46.50    0.004120           2      1602           sendto
 38.30    0.003393           2      1618        16 recvfrom
 15.20    0.001347           1       812           epoll_wait
  0.00    0.000000           0         1           exit_group
------ ----------- ----------- --------- --------- ----------------
100.00    0.008860           2      4033        16 total
"""


def test_calls_by_name_with_and_without_errors() -> None:
    assert parse_counts(TABLE) == {"sendto": 1602, "recvfrom": 1618, "epoll_wait": 812}


def test_nothing_was_called() -> None:
    assert parse_counts("") == {}


def test_what_more_statements_have_called_more() -> None:
    few = {"sendto": 40, "recvfrom": 60, "openat": 9}
    many = {"sendto": 440, "recvfrom": 860, "epoll_wait": 100, "openat": 9}
    each = calls_each(few, many, 200)
    assert each == {"recvfrom": 4.0, "sendto": 2.0, "epoll_wait": 0.5}
    assert list(each) == ["recvfrom", "sendto", "epoll_wait"]
