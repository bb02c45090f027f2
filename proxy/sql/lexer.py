"""Text to tokens, by the rules of PostgreSQL's own scanner.

Everything else in this package looks at these tokens rather than at text, so that quotes, comments
and dollar quotes are understood in one place. `standard_conforming_strings` is taken to be on, its
default since PostgreSQL 9.1.

Source: PostgreSQL 18 documentation, section 4.1 (lexical structure).
"""

import enum
import re
from collections.abc import Sequence
from typing import NamedTuple

from proxy.sql import unicode

NAME_BYTES = 63
"""PostgreSQL cuts longer identifiers (NAMEDATALEN - 1)."""


LONG_TEXT = 32_768
"""Characters from which on long lists of constants are cut down."""
MANY = 64
MAX_TOKENS = 60_000


class LexError(ValueError):
    """The text can't be split into tokens: what is wrong, and at which character."""


class Lexeme(enum.Enum):
    """The class of a token."""

    WORD = "word"  # unquoted identifier or keyword
    QUOTED = "quoted"  # "identifier"
    STRING = "string"  # '…', E'…', $$…$$
    BITS = "bits"  # B'…', X'…'
    NUMBER = "number"
    PARAMETER = "parameter"  # $1
    OPERATOR = "operator"  # operators and punctuation


class Token(NamedTuple):
    """One token. `word` is the folded keyword or the operator, "" for anything quoted or constant,
    so that a comparison with it never matches the inside of a string or a quoted identifier."""

    lexeme: Lexeme
    word: str
    start: int
    end: int
    text: str

    @property
    def is_name(self) -> bool:
        """Whether it can be (part of) a name; keywords count too."""
        return self.lexeme is Lexeme.WORD or self.lexeme is Lexeme.QUOTED

    @property
    def name(self) -> str:
        """The identifier that it stands for, folded and cut as PostgreSQL does."""
        if self.lexeme is Lexeme.QUOTED:
            return cut(self.text[1:-1].replace('""', '"'))
        return cut(self.word)


class Lexed(NamedTuple):
    """A text's tokens, and its comments with their delimiters."""

    tokens: list[Token]
    comments: list[str]
    comment_starts: Sequence[int] = ()
    """Where in the text each comment begins."""
    condensed: bool = False
    """Long lists of constants are left out but for their beginning."""


_UPPER_TO_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def fold(name: str) -> str:
    """An unquoted identifier as PostgreSQL folds it: ASCII letters only."""
    return name.lower() if name.isascii() else name.translate(_UPPER_TO_LOWER)


def cut(name: str) -> str:
    """An identifier without the bytes beyond NAME_BYTES."""
    if len(name) * 4 <= NAME_BYTES or len(encoded := name.encode("utf-8", "replace")) <= NAME_BYTES:
        return name
    return encoded[:NAME_BYTES].decode("utf-8", "ignore")


_SPACE = r"[ \t\n\r\f\v]"
_NEWLINE = r"[ \t\f\v]*+[\n\r][ \t\n\r\f\v]*+"
_LETTER = r"A-Za-z_\x80-\U0010ffff"
_PLAIN_BODY = r"'[^']*+(?:''[^']*+)*+'"
_ESCAPE_BODY = r"'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*+'"
_SELF = "*+-/<>=~!@#%^&|`?"

