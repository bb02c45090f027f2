"""Byte streams for the tests: messages, and every way to cut them."""

from collections.abc import Iterator
from itertools import pairwise

from hypothesis import strategies as st


def cuts(data: bytes, points: list[int]) -> Iterator[bytes]:
    """`data` in the pieces between `points` (taken modulo its length)."""
    places = sorted({point % (len(data) + 1) for point in points} | {0, len(data)})
    for start, end in pairwise(places):
        yield data[start:end]


POINTS = st.lists(st.integers(0, 1 << 16), max_size=40)
"""Where a stream is cut."""


def bytewise(data: bytes) -> Iterator[bytes]:
    """The worst cut of all."""
    for position in range(len(data)):
        yield data[position : position + 1]
