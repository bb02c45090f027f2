"""Which rule of the configuration matches a statement: globs over tables and statement text."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cached_property

from proxy.config.cache_settings import CacheRule
from proxy.config.settings import RoutingRule
from proxy.sql.catalogue import Catalogue
from proxy.sql.normalise import normalised
from proxy.sql.statement import TableRef


class Subject:
    """A statement as rules see it: its text normalised, and the tables that it names.

    `base_tables` are what views resolve to: a rule on the tables matches their views too.
    """

    def __init__(
        self, text: str, tables: Iterable[TableRef], base_tables: Callable[[str], frozenset[str]]
    ) -> None:
        self._text = text
        self.tables = frozenset(tables)
        self._base_tables = base_tables

    @cached_property
    def text(self) -> str:
        return normalised(self._text).lower()

    def matches_statement(self, glob: str | None) -> bool:
        """Whether the normalised text matches `glob`, ignoring case; no glob matches all."""
        return glob is None or fnmatchcase(self.text, glob.lower())

    def matches_every_table(self, globs: tuple[str, ...]) -> bool:
        """Whether it names tables and each matches a glob; no globs match all."""
        return not globs or (
            bool(self.tables) and all(self._matches(table, globs) for table in self.tables)
        )

    def matches_any_table(self, globs: tuple[str, ...]) -> bool:
        """Whether a table that it names or a view reads matches a glob; no globs match all."""
        return not globs or any(
            _named(table, globs)
            or any(_bare(name, globs) for name in self._base_tables(table.name))
            for table in self.tables
        )

    def _matches(self, table: TableRef, globs: tuple[str, ...]) -> bool:
        if _named(table, globs):
            return True
        base = self._base_tables(table.name) - {table.name}
        return bool(base) and all(_bare(name, globs) for name in base)


def routing_rule(rules: tuple[RoutingRule, ...], subject: Subject) -> RoutingRule | None:
    """The first rule that matches."""
    for rule in rules:
        if subject.matches_every_table(rule.tables) and subject.matches_statement(rule.statement):
            return rule
    return None


def rules_of(
    rules: tuple[CacheRule, ...], database: str, user: str | None = None
) -> tuple[CacheRule, ...]:
    """Those that hold for this user in this database; without a user, for any."""
    return tuple(
        rule
        for rule in rules
        if (not rule.databases or _bare(database, rule.databases))
        and (user is None or not rule.users or _bare(user, rule.users))
    )


def cache_rule(rules: tuple[CacheRule, ...], subject: Subject) -> CacheRule | None:
    """The first rule that matches; a disabled one forbids caching.

    A disabled rule matches as soon as one table does: what must never be cached must not be so in a
    join either.
    """
    for rule in rules:
        match = subject.matches_every_table if rule.enabled else subject.matches_any_table
        if match(rule.tables) and subject.matches_statement(rule.statement):
            return rule
    return None


def tables_covered(rules: tuple[CacheRule, ...], catalogue: Catalogue) -> frozenset[str] | None:
    """The bare names of relations that enabled rules may match; None where that is all of them."""
    globs: list[str] = []
    for rule in rules:
        if rule.enabled and not rule.tables:
            return None
        if rule.enabled:
            # The catalogue's names have no schema, so a glob's schema can't narrow anything here.
            globs.extend(glob.rpartition(".")[2] for glob in rule.tables)
    names = (*catalogue.relations, *catalogue.views)
    return frozenset(name for name in names if _bare(name, globs))


def _named(table: TableRef, globs: Iterable[str]) -> bool:
    """Whether a glob matches `table`, bare or as "schema.name"."""
    qualified = str(table)
    return any(fnmatchcase(table.name, glob) or fnmatchcase(qualified, glob) for glob in globs)


def _bare(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)
