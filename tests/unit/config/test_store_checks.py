"""The checks of where results are kept."""

from pathlib import Path

import pytest

from tests.unit.config.test_checks import messages


def found(tmp_path: Path, text: str) -> list[tuple[str, str]]:
    return messages(tmp_path, cache="[cache]\n" + text)


@pytest.mark.parametrize(
    "text",
    [
        'redis = "redis://h"\nuser = "ann"\npassword = "p"\n',
        'redis = "rediss://h/3"\n[cache.tls]\nmode = "verify-ca"\n',
        'redis = "unix:///run/redis.sock?db=1"\n',
        'sentinels = ["a:1", "b:1"]\nsentinel_master = "m"\ndb = 3\n',
        'sentinels = ["a:1"]\nsentinel_password = "p"\n[cache.tls]\nenabled = true\n',
        'cluster = ["a:1"]\n[[cache.rule]]\nname = "r"\ntables = ["t"]\n',
        'cluster = ["a:1"]\n[cache.feed]\nenabled = true\n',
    ],
)
def test_right(tmp_path: Path, text: str) -> None:
    assert found(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (
            'redis = "redis://h"\ncluster = ["a:1"]\n',
            "cache.cluster",
            "can't stand beside cache.redis: results are kept in one place",
        ),
        (
            'sentinel_master = "m"\n',
            "cache.sentinel_master",
            "is of no use without cache.sentinels",
        ),
        (
            'sentinels = ["a:1"]\nsentinel_user = "u"\n',
            "cache.sentinel_user",
            "needs cache.sentinel_password",
        ),
        ('sentinels = ["a:1", "a:1"]\n', "cache.sentinels[1]", "a:1 is named twice"),
        (
            'redis = "redis://h"\ndb = 2\n',
            "cache.db",
            "is of no use with cache.redis: its URL names the database",
        ),
        (
            'cluster = ["a:1"]\ndb = 2\n',
            "cache.db",
            "is of no use with cache.cluster: a cluster has database 0 alone",
        ),
        (
            'cluster = ["a:1"]\nprefix = "{x}"\n',
            "cache.prefix",
            "can't hold a brace in a cluster: it becomes the hash tag of all keys",
        ),
        ('redis = "redis://h"\nuser = "u"\n', "cache.user", "needs cache.password"),
        (
            'redis = "redis://:a@h"\npassword = "b"\n',
            "cache.password",
            "is said twice: the URL in cache.redis has a user or password too",
        ),
        ('password = "b"\n', "cache.password", "is of no use: no Redis is named"),
        (
            'redis = "rediss://h"\n[cache.tls]\ncert_file = "c"\n',
            "cache.tls.cert_file",
            "is of no use without key_file",
        ),
        (
            'redis = "redis://h"\n[cache.tls]\nenabled = true\n',
            "cache.tls.enabled",
            "is not said by redis:// in cache.redis: write rediss://",
        ),
        (
            'cluster = ["a:1"]\n[cache.tls]\nmode = "require"\n',
            "cache.tls.mode",
            "is of no use: TLS is not in use",
        ),
        (
            'redis = "rediss://h"\n[cache.tls]\nca_file = ""\n',
            "cache.tls.mode",
            "needs authorities: set ca_file",
        ),
        (
            'redis = "rediss://h?ssl_cert_reqs=none"\n',
            "cache.redis",
            "has parameters, which are not read: TLS is set in [cache.tls]",
        ),
        ("breaker_pause = 0\n", "cache.breaker_pause", "is too small"),
    ],
)
def test_finds(tmp_path: Path, text: str, key: str, message: str) -> None:
    assert found(tmp_path, text) == [(key, message)]
