"""What PostgreSQL's catalogue says that a statement's text can't: a value, loaded elsewhere."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Volatility(enum.IntEnum):
    """pg_proc.provolatile, ordered from harmless to harmful."""

    IMMUTABLE = 0
    STABLE = 1
    VOLATILE = 2


@dataclass(frozen=True, slots=True)
class View:
    """A view or materialised view: the relations and functions that its definition names."""

    reads: frozenset[str]
    functions: frozenset[str]
    cacheable: bool = True


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One database's catalogue, by bare names (no schema): where two schemas share a name, the
    entry covers both, so that a look-up errs to the safe side whatever the search_path is."""

    functions: Mapping[str, Volatility] = field(default_factory=dict)
    """The worst volatility of all functions of that name."""
    builtin_functions: frozenset[str] = frozenset()
    """Names that exist in pg_catalog only."""
    set_functions: frozenset[str] = frozenset()
    views: Mapping[str, View] = field(default_factory=dict)
    children: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Partitions and inheritance children, transitively."""
    parents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Partitioned tables and inheritance parents, transitively: a write to the child moves them."""
    cascades: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Tables that foreign keys' ON DELETE/UPDATE actions may change with the key table."""
    triggers: frozenset[str] = frozenset()
    """Tables with user triggers, rules, or defaults and checks that call volatile functions: a
    write to them may write anything."""
    row_security: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    unfed: frozenset[str] = frozenset()
    """With a change feed: what has rows whose changes don't come over it."""
    keys: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Of the key columns that were asked for, by table and column: the type's name, where all
    tables of that name have such a column, whose equality is that of its bytes or numbers."""
    relations: frozenset[str] = frozenset()
    system_relations: frozenset[str] = frozenset()
    setters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Functions that may leave settings and more behind, and what (`sql.setters`)."""
    trigger_setters: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The same for tables whose triggers do."""
    default_isolation: str = "read committed"
    """"mixed" where a role or database setting differs from the server's."""
    defaults: str = ""
    """What ALTER ROLE and ALTER DATABASE have SET, as one text: a connection begins with it."""
    loaded: bool = False
    """False: nothing is known; every function counts as volatile but PostgreSQL's plainest, and
    nothing may be cached."""
