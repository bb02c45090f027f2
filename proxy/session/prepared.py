"""Prepared statements by content: clients that prepare the same text share one server-side name."""

from collections.abc import Iterator
from typing import Final

from proxy.pool.description import Description
from proxy.routing.plan import Plan
from proxy.sql.prepared import executed
from proxy.wire.scan import execution

NAME_PREFIX: Final = b"penstock_"
MISSING_NAME: Final = b"penstock_none"
"""A server-side name that is never prepared: closing it has no effect but an answer."""

_GENERATION: Final = 5000
_BEGINNING: Final = 128
"""Bytes of a text in which EXECUTE stands, behind EXPLAIN and its options perhaps."""


class Prepared:
    """One text with its parameter types, and the plan for it while that is current.

    Clients that were told different descriptions of it have different ones, of the same name.
    """

    __slots__ = (
        "_told",
        "cache_key",
        "content",
        "description",
        "executes",
        "literals",
        "name",
        "oids",
        "original",
        "plan",
        "plan_version",
        "runs",
        "text",
    )

    def __init__(self, name: bytes, content: bytes, description: Description | None = None) -> None:
        text, _, types = content.partition(b"\0")
        self.name = name
        self.content = content
        """The body of Parse after the statement's name."""
        self.text = text
        self.oids = tuple(int.from_bytes(types[i : i + 4]) for i in range(2, len(types) - 3, 4))
        self.plan: Plan | None = None
        self.literals: tuple[bytes | None, ...] = ()
        self.plan_version = -1
        self.description = description
        """What its clients take it for: no server may run it for them where it is anything else.
        None: they were never told, and take rows as they come."""
        self.cache_key = b""
        """What of it is part of the keys in the cache's memory; made when first needed."""
        self._told: dict[Description, Prepared] | None = None
        found = executed(text) if text[:_BEGINNING].lower().find(b"execute") >= 0 else None
        self.executes = None if found is None else found[0]
        """The name in EXECUTE, if this is one."""
        self.runs: Prepared | None = None
        """What is prepared under that name by the protocol, if this was made to run it."""
        self.original: Prepared | None = None
        """What the client has sent, if this was made of it."""

    def told(self, description: Description) -> "Prepared":
        """The same statement for clients that were told `description`, one object for each."""
        if self._told is None:
            self._told = {}
        found = self._told.get(description)
        if found is None:
            found = Prepared(self.name, self.content, description)
            found._told = self._told
            found.runs, found.original = self.runs, self.original
            self._told[description] = found
        return found

    def running(self, target: "Prepared | None", registry: "PreparedRegistry") -> "Prepared":
        """This EXECUTE with the server's name of `target` for the client's; as it was sent where
        there is no target."""
        sent = self if self.original is None else self.original
        if target is None:
            return sent
        if self.runs is not None and self.runs.name == target.name:
            return self
        found = registry.get(renamed(sent.text, target) + sent.content[len(sent.text) :])
        made = Prepared(found.name, found.content)
        made.runs, made.original = target, sent
        return made

    @property
    def parse_body(self) -> bytes:
        """The body of Parse after the name, with the types that the client was told of: the
        server would keep to them too."""
        told = self.description
        if told is None or told.parameters is None:
            return self.content
        return self.text + b"\0" + told.parameters


def renamed(text: bytes, target: Prepared) -> bytes:
    """An EXECUTE with the server's name of `target` for the client's."""
    found = executed(text)
    return text if found is None else text[: found[1]] + target.name + text[found[2] :]


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
        self.generation = 0
        """Counts the calls of `retire`."""

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

    def parsed_by(self, request: bytes) -> Prepared | None:
        """The unnamed statement that this request, which was one for the fast path and is counted
        there, has left; None if it has left none."""
        found = execution(request, 0) if request else None
        if found is None or found[1] is None:
            return None
        self.asked -= 1
        return self.get(found[1])

    def retire(self) -> None:
        """The schema has changed: what is parsed from now on gets a new name.

        A server refuses to run a statement prepared before its result's columns changed, so the
        client's Parse must reach it.
        """
        self._young, self._old = {}, {}
        self.generation += 1

    def __iter__(self) -> Iterator[Prepared]:
        return iter([*self._young.values(), *self._old.values()])

    def __len__(self) -> int:
        return len(self._young) + len(self._old)
