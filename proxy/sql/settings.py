"""Which session settings a statement changes: SET, RESET and set_config()."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from proxy.sql.lexer import Lexeme, Token, string_value

_CHARACTERISTICS = frozenset(
    {
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
    }
)
_OF_TRANSACTION = frozenset(
    {"transaction_isolation", "transaction_read_only", "transaction_deferrable"}
)
# SET's and RESET's spellings that name no setting: words after SET [SESSION | LOCAL] -> setting.
_SPELLINGS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("time", "zone"), "timezone"),
    (("names",), "client_encoding"),
    (("schema",), "search_path"),
    (("role",), "role"),
    (("seed",), "seed"),
    (("xml", "option"), "xmloption"),
)
_TRUE = frozenset({"true", "t", "yes", "y", "on", "1"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What a statement does to settings, as the fields of `Statement` of the same names say."""

    settings: frozenset[str] = frozenset()
    settings_unknown: bool = False
    restores: frozenset[str] = frozenset()
    resets_all: bool = False
    sets_transaction: bool = False
    authorization: bool = False  # SET or RESET SESSION AUTHORIZATION
    untold: bool = False
    """A setting whose name neither the text nor a parameter holds as a whole."""

    def __or__(self, other: "Changes") -> "Changes":
        return Changes(
            self.settings | other.settings,
            self.settings_unknown or other.settings_unknown,
            self.restores | other.restores,
            self.resets_all or other.resets_all,
            self.sets_transaction or other.sets_transaction,
            self.authorization or other.authorization,
            self.untold or other.untold,
        )


ALL = Changes(settings_unknown=True, resets_all=True)
UNKNOWN = Changes(settings_unknown=True)
_AUTHORIZATION = Changes(frozenset({"role"}), authorization=True)  # it ends SET ROLE


def of_set(tokens: Sequence[Token]) -> Changes:
    """What SET changes; `tokens` start with SET."""
    words = [token.word for token in tokens[1:5]]
    if words[:2] == ["session", "characteristics"]:
        return Changes(_CHARACTERISTICS)
    if words[:1] in (["transaction"], ["constraints"]):
        return Changes(sets_transaction=words[0] == "transaction")
    local = words[:1] == ["local"] and _qualifies(words)
    skip = 2 if local or (words[:1] == ["session"] and _qualifies(words)) else 1
    changes = _named(tokens[skip:])
    if local:  # the session's own stay, but results depend on it until the transaction ends
        return Changes(sets_transaction=True)
    if tokens[-1].word == "default" or [token.word for token in tokens[-2:]] == ["zone", "local"]:
        return replace(changes, restores=changes.settings)
    return changes


def _qualifies(words: Sequence[str]) -> bool:
    """Whether SESSION or LOCAL is the keyword: not in SET session = 1, nor SET local.x = 1."""
    if words[:2] == ["session", "authorization"]:
        return False
    return len(words) > 1 and words[1] not in ("=", "to", ".")


def of_reset(tokens: Sequence[Token]) -> Changes:
    """What RESET changes; `tokens` start with RESET."""
    if len(tokens) == 2 and tokens[1].word == "all":
        return ALL
    changes = _named(tokens[1:])
    return changes if changes.authorization else replace(changes, restores=changes.settings)


def _named(tokens: Sequence[Token]) -> Changes:
    """The setting that `tokens`, which follow SET or RESET and its qualifier, begin with."""
    words = [token.word for token in tokens[:3]]
    if words[:2] == ["session", "authorization"]:
        return _AUTHORIZATION
    if words[:1] == ["transaction"]:
        return Changes(sets_transaction=True)
    if words[1:2] not in (["="], ["to"], ["."]):
        for spelling, setting in _SPELLINGS:
            if tuple(words[: len(spelling)]) == spelling:
                return _by_name(setting)
    name = _dotted(tokens)
    return _by_name(name) if name else UNKNOWN


def _by_name(name: str) -> Changes:
    if name in _OF_TRANSACTION:
        return Changes(sets_transaction=True)
    if name == "seed":
        return Changes()  # can't be read back: `pins` sees to it
    if name == "session_authorization":
        return _AUTHORIZATION
    return Changes(frozenset({name}))


def _dotted(tokens: Sequence[Token]) -> str:
    """The setting's name at the start of `tokens`, lower case; "" if there is none."""
    parts: list[str] = []
    for token in tokens:
        if len(parts) % 2 == 0 and token.is_name:
            parts.append(token.name.lower())
        elif len(parts) % 2 == 1 and token.word == ".":
            parts.append(".")
        else:
            break
    return "".join(parts) if len(parts) % 2 else ""


def of_functions(tokens: Sequence[Token]) -> Changes:
    """What calls of set_config(name, value, is_local) anywhere in a statement change."""
    changes = Changes()
    for index, token in enumerate(tokens):
        if token.is_name and token.name == "set_config":
            changes |= _of_call(tokens, index)
    return changes


def _of_call(tokens: Sequence[Token], index: int) -> Changes:
    if tokens[index + 1 : index + 2] and tokens[index + 1].word != "(":
        return Changes()
    arguments = _arguments(tokens, index + 1)
    if len(arguments) != 3:
        return replace(UNKNOWN, untold=True)
    name = _constant(arguments[0])
    local = arguments[2][0].word if len(arguments[2]) == 1 else None
    if local != "true":
        local = _constant(arguments[2]) or ""
    if name is None:
        if local in _TRUE:
            return Changes(sets_transaction=True)
        return UNKNOWN if _is_parameter(arguments[0]) else replace(UNKNOWN, untold=True)
    changes = _by_name(name.lower())
    if local.lower() in _TRUE:
        return Changes(sets_transaction=True)
    return changes


def _arguments(tokens: Sequence[Token], start: int) -> list[list[Token]]:
    """The tokens of each argument of the call whose parenthesis is at `start`."""
    arguments: list[list[Token]] = [[]]
    depth = 0
    for token in tokens[start:]:
        if token.word in ("(", "["):
            depth += 1
            if depth == 1:
                continue
        elif token.word in (")", "]"):
            depth -= 1
            if depth == 0:
                return arguments
        if token.word == "," and depth == 1:
            arguments.append([])
        else:
            arguments[-1].append(token)
    return []


def _constant(tokens: Sequence[Token]) -> str | None:
    """The string that an argument is, casts to text aside; None if it isn't a constant."""
    if not tokens or tokens[0].lexeme is not Lexeme.STRING:
        return None
    cast = [token.word for token in tokens[1:]]
    if cast and cast not in (["::", "text"], ["::", "boolean"], ["::", "bool"]):
        return None
    return string_value(tokens[0])


def _is_parameter(tokens: Sequence[Token]) -> bool:
    """Whether an argument is `$n`, casts to text aside, which the session sees at each Bind."""
    words = [token.word for token in tokens]
    return tokens[0].lexeme is Lexeme.PARAMETER and words[1:] in ([], ["::", "text"])