# Alternatives in order: what starts with a letter and a quote comes before words, comments before
# operators. A named group is a class of token; strings that are continued on a new line are one.
_TOKEN = re.compile(
    rf"""
      (?P<space>{_SPACE}++)
    | (?P<line>--[^\n\r]*+)
    | (?P<block>/\*)
    | (?P<string>[eE]{_ESCAPE_BODY}(?:{_NEWLINE}{_ESCAPE_BODY})*+
        | [nN]?{_PLAIN_BODY}(?:{_NEWLINE}{_PLAIN_BODY})*+)
    | (?P<bits>[bBxX]{_PLAIN_BODY}(?:{_NEWLINE}{_PLAIN_BODY})*+)
    | (?P<unicode>[uU]&(?:{_PLAIN_BODY}(?:{_NEWLINE}{_PLAIN_BODY})*+|"[^"]*+(?:""[^"]*+)*+")
        (?:{_SPACE}*+[uU][eE][sS][cC][aA][pP][eE]{_SPACE}*+'(?:[^']|'')')?+)
    | (?P<word>[{_LETTER}][{_LETTER}0-9$]*+)
    | (?P<number>0[xX](?:_?[0-9A-Fa-f])++|0[oO](?:_?[0-7])++|0[bB](?:_?[01])++
        | (?:[0-9](?:_?[0-9])*+(?:\.(?!\.)(?:[0-9](?:_?[0-9])*+)?+)?+|\.[0-9](?:_?[0-9])*+)
          (?:[eE][+-]?[0-9](?:_?[0-9])*+)?+)
    | (?P<quoted>"[^"]*+(?:""[^"]*+)*+")
    | (?P<parameter>\$[0-9]++)
    | (?P<dollar>\$(?:[{_LETTER}][{_LETTER}0-9]*+)?+\$)
    | (?P<punctuation>::|:=|\.\.|[,()\[\].;:])
    | (?P<operator>(?:(?!--|/\*)[{re.escape(_SELF)}]){{1,{NAME_BYTES + 1}}}+)
    """,
    re.VERBOSE | re.DOTALL,
)
_JUNK = re.compile(rf"[{_LETTER}0-9]")
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_KEEPS_SIGN = re.compile(r"[~!@#%^&|`?]")

_CONSTANT = rf"""(?:
    [+-]?(?:[0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(?:[eE][+-]?[0-9]++)?+ | \$[0-9]++
  | {_PLAIN_BODY} | [eE]{_ESCAPE_BODY} | [nN][uU][lL][lL] | [dD][eE][fF][aA][uU][lL][tT]
  | [tT][rR][uU][eE] | [fF][aA][lL][sS][eE]
  )(?:::[A-Za-z_0-9]++)?+"""
_CONSTANTS = rf"{_SPACE}*+{_CONSTANT}(?:{_SPACE}*+,{_SPACE}*+{_CONSTANT})"
_AND_MORE = rf"{{{MANY - 1},}}+{_SPACE}*+"
_ROW = rf"\({_CONSTANTS}*+{_SPACE}*+\)"
_LONG_LIST = re.compile(
    rf"""(?P<row>{_ROW})(?:{_SPACE}*+,{_SPACE}*+{_ROW}){_AND_MORE}
      | (?P<open>[(\[])(?P<first>{_SPACE}*+{_CONSTANT})
        (?:{_SPACE}*+,{_SPACE}*+{_CONSTANT}){_AND_MORE}[)\]]""",
    re.VERBOSE,
)


def lex(text: str, *, whole: bool = False) -> Lexed:
    """The tokens and comments of `text`. Raises LexError, also for more than MAX_TOKENS.

    Of a text longer than LONG_TEXT, lists of at least MANY constants and lists of as many rows of
    constants are cut down to the first one, unless `whole`.
    """
    tokens: list[Token] = []
    comments: list[str] = []
    starts: list[int] = []
    condenses = len(text) > LONG_TEXT and not whole
    condensed = False
    position, length = 0, len(text)
    match_at = _TOKEN.match
    while position < length:
        match = match_at(text, position)
        group = match.lastgroup if match else None
        if match is None or group is None:
            raise LexError(f"unexpected character {text[position]!r} at character {position + 1}")
        end = match.end()
        if group == "word":
            raw = match.group()
            if fold(raw) == "uescape" and tokens and text[tokens[-1].start + 1] == "&":
                raise LexError(f"UESCAPE behind a comment at character {position + 1}")
            tokens.append(Token(Lexeme.WORD, fold(raw), position, end, raw))
        elif group in ("line", "block"):
            end = end if group == "line" else _end_of_block(text, position)
            comments.append(text[position:end])
            starts.append(position)
        elif group != "space":
            token = _token(text, group, position, end)
            tokens.append(token)
            end = token.end
            if condenses and token.text in ("(", "[") and (cut := _list_at(text, position)):
                tokens += cut[0]
                end = cut[1]
                condensed = True
        if len(tokens) > MAX_TOKENS:
            raise LexError(f"it has more than {MAX_TOKENS} words")
        position = end
    return Lexed(tokens, comments, starts, condensed)


