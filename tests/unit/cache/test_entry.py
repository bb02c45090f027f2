"""The keys of entries, and the digests that name them."""

import pytest

from proxy.cache.entry import entry_digest, token_source
from proxy.cache.keys import KeySpace, escape_glob

DIGEST = entry_digest(b"context", b"request")


def test_digests_tell_context_and_request_apart() -> None:
    parts = [(b"", b"ab"), (b"a", b"b"), (b"ab", b""), (b"1:", b"ab"), (b"", b"1:ab")]
    assert len({entry_digest(*part) for part in parts}) == len(parts)
    assert len(DIGEST) == 16


def test_tokens_differ_within_a_source_and_between_sources() -> None:
    first, second = token_source(), token_source()
    tokens = [source() for source in (first, second) for _ in range(1000)]
    assert len(set(tokens)) == 2000
    assert {len(token) for token in tokens} == {16}


@pytest.mark.parametrize("name", ["app", "a}b", "{a}", "a:b", "a%7Db", "ä", "*", "a b"])
def test_all_keys_of_a_database_share_one_hash_tag(name: str) -> None:
    keys = KeySpace("penstock", name)
    for key in (keys.result("orders", DIGEST), keys.epoch("*"), keys.application("x{y}")):
        tag = key[key.index(b"{") + 1 : key.index(b"}")]
        assert key.startswith(b"penstock:{" + tag + b"}:")
        assert tag == keys.base[len(b"penstock:{") : -2]


def test_keys_of_databases_never_meet() -> None:
    names = ["app", "app}:r:x", "app%7D:r:x", "a", "a:b", "a%3Ab"]
    assert len({KeySpace("penstock", name).base for name in names}) == len(names)


def test_a_name_that_is_not_utf8_has_a_key() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert KeySpace("penstock", "app").epoch(name).endswith(b":e:caf\xe9")


def test_globs_are_escaped() -> None:
    assert escape_glob(b"a*b?[c]\\") == b"a\\*b\\?\\[c\\]\\\\"
