"""What a write invalidates besides the tables that it writes: `[[cache.invalidation]]`. Pure.

A rule's tables count as written, so that rules for them follow; each name is taken once, so that
rules which name each other come to an end. "*", the whole database, needs no rule.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from proxy.cache.keys import EVERYTHING, pattern_epoch, table_of
from proxy.config.cache_settings import InvalidationRule
from proxy.routing.relations import resolve_reads
from proxy.sql.catalogue import Catalogue

_MOST_REMEMBERED: Final = 1000


@dataclass(frozen=True, slots=True)
class Effects:
    """Of one write: epochs to move with it, and later."""

    names: frozenset[str]
    """All to be moved at once, those written included."""
    later: tuple[tuple[float, frozenset[str]], ...]
    """(seconds, epochs to move then)."""


class Cascades:
    """The rules of one database, its catalogue given."""

    def __init__(self, rules: Iterable[InvalidationRule], catalogue: Catalogue) -> None:
        self._rules = [(rule, _targets(rule, catalogue)) for rule in rules]
        self._remembered: dict[frozenset[str], Effects] = {}
        self.patterns = frozenset(glob for rule, _ in self._rules for glob in rule.keys)
        """Of keys of applications."""

    def of(self, written: frozenset[str]) -> Effects:
        """What a write to these tables invalidates."""
        found = self._remembered.get(written)
        if found is None:
            found = self._find(written)
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[written] = found
        return found

    def _find(self, written: frozenset[str]) -> Effects:
        at_once, reached = set(written), {*written, *map(table_of, written)}
        later: dict[float, set[str]] = {}
        waiting = [] if EVERYTHING in written else list(self._rules)
        due = [one for one in waiting if _fires(one[0], reached)]
        if EVERYTHING in written:
            due = [one for one in self._rules if one[0].delay]
        while due:
            rule, targets = due.pop()
            if (rule, targets) in waiting:
                waiting.remove((rule, targets))
            reached |= targets
            if rule.at_once:
                at_once |= targets
            if rule.delay:
                later.setdefault(rule.delay, set()).update(targets)
            due += [one for one in waiting if one not in due and _fires(one[0], reached)]
        return Effects(
            frozenset(at_once),
            tuple((delay, frozenset(names)) for delay, names in sorted(later.items())),
        )


def _fires(rule: InvalidationRule, reached: Iterable[str]) -> bool:
    return any(fnmatchcase(name, glob) for name in reached for glob in rule.writes)


def _targets(rule: InvalidationRule, catalogue: Catalogue) -> frozenset[str]:
    """Epochs of the rule's tables, views resolved, and of its patterns of keys."""
    named = [
        name
        for name in (*catalogue.relations, *catalogue.views)
        if any(fnmatchcase(name, glob) for glob in rule.tables)
    ]
    return resolve_reads(named, catalogue).tables | {pattern_epoch(glob) for glob in rule.keys}
