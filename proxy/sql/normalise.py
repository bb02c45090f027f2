"""Texts without their constants: `shape` to look up plans, `normalised` for people and rules.

`shape` runs once for each text not seen before, so it has three ways. Where a text differs from an
earlier one in whole numbers alone, it only compares what is between them. One regular expression
does other ordinary statements; where it meets anything that needs more thought, the lexer does it.
"""

import re
from collections.abc import Iterator, Sequence

from proxy.sql.cacheable import is_moving_time
from proxy.sql.lexer import Lexeme, LexError, Token, lex
from proxy.sql.render import ends_operand
from proxy.sql.statement import Literal
from proxy.sql.words import word_set


class Shape:
    """A statement whose constants have become parameters: `literals[i]` is `$(first + i)`.

    `text` is for analysis only. It has the same facts as the statement it came from, once
    parameters from `first` on are taken for their literals. One is made for each text not seen
    before, so this is no dataclass, whose `__init__` would not be compiled.
    """

    __slots__ = ("constants", "first", "text")

    def __init__(self, text: str, first: int, constants: tuple[str, ...]) -> None:
        self.text = text
        self.first = first
        self.constants = constants
        """The constants as written."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Shape):
            return NotImplemented
        mine, theirs = (self.text, self.first), (other.text, other.first)
        return mine == theirs and self.constants == other.constants

    def __hash__(self) -> int:
        return hash((self.text, self.first, self.constants))

    def __repr__(self) -> str:
        return f"Shape({self.text!r}, {self.first}, {self.constants!r})"

    @property
    def literals(self) -> tuple[Literal, ...]:
        return tuple(_literal(constant) for constant in self.constants)


def _literal(constant: str) -> Literal:
    if constant[0] == "'":
        return Literal(constant[1:-1].replace("''", "'"))
    return Literal(_WHITE.sub("", constant), quoted=False)


_WHITE = re.compile(r"\s+")
_VERBS = word_set("select insert update delete with values")
# Their arguments are part of their grammar, or of what the statement does to its session.
_REFUSED = word_set(
    "set_config json_table json_value json_query json_exists json_object json_array json_scalar "
    "json_serialize xmltable xmlparse xmlserialize xmlexists xmlroot xmlpi xmlelement xmlforest "
    "uescape tablesample"
)
# A string after any other word is part of a typed constant (DATE '…') or of a clause.
_BEFORE_STRINGS = word_set(
    "select where and or not when then else case like ilike between in on having by returning "
    "distinct all values limit offset from set"
)
_DATE_TYPES = word_set("date time timestamp timestamptz interval")
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_NUMBER = r"(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+"
_STRING = r"'[^']*+(?:''[^']*+)*+'"
_OPERAND_END = rf"[{_LETTER}0-9)\]\"']"
_NO_OPERAND = "".join(rf"(?<!\b{word}\s)" for word in ("AND", "and", "WHERE", "where", "ON", "on"))
_MINUS = rf"(?:(?<={_OPERAND_END})|(?<={_OPERAND_END}\s){_NO_OPERAND})-(?!-)|-(?![-0-9.\s])"
_TYPE = rf"[{_LETTER}][{_LETTER}0-9$.]*+(?:\s++varying|\s++VARYING)?+\s*+\([0-9,\s]*+\)"

# A word that is surely not one of _REFUSED, and what follows it up to anything special.
_PLAIN_CHARACTERS = rf"[^{_LETTER}0-9$'\"&:;./\\-]"
_WORD = (
    r"(?:[A-IK-RVWYZa-ik-rvwyz_\x80-\U0010ffff]"
    r"|(?![sS][eE][tT]_|[jJ][sS][oO][nN]|[xX][mM][lL]|[uU][eE][sS]|[tT][aA][bB][lL][eE][sS])"
    rf"[jstuxJSTUX])[{_LETTER}0-9$]*+"
)

# What is passed over, the constant after it, and what the expression can't judge.
_PIECE = re.compile(
    rf"""
    ((?:{_WORD}{_PLAIN_CHARACTERS}*+
      | {_PLAIN_CHARACTERS}++
      | "(?!set_config")[^"]*+(?:""[^"]*+)*+"
      | \.(?![0-9]) | {_MINUS} | ::\s*+{_TYPE} | ::? | &(?!['"]) | /(?!\*) | ;\s*+\Z
    )*+)
    (?: (-?\s?{_NUMBER})(?![{_LETTER}0-9$.'"])
      | ({_STRING})(?![{_LETTER}0-9$'"]|\s++')
      | \Z
      | ([\s\S])
    )
    """,
    re.VERBOSE,
)
_find_pieces = _PIECE.findall
_HEADS = frozenset(
    ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "select ", "insert ", "update ", "delete ")
)
_has_head = re.compile(r"\s*+(?:SELECT|INSERT|UPDATE|DELETE|WITH|VALUES)\b", re.I).match
_is_simple_string = re.compile(_STRING).fullmatch
_INTEGER = r"(?:0|[1-9][0-9]*+)"
_is_plain = re.compile(rf"-?{_INTEGER}|'-?{_INTEGER}'").fullmatch
# A cast that may give a string that isn't plain another spelling: to an integer, or a second one.
_respells = re.compile(r"\s*::\s*(?:(?:small|big)?int|\w+\s*::)", re.I).match
_PENSTOCK = re.compile(r"penstock\s*:", re.I)


def shape(text: str) -> Shape | None:
    """`text` with constants as parameters; None where only the exact text may be looked up: not
    one SELECT, INSERT, UPDATE, DELETE, WITH or VALUES, or with hints, or not understood."""
    if text[:7] not in _HEADS and not _has_head(text):
        return _by_tokens(text) if "/*" in text or "--" in text else None
    if len(text) > _LONGEST_TEMPLATE or not text.isascii():
        return _by_expression(text) or _by_tokens(text)
    key = text.encode().translate(None, b"0123456789")
    template = _templates.get(key)
    found = None if template is None else template.shape_of(text)
    if found is not None:
        return found
    found = _by_expression(text)
    if found is None:
        return _by_tokens(text)
    if _Template.fits(found):
        if len(_templates) >= _MOST_TEMPLATES:
            _templates.clear()
        _templates[key] = _Template(found)
    return found


_LONGEST_TEMPLATE = 4096
_MOST_TEMPLATES = 1024


class _Template:
    """A shape whose constants are whole numbers: with others in their places, it stays the same.

    Nothing that the expression does depends on the digits of a number that `_is_integer` allows.
    """

    __slots__ = ("_between", "_last", "_shape_text", "_signs")

    def __init__(self, shape: Shape) -> None:
        self._shape_text = shape.text
        self._signs: list[str] = []
        self._between: list[str] = []
        """What stands before each number, its sign included."""
        self._last = shape.text
        for number, constant in enumerate(shape.constants, shape.first):
            before, _, self._last = self._last.partition(f"${number}")
            sign = "-" if constant[0] == "-" else ""
            self._signs.append(sign)
            self._between.append(before + sign)

    @staticmethod
    def fits(shape: Shape) -> bool:
        """Whether a template can be made of it."""
        count = len(shape.constants)
        whole = all(_is_integer(constant) for constant in shape.constants)
        return count > 0 and whole and shape.text.count("$") == count

    def shape_of(self, text: str) -> Shape | None:
        """The shape of `text` if it has whole numbers in these places and is alike elsewhere."""
        between, last = self._between, self._last
        if not text.startswith(between[0]) or not text.endswith(last):
            return None
        constants: list[str] = []
        count = len(between)
        start = len(between[0])
        for index in range(count):
            if index + 1 < count:
                end = text.find(between[index + 1], start)
            else:
                end = len(text) - len(last)
            digits = text[start:end] if end > start else ""
            if not digits.isdigit() or (digits[0] == "0" and len(digits) > 1):
                return None
            constants.append(self._signs[index] + digits)
            if index + 1 < count:
                start = end + len(between[index + 1])
        return Shape(self._shape_text, 1, tuple(constants))


_templates: dict[bytes, _Template] = {}
"""By the text that is left without digits."""
_is_integer = re.compile(r"-?(?:0|[1-9][0-9]*+)").fullmatch


def _by_expression(text: str) -> Shape | None:
    pieces: list[str] = []
    constants: list[str] = []
    constant = ""
    for passed, number, string, unclear in _find_pieces(text):
        if unclear or (passed[:2] in _COLONS and constant and _is_cast_after(constant, passed)):
            return None
        pieces.append(passed)
        constant = number or string
        if not constant:
            break
        if passed[-1:] == "(" and _is_special_call(passed):
            return None
        word = _last_word(passed) if string else ""
        if word or (string and is_moving_time(string)):
            if word not in _DATE_TYPES:
                return None
            pieces.append(string)
            continue
        constants.append(constant)
        pieces.append(f"${len(constants)}")
    return Shape("".join(pieces), 1, tuple(constants))


_COLONS = ("::", " :")


def _is_special_call(passed: str) -> bool:
    """Whether a constant after this text, which ends with (, is cast or is a type's modifier:
    CAST(5.7 AS int), CAST(x AS numeric(10, 2))."""
    words = passed[:-1].lower().rsplit(None, 2)[-2:]
    return bool(words) and (
        words[-1].endswith("cast") or words[0] == "as" or words[-1].startswith("varying")
    )


_word_at_end = re.compile(rf"[{_LETTER}0-9$\"]+\Z").search
_LONGEST_WORD = 16


def _last_word(passed: str) -> str:
    """The word that a string after this text belongs to, folded; "" if there is none, or if it is
    one that any operand may follow."""
    stripped = passed.rstrip()
    match = _word_at_end(stripped[-_LONGEST_WORD:])
    if match is None:
        return ""
    word = match.group().lower()
    return "" if word in _BEFORE_STRINGS and len(stripped) < len(passed) else word


def _is_cast_after(constant: str, passed: str) -> bool:
    """Whether what follows a constant is a cast that may change what it stands for."""
    if _is_plain(constant) or not passed.lstrip().startswith("::"):
        return False
    return constant[0] != "'" or _respells(passed) is not None


def _by_tokens(text: str) -> Shape | None:
    try:
        lexed = lex(text, whole=True)
    except LexError:
        return None
    tokens = lexed.tokens
    if tokens and tokens[-1].word == ";":
        tokens = tokens[:-1]
    if not tokens or tokens[0].word not in _VERBS:
        return None
    if any(token.word == ";" or token.name in _REFUSED for token in tokens):
        return None
    if any(_PENSTOCK.search(comment) for comment in lexed.comments):
        return None
    if any(token.text[0] in "'\"" and text[token.start] in "uU" for token in tokens):
        return None  # U&'…': a constant's text is not that of its value
    indices = [int(t.text[1:9]) for t in tokens if t.lexeme is Lexeme.PARAMETER]
    return _replaced(text, tokens, max(indices, default=0) + 1)


def _replaced(text: str, tokens: Sequence[Token], first: int) -> Shape:
    pieces: list[str] = []
    constants: list[str] = []
    end = 0
    for start, stop in _replaceable(tokens):
        # The spaces keep a parameter from running into a word: like'x'and.
        pieces += text[end:start], f" ${first + len(constants)} "
        constants.append(text[start:stop])
        end = stop
    return Shape("".join((*pieces, text[end:])), first, tuple(constants))


def _replaceable(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Where the constants begin and end that may be replaced."""
    for index, token in enumerate(tokens):
        if token.lexeme is Lexeme.STRING and _may_replace(tokens, index, index):
            if _is_simple_string(token.text) and not is_moving_time(token.text):
                yield token.start, token.end
        elif token.lexeme is Lexeme.NUMBER:
            first = index - 1 if _is_signed(tokens, index) else index
            if _may_replace(tokens, first, index):
                yield tokens[first].start, token.end


def _is_signed(tokens: Sequence[Token], index: int) -> bool:
    """Whether the minus before the number at `index` is its sign."""
    if not index or tokens[index - 1].word != "-":
        return False
    return index == 1 or not ends_operand(tokens[index - 2])


def _may_replace(tokens: Sequence[Token], first: int, last: int) -> bool:
    """Whether a parameter instead of the constant in tokens `first` to `last` leaves all facts as
    they are."""
    constant = tokens[last]
    before = tokens[first - 1] if first else None
    after = [token.text for token in tokens[last + 1 : last + 4]]
    if constant.lexeme is Lexeme.STRING:
        named = before is not None and before.is_name and before.word not in _BEFORE_STRINGS
        if named or any(t.lexeme is Lexeme.STRING for t in _neighbours(tokens, last)):
            return False
    elif not constant.text.isascii() or _UNUSUAL_NUMBER.search(constant.text):
        return False
    if _is_modifier(tokens, first):
        return False
    text = "".join(token.text for token in tokens[first : last + 1])
    cast = [token.word for token in tokens[max(0, first - 2) : first]] == ["cast", "("]
    return _is_plain(text) is not None or not (cast or _is_cast_after(text, "".join(after)))


def _neighbours(tokens: Sequence[Token], index: int) -> Sequence[Token]:
    return [*tokens[max(0, index - 1) : index], *tokens[index + 1 : index + 2]]


_UNUSUAL_NUMBER = re.compile(r"[_xXoObB]")


def _is_modifier(tokens: Sequence[Token], index: int) -> bool:
    """Whether the constant at `index` is in a type's parentheses: x::numeric(10, 2)."""
    start = index - 1
    while start >= 0 and (tokens[start].word == "," or tokens[start].lexeme is Lexeme.NUMBER):
        start -= 1
    if start < 0 or tokens[start].word != "(":
        return False
    name = start - 1
    while name > 0 and (tokens[name - 1].word == "." or tokens[name].word in (".", "varying")):
        name -= 1
    return name > 0 and tokens[name - 1].word in ("::", "as")


_IN_LIST = re.compile(r"\bin \(\?(?:, ?\?)+\)")
_MORE_ROWS = re.compile(r"(\bvalues ?(\((?:[^()]|\([^()]*\))*\)))(?:, ?\2)+")


def normalised(text: str) -> str:
    """`text` for patterns and statistics: constants and parameters as `?`, no comments, single
    spaces, folded; lists of constants and equal rows as one. A text that can't be split into
    tokens becomes "?". Never raises."""
    try:
        tokens = lex(text).tokens
    except LexError:
        return "?"
    pieces: list[str] = []
    end = 0
    for token in tokens:
        if token.start > end and pieces:
            pieces.append(" ")
        pieces.append(_as_pattern(token))
        end = token.end
    return _MORE_ROWS.sub(r"\1", _IN_LIST.sub("in (?)", "".join(pieces)))


def _as_pattern(token: Token) -> str:
    if token.lexeme is Lexeme.QUOTED:
        return token.text
    return token.word or "?"
