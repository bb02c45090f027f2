"""What comments ask of Penstock: `/* penstock: replica, nocache, ttl=60, refresh */`."""

import re
from collections.abc import Iterable
from dataclasses import replace

from proxy.sql.lexer import lex
from proxy.sql.statement import Hints

_HINT = re.compile(r"(?:--|/\*)[\s*]*penstock\s*:(?P<words>.*?)(?:\*/)?\s*\Z", re.I | re.S)
_SEPARATOR = re.compile(r"[\s,;]+")
_NODES = {"primary": "primary", "master": "primary", "replica": "replica"}
_CACHE = {"cache": True, "nocache": False}
_REFRESH = "refresh"
_SEPARATORS = " \t\r\n\f\v,;"
_REFRESH_WORD = re.compile(r"(?:[\s,;]+|\A)refresh(?=[\s,;]|\Z)", re.I)
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
    if word == _REFRESH:
        return replace(hints, refresh=True)
    if match := _SECONDS.match(word):
        return replace(hints, ttl_seconds=float(match["seconds"]))
    return replace(hints, unknown=(*hints.unknown, written))


def without_refresh(text: str) -> str:
    """The text whose result a `refresh` in it replaces: without that word, and without a comment
    that says nothing else. Its tokens are the same. Raises LexError."""
    lexed = lex(text)
    kept: list[str] = []
    done = 0
    for comment, start in zip(lexed.comments, lexed.comment_starts, strict=True):
        match = _HINT.match(comment)
        if match is None or not _REFRESH_WORD.search(match["words"]):
            continue
        end = start + len(comment)
        kept.append(text[done:start])
        rest = _REFRESH_WORD.sub("", match["words"]).lstrip(_SEPARATORS)
        if rest:
            words = match["words"]
            blanks = words[: len(words) - len(words.lstrip())]
            kept.append(f"{comment[: match.start('words')]}{blanks}{rest}")
            kept.append(comment[match.end("words") :])
        elif not text[end:].strip():
            kept = ["".join(kept).rstrip()]
            end = len(text)
        elif not kept[-1][-1:].strip():
            end = len(text) - len(text[end:].lstrip())
        elif text[end].strip():
            kept.append(" ")
        done = end
    shorter = "".join((*kept, text[done:]))
    same = [token.text for token in lex(shorter).tokens] == [token.text for token in lexed.tokens]
    return shorter if same else text