def _list_at(text: str, start: int) -> tuple[list[Token], int] | None:
    """The tokens after the parenthesis at `start` and up to where the first of a long list's
    constants or rows ends, and where the list itself ends; None if there is no long list."""
    match = _LONG_LIST.match(text, start)
    if match is None:
        return None
    row = match["row"]
    first = row[1:] if row else match["first"]
    tokens = [
        token._replace(start=token.start + start + 1, end=token.end + start + 1)
        for token in lex(first).tokens
    ]
    return tokens, match.end() if row else match.end() - 1


def _token(text: str, group: str, start: int, end: int) -> Token:
    """The token of a match that is neither a word nor space nor a comment. Raises LexError."""
    if group == "punctuation":
        return Token(Lexeme.OPERATOR, text[start:end], start, end, text[start:end])
    if group == "operator":
        end = start + _operator_length(text[start:end])
        return Token(Lexeme.OPERATOR, text[start:end], start, end, text[start:end])
    if group == "unicode":
        return _without_escapes(text, start, end)
    if group == "dollar":
        return _dollar_quoted(text, start, end)
    if group in ("number", "parameter") and _JUNK.match(text, end):
        raise LexError(f"trailing junk after {group} at character {end + 1}")
    return Token(Lexeme(group), "", start, end, text[start:end])


def _without_escapes(text: str, start: int, end: int) -> Token:
    try:
        plain = unicode.plain(text[start:end])
    except ValueError as error:
        raise LexError(f"{error} at character {start + 1}") from None
    lexeme = Lexeme.QUOTED if plain[0] == '"' else Lexeme.STRING
    return Token(lexeme, "", start, end, plain)


def _dollar_quoted(text: str, start: int, body: int) -> Token:
    tag = text[start:body]
    close = text.find(tag, body)
    if close < 0:
        raise LexError(f"unterminated dollar-quoted string at character {start + 1}")
    end = close + len(tag)
    return Token(Lexeme.STRING, "", start, end, text[start:end])


def _end_of_block(text: str, start: int) -> int:
    """Where the comment that opens at `start` ends; comments nest. Raises LexError."""
    depth = 0
    for edge in _BLOCK_EDGE.finditer(text, start):
        depth += 1 if edge.group() == "/*" else -1
        if depth == 0:
            return edge.end()
    raise LexError(f"unterminated comment at character {start + 1}")


def _operator_length(run: str) -> int:
    """How much of a run of operator characters is one operator: a trailing + or - belongs to what
    follows, unless the operator holds a character that standard SQL doesn't use."""
    if len(run) == 1 or run[-1] not in "+-" or _KEEPS_SIGN.search(run):
        return len(run)
    return max(1, len(run.rstrip("+-")))


_ESCAPE = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))|''", re.DOTALL
)
_SIMPLE_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_CONTINUED = re.compile(rf"'{_NEWLINE}'")


def string_value(token: Token) -> str | None:
    """What a STRING token stands for; None where that depends on the encoding (E'\\xff')."""
    text = token.text
    if text[0] == "$":
        tag = text.index("$", 1) + 1
        return text[tag:-tag]
    if text[0] in "eE":
        return _unescaped(text[2:-1])
    body = text[text.index("'") + 1 : -1]
    if "'" not in body:
        return body
    return "'".join(_CONTINUED.sub("", part) for part in body.split("''"))


def _unescaped(body: str) -> str | None:
    """The body of an E string; None where bytes are spelt out or the string is in several parts."""
    if "'" in body.replace("''", "").replace("\\'", ""):
        return None
    pieces: list[str] = []
    position = 0
    for match in _ESCAPE.finditer(body):
        octal, hexadecimal, short, long, other = match.groups()
        code = int(octal, 8) if octal else int(hexadecimal or short or long or "0", 16)
        spelt_byte = octal or hexadecimal
        if code > (0x7F if spelt_byte else 0x10FFFF) or 0xD800 <= code < 0xE000:
            return None
        plain = _SIMPLE_ESCAPES.get(other, other) if other else "'"
        spelt = spelt_byte or short or long
        pieces += body[position : match.start()], chr(code) if spelt else plain
        position = match.end()
    return "".join(pieces) + body[position:]
