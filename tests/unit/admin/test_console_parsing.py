"""Console text to calls, and what is said of text that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.admin.console.commands import COMMANDS, calls
from proxy.wire.errors import PgError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SHOW POOLS", ["show pools"]),
        ("show pools;", ["show pools"]),
        ("  ShOw /* which? */ pOOls ; ; -- these", ["show pools"]),
        ("SHOW POOLS; SHOW STATS", ["show pools", "show stats"]),
        ("help", ["show help"]),
        ("SHOW", ["show help"]),
        ('SHOW "pools"', ["show pools"]),
        ("", []),
        (" ;; ", []),
    ],
)
def test_commands(text: str, expected: list[str]) -> None:
    assert [call.name for call in calls(text)] == expected


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("CLEAR 'orders:*'", ("orders:*",)),
        ("cache clear 'orders:*' app;", ("orders:*", "app")),
        ("CLEAR '*' 'my app'", ("*", "my app")),
        ("CLEAR '*' \"My App\"", ("*", "My App")),
        ("CLEAR 'it''s;*'", ("it's;*",)),
        ("CLEAR $$orders:*$$", ("orders:*",)),
    ],
)
def test_clear(text: str, arguments: tuple[str, ...]) -> None:
    [call] = calls(text)
    assert (call.name, call.arguments, call.tag) == ("clear", arguments, "CLEAR")


@pytest.mark.parametrize(
    ("text", "sqlstate", "said"),
    [
        ("SHOW POLS", "42601", "did you mean SHOW POOLS?"),
        ("SHWO POOLS", "42601", "did you mean SHOW POOLS?"),
        ("CLAER 'orders:*'", "42601", "SHOW HELP"),
        ("SHOW POOLS app", "42601", "did you mean SHOW POOLS?"),
        ("SELECT 2", "42601", "connect to a database of yours"),
        ("SHOW $1", "42601", "take no parameters"),
        ("SHOW ROUTE FOR SELECT 1", "42601", "SHOW ROUTES lists the rules"),
        ("ROLLBACK TO s", "42601", "SHOW HELP"),
        ("SHOW 'unfinished", "42601", "can't be read"),
        ("CLEAR", "42601", "in single quotes"),
        ("CLEAR orders:*", "42601", "not orders"),
        ("CLEAR '*' a b", "42601", "one database, not a b"),
        ("RELOAD now", "42601", "can't take now"),
        ("DISABLE", "42601", "write DISABLE database"),
        ("PAUSE a b", "42601", "can't take b"),
        ("KILL_CLIENT", "42601", "needs an argument"),
        ("PUASE app", "42601", "did you mean PAUSE?"),
        ("SET pool_size = 5", "0A000", "SET pool.size = 30"),
        ("SET pool.size", "42601", "needs a key and a value"),
        ("SET pool.size =", "42601", "needs a key and a value"),
        ("SET", "0A000", "has no such setting"),
        ("SHOW POOLS; SHOW POLS", "42601", "SHOW POOLS"),
    ],
)
def test_what_is_refused_says_what_to_do(text: str, sqlstate: str, said: str) -> None:
    with pytest.raises(PgError) as caught:
        calls(text)
    assert caught.value.sqlstate == sqlstate
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("BEGIN", "BEGIN"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN"),
        ("COMMIT;", "COMMIT"),
        ("ROLLBACK", "ROLLBACK"),
        ("SET application_name = 'x'", "SET"),
        ("SET SESSION DateStyle TO 'ISO'", "SET"),
        ("SET TIME ZONE 'UTC'", "SET"),
        ("DISCARD ALL", "DISCARD ALL"),
        ("RESET ALL", "RESET"),
    ],
)
def test_what_drivers_send_by_themselves_is_taken(text: str, tag: str) -> None:
    [call] = calls(text)
    assert (call.name, call.columns, call.tag) == ("", (), tag)


def test_session_parameters_can_be_shown() -> None:
    [call] = calls("SHOW DateStyle")
    assert [column.name for column in call.columns] == ["datestyle"]


def test_each_command_has_one_way_to_be_answered() -> None:
    assert all((one.view is None) != (one.action is None) for one in COMMANDS.values())


@given(st.text(max_size=200) | st.from_regex(r"(show|clear|set|cache) [ -~]{0,30}", fullmatch=True))
def test_any_text_is_either_a_call_or_an_error_with_a_state(text: str) -> None:
    told = None
    try:
        found = calls(text)
    except PgError as error:
        found, told = [], error
    assert all(call.tag for call in found)
    assert told is None or (len(told.sqlstate) == 5 and told.hint)


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("reload;", "reload", ()),
        ("PAUSE", "pause", ()),
        ("Pause MyApp -- as written", "pause", ("MyApp",)),
        ('RESUME "my app"', "resume", ("my app",)),
        ("KILL 'app'", "kill", ("app",)),
        ("KILL_CLIENT 139906", "kill_client", ("139906",)),
        ("SHUTDOWN WAIT_FOR_CLIENTS", "shutdown", ("WAIT_FOR_CLIENTS",)),
        ("SET pool.size = 30", "set", ("pool.size", "30")),
        ("SET database.app.replicas.hosts TO '[]'", "set", ("database.app.replicas.hosts", "[]")),
        ("set pool.wait_timeout='250ms'", "set", ("pool.wait_timeout", "250ms")),
        ("SET default_pool_size=5", "set", ("default_pool_size", "5")),
    ],
)
def test_orders(text: str, name: str, arguments: tuple[str, ...]) -> None:
    [call] = calls(text)
    assert (call.name, call.arguments, call.columns) == (name, arguments, ())
    assert call.tag == name.upper()


def test_what_asyncpg_sends_to_clean_a_connection() -> None:
    text = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"
    assert [call.tag for call in calls(text)] == ["SELECT", "CLOSE CURSOR ALL", "UNLISTEN", "RESET"]
