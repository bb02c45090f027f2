"""Whether a process's catalogue is as new as the last schema change that Redis knows of.

What a result depends on, and what a write touches, comes from the catalogue. Another process may
have changed the schema a moment ago, so that what this one knows is outdated. Therefore the schema
of a database has an epoch as tables have: whoever has changed the schema moves it, together with
the epoch of the whole database, before the change is acknowledged.

A process remembers the token that it has seen last. When it sees another it doubts its catalogue at
once (`doubt`), which is then compared with the server's: a comparison that began after the token
was there sees the change, for that had been committed before. So as long as the catalogue is not
doubted, it holds all changes up to the token remembered.

- The token is one of the epochs in every entry, and a ticket is of use only where it is the one
  remembered and the catalogue isn't doubted: so each entry was filled by a process that knew all
  changes up to the token in it. A change since then makes it a miss.
- A write was planned by some catalogue. Behind its second move the token is read. If it isn't the
  one that was remembered, undoubted, when the write was planned, a trigger or a cascade that this
  process didn't know of may have written more than it moved: then the epoch of the whole database
  moves too, before the write is acknowledged. Whoever took a ticket before the first of these moves
  holds an outdated one; whoever takes one later reads what the write has left.
"""

from collections.abc import Callable


class SchemaEpoch:
    """The token of one database's schema, as last seen here."""

    __slots__ = ("doubt", "token")

    def __init__(self) -> None:
        self.token = b""
        """Of no change at all, before the first was seen."""
        self.doubt: Callable[[], None] | None = None
        """Have the catalogue compared with the server's; nothing is filled by it until then."""

    def see(self, token: bytes) -> bool:
        """A token that Redis has just shown; whether it is the one remembered."""
        if token == self.token:
            return True
        self.token = token
        if self.doubt is not None:
            self.doubt()
        return False
