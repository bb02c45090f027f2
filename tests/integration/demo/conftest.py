"""A demonstration in a directory of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.demo.demonstrations import Demonstration


@pytest.fixture
def demonstration(tmp_path: Path) -> Iterator[Demonstration]:
    """Not started; whatever it leaves is removed after the test."""
    found = Demonstration(tmp_path / "demo")
    yield found
    found.remove()
