"""What comments ask of Penstock: `/* penstock: replica, nocache, ttl=60 */`."""

import re
from collections.abc import Iterable
from dataclasses import replace

from proxy.sql.statement import Hints

_HINT = re.compile(r"(?:--|/\*)[\s*]*penstock\s*:(?P<words>.*?)(?:\*/)?\s*\Z", re.I | re.S)
_SEPARATOR = re.compile(r"[\s,;]+")
_NODES = {"primary": "primary", "master": "primary", "replica": "replica"}
_CACHE = {"cache": True, "nocache": False}
_SECONDS = re.compile(r"ttl=(?P<seconds>[0-9]{1,9}(?:\.[0-9]{1,6})?)s?\Z")


def parse_hints(comments: Iterable[str]) -> Hints:
    """The hints of a text's comments; a later one overrides an earlier one of its kind."""
    hints = Hints()
    for comment in comments:
        if match := _HINT.match(comment):
            for word in _SEPARATOR.split(match["words"].strip()):
                hints = _with_word(hints, word) if word else hints
    return hints


def _with_word(hints: Hints, written: str) -> Hints:
    word = written.lower()
    if word in _NODES:
        return replace(hints, node=_NODES[word])
    if word in _CACHE:
        return replace(hints, cache=_CACHE[word])
    if match := _SECONDS.match(word):
        return replace(hints, ttl_seconds=float(match["seconds"]))
    return replace(hints, unknown=(*hints.unknown, written))
