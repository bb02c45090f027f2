"""Settings as values, and the SQL from one state to another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.pool.settings_state import (
    DEFAULTS,
    difference,
    intern_settings,
    quote_literal,
    read_back,
)

STATES = st.dictionaries(
    st.sampled_from(["timezone", "search_path", "my.tenant", "role"]), st.sampled_from([b"a", b"b"])
)


@given(STATES)
def test_equal_settings_are_the_same_object(values: dict[str, bytes]) -> None:
    assert intern_settings(values) is intern_settings(dict(reversed(values.items())))


def test_nothing_is_asked_for_where_nothing_differs() -> None:
    state = intern_settings({"timezone": b"UTC", "my.x": b"1"})
    assert difference(state, state) == b""


@given(STATES, STATES)
def test_the_difference_leads_from_one_to_the_other(
    current: dict[str, bytes], wanted: dict[str, bytes]
) -> None:
    sql = difference(intern_settings(current), intern_settings(wanted)).decode()
    reached = dict(current)
    for statement in filter(None, sql.split("; ")):
        if statement.startswith("RESET "):
            del reached[statement[6:].replace('"', "").lower()]
            continue
        for call in statement.removeprefix("SELECT ").split("), "):
            name, value = call.removeprefix("pg_catalog.set_config(").split(", ")[:2]
            reached[name.strip("'")] = value.strip("'").encode()
    assert reached == wanted


def test_a_role_is_given_up_first_and_taken_on_last() -> None:
    sql = difference(
        intern_settings({"role": b"a", "timezone": b"x"}),
        intern_settings({"role": b"b", "search_path": b"y", "work_mem": b"1MB"}),
    )
    assert sql.startswith(b"RESET ROLE; RESET")
    assert sql.endswith(b"set_config('role', 'b', false)")


@pytest.mark.parametrize(
    ("value", "quoted"),
    [
        (b"plain", b"'plain'"),
        (b"it's", b"'it''s'"),
        (b"back\\slash", b"E'back\\\\slash'"),
        (b"\\'", b"E'\\\\'''"),
        (b"", b"''"),
    ],
)
def test_literals(value: bytes, quoted: bytes) -> None:
    assert quote_literal(value) == quoted


def test_names_are_quoted_part_by_part() -> None:
    sql = difference(intern_settings({'my."odd': b"1"}), DEFAULTS)
    assert sql == b'RESET "my"."""odd"'


def test_only_what_changes_results_divides_the_cache() -> None:
    plain = intern_settings({"application_name": b"a", "statement_timeout": b"1s"})
    assert plain.fingerprint == DEFAULTS.fingerprint
    zones = {intern_settings({"timezone": zone}).fingerprint for zone in (b"UTC", b"Asia/Tokyo")}
    assert len(zones | {DEFAULTS.fingerprint}) == 3


def test_reading_back() -> None:
    assert read_back(["a", "my.b"]) == (
        b"SELECT pg_catalog.current_setting('a', true), pg_catalog.current_setting('my.b', true)"
    )
