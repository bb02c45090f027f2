"""Which settings functions change, told from their bodies."""

import pytest

from proxy.sql.setters import (
    LEFTOVERS,
    SCHEMA,
    UNTOLD,
    effects_of,
    named,
    setters,
    settings_of,
    unseen,
)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("BEGIN PERFORM set_config('my.own', x, false); END", "my.own"),
        ("SELECT pg_catalog.set_config ( 'My.Own'::text , $1, false)", "my.own"),
        ("SELECT set_config(setting_name => 'my.own', $1, false)", "my.own"),
        ("PERFORM set_config(name, 'x', false)", UNTOLD),
        ("PERFORM set_config('my.' || name, 'x', false)", UNTOLD),
        ("-- set_config(name, 1)\nBEGIN END", ""),
        ("BEGIN SET my.own = 'x'; END", "my.own"),
        ("SET SESSION work_mem TO '1MB'", "work_mem"),
        ("BEGIN IF a THEN SET my.own TO 1; ELSE RESET my.other; END IF; END", "my.own my.other"),
        ("BEGIN SET LOCAL my.own = 'x'; SET CONSTRAINTS ALL DEFERRED; END", ""),
        ("BEGIN RESET ALL; END", UNTOLD),
        ("BEGIN SET TIME ZONE 'UTC'; SET ROLE other; END", "timezone role"),
        ("BEGIN SET SESSION AUTHORIZATION other; END", UNTOLD),
        ("BEGIN EXECUTE 'SET my.own = 1'; END", "my.own"),
        ("BEGIN EXECUTE 'SET ' || name || ' = 1'; END", UNTOLD),
        ("BEGIN EXECUTE format('SET %I = 1', name); END", UNTOLD),
        ("plpy.execute('set my.own to 1')", "my.own"),
        ("BEGIN UPDATE t SET a = 1; END", ""),
        ("BEGIN EXECUTE 'UPDATE ' || t || ' SET ' || c || ' = 1'; END", ""),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 1", ""),
        ("MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET a = 1", ""),
    ],
)
def test_settings_of_a_body(body: str, expected: str) -> None:
    assert settings_of(body) == frozenset(expected.split())


def test_functions_change_what_those_that_they_call_change() -> None:
    bodies = [
        ("inner", "PERFORM set_config('my.own', '', false)"),
        ("outer", "BEGIN PERFORM Inner(); END"),
        ("outermost", "SELECT outer(), other()"),
        ("other", "SELECT 1"),
    ]
    found = setters({"inner": frozenset({"my.own"}), "nothing": frozenset()}, bodies)
    assert found == dict.fromkeys(("inner", "outer", "outermost"), frozenset({"my.own"}))
    assert setters({}, []) == {}


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        ("BEGIN EXECUTE 'CREATE OR REPLACE VIEW v AS ' || text; END", True),
        ("BEGIN EXECUTE text; END", True),
        ("BEGIN ALTER TABLE a ADD b int; END", True),
        ("REFRESH MATERIALIZED VIEW a", True),
        ("BEGIN CREATE TEMP TABLE a (b int); END", False),
        ("BEGIN EXECUTE format('INSERT INTO %I VALUES (1)', a); END", False),
        ("BEGIN UPDATE created SET alteration = 1; END -- drop", False),
    ],
)
def test_what_may_change_the_schema(body: str, changes: bool) -> None:
    assert (SCHEMA in effects_of(body)) == changes


@pytest.mark.parametrize(
    ("body", "leaves"),
    [
        ("BEGIN CREATE TEMP TABLE a (b int); END", True),
        ("BEGIN CREATE TABLE pg_temp.a (b int); END", True),
        ("BEGIN EXECUTE format('CREATE TEMPORARY TABLE %I (a int)', name); END", True),
        ("BEGIN EXECUTE text; END", True),
        ("BEGIN RETURN QUERY EXECUTE text USING 1; END", True),
        ("BEGIN EXECUTE 'create te' || 'mp table a (b int)'; END", True),
        ("BEGIN EXECUTE 'PREPARE a AS SELECT 1'; END", True),
        ("BEGIN EXECUTE 'LISTEN a'; END", True),
        ("BEGIN PERFORM pg_try_advisory_lock(1); END", True),
        ("BEGIN PERFORM pg_advisory_xact_lock(1); END", False),
        ("BEGIN EXECUTE 'INSERT INTO ' || name || ' VALUES (1)'; END", False),
        ("BEGIN EXECUTE format('SELECT count(*) FROM %I', name) INTO found; END", False),
        ("BEGIN EXECUTE 'GRANT EXECUTE ON FUNCTION f TO x'; END", False),
        ("BEGIN -- EXECUTE text\n UPDATE t SET temperature = 1; END", False),
        ("BEGIN SET my.own = 'x'; END", False),
    ],
)
def test_what_a_body_may_leave(body: str, leaves: bool) -> None:
    assert (LEFTOVERS in effects_of(body)) == leaves


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("BEGIN PERFORM setseed(0.5); END", ["seed of random()"]),
        (
            "BEGIN PERFORM dblink_connect('a'); LOAD 'auto_explain'; END",
            ["LOAD", "dblink connection"],
        ),
        ("BEGIN PERFORM load(payload); END", []),
    ],
)
def test_what_the_server_can_not_tell_of(body: str, expected: list[str]) -> None:
    assert unseen(effects_of(body)) == expected
    assert named(effects_of(body)) == frozenset()
