"""Statements without their whole numbers: what texts have in common that differ in nothing else.

In C where it was compiled (`_skeleton.c`). Both forms do the same.
"""

import re
from collections.abc import Callable

from proxy.sql.normalise import Shape

LONGEST = 4096
"""Bytes of a text that is looked at."""

_PART = rb"A-Za-z0-9_$.\"'"
_number = re.compile(rb"(?<![%s])(?:0|[1-9][0-9]*)(?![%s])" % (_PART, _PART))


def skeleton_in_python(text: bytes) -> bytes:
    """`text` with a zero byte for each whole number that stands alone, or `text` itself.

    A number that is part of a word, a fraction, a parameter or beside a quote stays, and so does
    one with zeros in front. `text` itself where there is none, or where it is not ASCII, too long,
    or has zero bytes already.
    """
    if len(text) > LONGEST or not text.isascii() or b"\0" in text:
        return text
    found, count = _number.subn(b"\0", text)
    return found if count else text


def fits(bones: bytes, shape: Shape) -> bool:
    """Whether the zero bytes of a text's skeleton stand for the constants of its shape, all of them
    and nothing else.

    Then every text with this skeleton has this shape: nothing that `shape` does with a text depends
    on the digits of such a number.
    """
    expected, _, rest = shape.text.partition("$")
    for number, constant in enumerate(shape.constants, shape.first):
        digits = str(number)
        if not rest.startswith(digits):
            return False
        sign = "-" if constant[0] == "-" else ""
        between, _, rest = rest[len(digits) :].partition("$")
        expected += f"{sign}\0{between}"
    return not rest and expected.encode() == bones


skeleton: Callable[[bytes], bytes] = skeleton_in_python

try:
    from proxy.sql import _skeleton
except ImportError:
    pass
else:
    skeleton = _skeleton.skeleton
