"""Which calls of the schema `penstock` a text makes."""

import pytest

from proxy.sql.analyse import analyse
from proxy.sql.calls import CacheCall, NoCall, cache_call, calls_penstock
from proxy.sql.statement import KeyValue, Literal, Parameter

KEY, IT_S = Literal("k"), Literal("it's")
ONE, NULL = Literal("1", quoted=False), Literal(None, quoted=False)


@pytest.mark.parametrize(
    ("text", "function", "arguments", "column"),
    [
        ("SELECT penstock.cache_get('k')", "cache_get", (KEY,), "cache_get"),
        ("select Penstock . CACHE_GET ( $1 ) ;", "cache_get", (Parameter(1),), "cache_get"),
        ("SELECT penstock.cache_get('k'::text) AS v", "cache_get", (KEY,), "v"),
        ('SELECT penstock.cache_get($$k$$) "V"', "cache_get", (KEY,), "V"),
        ("SELECT penstock.cache_set('k', $2)", "cache_set", (KEY, Parameter(2)), "cache_set"),
        ("SELECT penstock.cache_set('k', 'it''s', 1)", "cache_set", (KEY, IT_S, ONE), "cache_set"),
        ("SELECT penstock.cache_del(NULL)", "cache_del", (NULL,), "cache_del"),
        ("SELECT penstock.invalidate('k')", "invalidate", (KEY,), "invalidate"),
    ],
)
def test_calls(text: str, function: str, arguments: tuple[KeyValue, ...], column: str) -> None:
    assert calls_penstock(analyse(text).statements)
    assert cache_call(text) == CacheCall(function, arguments, column)


@pytest.mark.parametrize(
    ("text", "sqlstate", "message"),
    [
        ("SELECT penstock.cache_put('k')", "42883", "no function penstock.cache_put"),
        ("SELECT penstock.cache_get()", "42883", "takes 1 arguments, not 0"),
        ("SELECT penstock.cache_set('k')", "42883", "takes 2 or 3 arguments, not 1"),
        ("SELECT penstock.cache_get('a'), penstock.cache_get('b')", "0A000", "called alone"),
        ("SELECT penstock.cache_get('a') FROM t", "0A000", "only be called alone"),
        ("SELECT * FROM penstock.cache_get('a')", "0A000", "only be called alone"),
        ("SELECT penstock.cache_get('a'); SELECT 1", "0A000", "only be called alone"),
        ("SELECT penstock.cache_get(lower('a'))", "0A000", "constants or parameters"),
        ("SELECT penstock.cache_get('a' || 'b')", "0A000", "constants or parameters"),
        ("SELECT penstock.cache_get('a'::uuid)", "0A000", "cast to a type"),
    ],
)  # fmt: skip
def test_what_is_not_understood(text: str, sqlstate: str, message: str) -> None:
    assert calls_penstock(analyse(text).statements)
    with pytest.raises(NoCall, match=message) as caught:
        cache_call(text)
    assert caught.value.sqlstate == sqlstate


@pytest.mark.parametrize("text", ["SELECT 'penstock.cache_get(1)'", "SELECT cache_get('a')"])
def test_other_texts_are_none_of_it(text: str) -> None:
    assert not calls_penstock(analyse(text).statements)
