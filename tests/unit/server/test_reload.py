"""Which settings apply at once, and that nothing is applied where one part refuses."""

from collections.abc import Iterator

import pytest

from proxy.config.schema import fields_of, shape_of_field
from proxy.config.settings import DatabaseSettings, Section, Settings
from proxy.server.parts import LIVE
from proxy.server.reload import NEEDS_RESTART, Commit, Part, ReloadError, apply, is_live, split
from tests.unit.config.test_changes import settings


def all_keys(section: type[Section], path: str = "") -> Iterator[str]:
    for key, info in fields_of(section).items():
        shape = shape_of_field(info)
        inner = f"{path}{key}"
        yield inner
        if shape.model is not None:
            yield from all_keys(shape.model, f"{inner}.")
    if section is Settings:
        yield from all_keys(DatabaseSettings, "database.*.")


@pytest.mark.parametrize("pattern", [*LIVE, *NEEDS_RESTART])
def test_every_pattern_names_a_setting(pattern: str) -> None:
    assert pattern in set(all_keys(Settings))


@pytest.mark.parametrize(
    ("key", "live"),
    [
        ("pool.size", True),
        ("pool.mode", True),
        ("auth.users", True),
        ("routing.rule", True),
        ("cache.rule", True),
        ("log.level", True),
        ("database.app.replicas.hosts", True),
        ("database.app", True),
        ("server.max_client_connections", True),
        ("server.listen", False),
        ("server.http_listen", False),
        ("cache.redis", False),
        ("database.app.sharding.shards", False),
        ("something.not.known", False),
    ],
)
def test_what_applies_at_once(key: str, live: bool) -> None:
    assert is_live(tuple(key.split(".")), LIVE) is live


def test_what_needs_a_restart_stays_as_it_was() -> None:
    before = settings()
    after = settings(server={"listen": "127.0.0.1:7000", "max_client_connections": 5})
    effective, applied, waiting = split(before, after, LIVE)
    assert str(effective.server.listen) == "127.0.0.1:6432"
    assert effective.server.max_client_connections == 5
    assert [str(one) for one in applied] == ["server.max_client_connections"]
    assert [str(one) for one in waiting] == ["server.listen"]


def part(
    done: list[str], name: str, *keys: str, refuses: str = "", always: bool = False
) -> "Part[None]":
    def prepare(process: None, settings: Settings) -> Commit:
        if refuses:
            raise ReloadError(refuses)

        async def commit() -> None:
            done.append(name)

        return commit

    return Part(keys, prepare, always)


async def test_parts_are_applied_in_order_where_their_keys_changed() -> None:
    done: list[str] = []
    parts = [
        part(done, "pools", "pool"),
        part(done, "logs", "log"),
        part(done, "files", always=True),
        part(done, "more pools", "pool.size"),
    ]
    outcome = await apply(None, settings(), settings(pool={"size": 3}), parts)
    assert done == ["pools", "files", "more pools"]
    assert outcome.notices() == ["applied: pool.size"]
    assert outcome.settings.pool.size == 3


async def test_one_part_that_refuses_keeps_all_from_being_applied() -> None:
    done: list[str] = []
    parts = [part(done, "pools", "pool"), part(done, "logs", "log", refuses="no such file")]
    with pytest.raises(ReloadError, match="no such file"):
        await apply(None, settings(), settings(pool={"size": 3}, log={"level": "debug"}), parts)
    assert done == []


async def test_nothing_to_do_says_so() -> None:
    outcome = await apply(None, settings(), settings(), [])
    assert outcome.notices() == ["no setting has changed; the files that they name were read again"]
