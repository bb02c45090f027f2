"""What of the limits each worker gets."""

import pytest

from proxy.config.settings import Settings
from proxy.server.fleet.division import worker_settings


@pytest.mark.parametrize(
    ("total", "workers", "shares"), [(10, 3, [4, 3, 3]), (4, 4, [1] * 4), (1, 3, [1, 1, 1])]
)
def test_opening_connections(total: int, workers: int, shares: list[int]) -> None:
    """Each may have one at least: a connection begins as one."""
    settings = Settings.model_validate({"server": {"max_opening_connections": total}})
    each = [worker_settings(settings, index, workers) for index in range(workers)]
    assert [one.server.max_opening_connections for one in each] == shares
