"""Prepared statements by content: clients that prepare the same text share one server-side name."""

from collections.abc import Iterator
from typing import Final

from proxy.routing.plan import Plan

NAME_PREFIX: Final = b"penstock_"
MISSING_NAME: Final = b"penstock_none"
"""A server-side name that is never prepared: closing it has no effect but an answer."""

_GENERATION: Final = 5000


class Prepared:
    """One text with its parameter types, and the plan for it while that is current."""

    __slots__ = ("content", "literals", "name", "oids", "plan", "plan_version", "text")

    def __init__(self, name: bytes, content: bytes) -> None:
        text, _, types = content.partition(b"\0")
        self.name = name
        self.content = content
        """The body of Parse after the statement's name."""
        self.text = text
        self.oids = tuple(int.from_bytes(types[i : i + 4]) for i in range(2, len(types) - 3, 4))
        self.plan: Plan | None = None
        self.literals: tuple[bytes | None, ...] = ()
        self.plan_version = -1


class PreparedRegistry:
    """All statements that clients have parsed, bounded: the least used generation is forgotten.

    A forgotten statement lives on in the sessions that know it; parsed anew elsewhere it gets
    another name, which costs a server-side Parse and nothing else.
    """

    def __init__(self) -> None:
        self._young: dict[bytes, Prepared] = {}
        self._old: dict[bytes, Prepared] = {}
        self._count = 0
        self.asked = 0
        """Parse messages of clients."""

    def get(self, content: bytes) -> Prepared:
        """The statement with this content, the same object each time."""
        self.asked += 1
        prepared = self._young.get(content)
        if prepared is None:
            prepared = self._old.get(content)
            if prepared is None:
                self._count += 1
                prepared = Prepared(NAME_PREFIX + b"%x" % self._count, content)
            if len(self._young) >= _GENERATION:
                self._old, self._young = self._young, {}
            self._young[content] = prepared
        return prepared

    def retire(self) -> None:
        """The schema has changed: what is parsed from now on gets a new name.

        A server refuses to run a statement prepared before its result's columns changed, so the
        client's Parse must reach it.
        """
        self._young, self._old = {}, {}

    def __iter__(self) -> Iterator[Prepared]:
        return iter([*self._young.values(), *self._old.values()])

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
