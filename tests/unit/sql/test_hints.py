"""The text whose result a `refresh` replaces."""

import pytest

from proxy.sql.hints import without_refresh


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("/* penstock: refresh */ SELECT 1", "SELECT 1"),
        ("/*penstock:REFRESH*/\nSELECT 1", "SELECT 1"),
        ("SELECT 1 /* penstock: refresh */", "SELECT 1"),
        ("SELECT 1 -- penstock: refresh", "SELECT 1"),
        ("SELECT 1 -- penstock: refresh\n + 2", "SELECT 1 + 2"),
        ("SELECT /* penstock: refresh */ 1", "SELECT 1"),
        ("SELECT a/* penstock: refresh */b", "SELECT a b"),
        ("/* penstock: cache ttl=60, refresh */ SELECT 1", "/* penstock: cache ttl=60 */ SELECT 1"),
        ("/* penstock: cache ttl=60 refresh*/ SELECT 1", "/* penstock: cache ttl=60*/ SELECT 1"),
        ("/* penstock: refresh, cache ttl=60 */ SELECT 1", "/* penstock: cache ttl=60 */ SELECT 1"),
        ("/* penstock: cache, refresh, ttl=6 */ SELECT 1", "/* penstock: cache, ttl=6 */ SELECT 1"),
        ("/* penstock: refresh */ TABLE t --penstock: refresh cache", "TABLE t --penstock: cache"),
        ("SELECT '/* penstock: refresh */'", "SELECT '/* penstock: refresh */'"),
        ("SELECT $$ -- penstock: refresh\n$$", "SELECT $$ -- penstock: refresh\n$$"),
        ("/* refresh */ SELECT 1", "/* refresh */ SELECT 1"),
        ("/* penstock: refreshed */ SELECT 1", "/* penstock: refreshed */ SELECT 1"),
    ],
)  # fmt: skip
def test_the_word_goes_and_the_tokens_stay(text: str, plain: str) -> None:
    assert without_refresh(text) == plain


def test_what_would_change_the_tokens_is_left_alone() -> None:
    """Strings on two lines are one, unless the lexer sees something between."""
    text = "SELECT 'a'\n-- penstock: refresh\n'b'"
    assert without_refresh(text) == text
