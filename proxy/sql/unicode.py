"""Strings and identifiers with Unicode escapes: U&'d\\0061t\\+000061', U&"d!0061" UESCAPE '!'.

Source: PostgreSQL 18 documentation, 4.1.2.3 and 4.1.1; str_udeescape in parser.c.
"""

import re

_UESCAPE = re.compile(r"\s*uescape\s*'(.|'')'\Z", re.IGNORECASE | re.DOTALL)
_CONTINUED = re.compile(r"'[ \t\f\v]*[\n\r]\s*'")
_NO_ESCAPE = re.compile(r"[0-9A-Fa-f+'\"\s]")
_HIGH, _LOW = range(0xD800, 0xDC00), range(0xDC00, 0xE000)


def plain(text: str) -> str:
    """The same constant or identifier without escapes, quoted. Raises ValueError where the server
    would refuse it."""
    escape = "\\"
    clause = _UESCAPE.search(text)
    if clause is not None and text[: clause.start()].endswith(text[2]):
        escape, text = clause[1], text[: clause.start()]
        if _NO_ESCAPE.match(escape):
            raise ValueError("no such escape character is allowed")
    quote, body = text[2], text[3:-1]
    if quote == "'":
        body = "'".join(_CONTINUED.sub("", part) for part in body.split("''"))
    else:
        body = body.replace('""', '"')
    value = _unescaped(body, escape)
    return quote + value.replace(quote, quote * 2) + quote


def _unescaped(body: str, escape: str) -> str:
    sign = re.escape(escape)
    pattern = re.compile(
        rf"{sign}(?:(?P<same>{sign})|(?P<four>[0-9A-Fa-f]{{4}})|\+(?P<six>[0-9A-Fa-f]{{6}})|)"
    )
    pieces: list[str] = []
    position, high = 0, 0
    for match in pattern.finditer(body):
        between = body[position : match.start()]
        position = match.end()
        digits = match["four"] or match["six"]
        code = ord(escape) if match["same"] else int(digits or "0", 16)
        if not 0 < code <= 0x10FFFF or (high and (between or code not in _LOW)):
            raise ValueError("an invalid Unicode escape")
        pieces.append(between)
        if high:
            code, high = 0x10000 + (high - 0xD800) * 0x400 + code - 0xDC00, 0
        elif code in _LOW:
            raise ValueError("an invalid Unicode surrogate pair")
        elif code in _HIGH:
            high = code
            continue
        pieces.append(chr(code))
    if high:
        raise ValueError("an invalid Unicode surrogate pair")
    return "".join(pieces) + body[position:]
