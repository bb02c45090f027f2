"""PgBouncer's columns come first, under its names and in its order (usage.md of 1.25)."""

import pytest

from proxy.admin.console.commands import COMMANDS

_SOCKET = (
    "type user database replication state addr port local_addr local_port connect_time "
    "request_time wait wait_us close_needed ptr link remote_pid tls application_name "
    "prepared_statements id"
)
_HALF = (
    "database server_assignment_count xact_count query_count bytes_received bytes_sent xact_time "
    "query_time wait_time client_parse_count server_parse_count bind_count"
)
COLUMNS = {
    "show stats": "database total_server_assignment_count total_xact_count total_query_count "
    "total_received total_sent total_xact_time total_query_time total_wait_time "
    "total_client_parse_count total_server_parse_count total_bind_count "
    "avg_server_assignment_count avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time "
    "avg_query_time avg_wait_time avg_client_parse_count avg_server_parse_count avg_bind_count",
    "show stats_totals": _HALF,
    "show stats_averages": _HALF,
    "show totals": "name value",
    "show servers": _SOCKET,
    "show clients": _SOCKET,
    "show sockets": f"{_SOCKET} recv_pos pkt_pos pkt_remain send_pos send_remain pkt_avail "
    "send_avail",
    "show pools": "database user cl_active cl_waiting cl_active_cancel_req cl_waiting_cancel_req "
    "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait "
    "maxwait_us pool_mode load_balance_hosts",
    "show peer_pools": "peer_id cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel "
    "sv_login",
    "show lists": "list items",
    "show users": "name pool_size reserve_pool_size pool_mode max_user_connections "
    "current_connections max_user_client_connections current_client_connections",
    "show databases": "name host port database force_user pool_size min_pool_size "
    "reserve_pool_size server_lifetime pool_mode load_balance_hosts max_connections "
    "current_connections max_client_connections current_client_connections paused disabled",
    "show peers": "peer_id host port pool_size",
    "show config": "key value default changeable",
    "show mem": "name size used free memtotal",
    "show dns_hosts": "hostname ttl addrs",
    "show dns_zones": "zonename serial count",
    "show version": "version",
    "show state": "key value",
}


@pytest.mark.parametrize("command", COLUMNS)
def test_columns(command: str) -> None:
    wanted = COLUMNS[command].split()
    assert [column.name for column in COMMANDS[command].columns][: len(wanted)] == wanted


def test_active_sockets_are_sockets() -> None:
    assert COMMANDS["show active_sockets"].columns == COMMANDS["show sockets"].columns
