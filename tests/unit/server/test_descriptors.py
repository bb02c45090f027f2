"""What the process needs of file descriptors, and what it says when there are too few."""

import resource

import pytest

from proxy.config.settings import Settings
from proxy.server.descriptors import OWN, TooFewDescriptors, needed, provide


def settings(clients: int) -> Settings:
    return Settings.model_validate(
        {
            "server": {"max_client_connections": clients},
            "pool": {"size": 10, "reserve_size": 2},
            "database": {
                "one": {"replicas": {"hosts": ["a:1", "b:1"]}},
                "two": {"pool": {"size": 5}},
            },
        }
    )


class Limits:
    """The kernel's, as a test wants them."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = soft, hard

    def getrlimit(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.now

    def setrlimit(self, which: int, limits: tuple[int, int]) -> None:
        self.now = limits


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    found = Limits(1024, 4096)
    monkeypatch.setattr(resource, "getrlimit", found.getrlimit)
    monkeypatch.setattr(resource, "setrlimit", found.setrlimit)
    return found


def test_clients_and_the_pools_of_one_user() -> None:
    assert needed(settings(1000)) == (1000 + 3 + OWN, 3 * 12 + 7)


def test_the_limit_is_raised_as_far_as_may_be(limits: Limits) -> None:
    provide(settings(1000))
    assert limits.now == (4096, 4096)


def test_too_few_for_the_clients_is_an_error_that_says_what_to_do(limits: Limits) -> None:
    with pytest.raises(TooFewDescriptors) as refused:
        provide(settings(5000))
    assert "server.max_client_connections = 5000 needs 5067 file descriptors" in str(refused.value)
    assert "may open 4096" in str(refused.value)
