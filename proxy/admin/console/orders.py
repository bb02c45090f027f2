"""Commands that change the running process: how they are written, and who carries them out."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from proxy.admin.console.control import Control, Stop
from proxy.config.assign import BOUNCER_NAMES
from proxy.sql.lexer import Lexeme, Token, string_value
from proxy.wire import errors
from proxy.wire.errors import PgError

Arguments = tuple[str, ...]
Notices = Sequence[str]


@dataclass(frozen=True, slots=True)
class Order:
    """A command with what it takes, and a function that returns what to tell the administrator."""

    syntax: str
    summary: str
    run: Callable[[Control, Arguments], Awaitable[Notices]]
    least: int = 0
    most: int = 0

    @property
    def name(self) -> str:
        """The word that calls it, in lower case."""
        return self.syntax.partition(" ")[0].lower()


def _database(arguments: Arguments) -> str | None:
    return arguments[0] if arguments else None


async def _reload(control: Control, arguments: Arguments) -> Notices:
    return await control.reload()


async def _set(control: Control, arguments: Arguments) -> Notices:
    return await control.set(*arguments)


async def _pause(control: Control, arguments: Arguments) -> Notices:
    await control.pause(_database(arguments))
    return ()


async def _resume(control: Control, arguments: Arguments) -> Notices:
    await control.resume(_database(arguments))
    return ()


async def _suspend(control: Control, arguments: Arguments) -> Notices:
    await control.suspend()
    return ()


async def _disable(control: Control, arguments: Arguments) -> Notices:
    await control.enable(arguments[0], False)
    return ()


async def _enable(control: Control, arguments: Arguments) -> Notices:
    await control.enable(arguments[0], True)
    return ()


async def _reconnect(control: Control, arguments: Arguments) -> Notices:
    await control.reconnect(_database(arguments))
    return ()


async def _wait_close(control: Control, arguments: Arguments) -> Notices:
    await control.wait_close(_database(arguments))
    return ()


async def _kill(control: Control, arguments: Arguments) -> Notices:
    await control.kill(_database(arguments))
    return ("new clients wait until RESUME",)


async def _kill_client(control: Control, arguments: Arguments) -> Notices:
    if not arguments[0].isdecimal():
        raise PgError(
            errors.SYNTAX_ERROR,
            f"KILL_CLIENT takes the number of a client, not {arguments[0]}",
            "SHOW CLIENTS shows it in the column id",
        )
    await control.kill_client(int(arguments[0]))
    return ()


_STOPS: Final[dict[str, Stop]] = {
    "wait_for_clients": "wait_for_clients",
    "wait_for_servers": "wait_for_servers",
}


async def _shutdown(control: Control, arguments: Arguments) -> Notices:
    if not arguments:
        await control.shut_down("now")
        return ()
    how = _STOPS.get(arguments[0].lower())
    if how is None:
        raise PgError(
            errors.SYNTAX_ERROR,
            f"SHUTDOWN {arguments[0]}: no such way to shut down",
            "write SHUTDOWN WAIT_FOR_CLIENTS or WAIT_FOR_SERVERS, or SHUTDOWN to end at once",
        )
    await control.shut_down(how)
    return ()


ORDERS: Final = {
    order.name: order
    for order in (
        Order("RELOAD", "read the configuration again; tells what needs a restart", _reload),
        Order("SET key = value", "change a setting until the next RELOAD", _set, 2, 2),
        Order(
            "PAUSE [database]",
            "lend no server connections and wait until all are released and closed",
            _pause,
            most=1,
        ),
        Order("RESUME [database]", "end PAUSE, SUSPEND and KILL", _resume, most=1),
        Order("SUSPEND", "as PAUSE, but keep all connections open", _suspend),
        Order("DISABLE database", "take no new clients for a database", _disable, 1, 1),
        Order("ENABLE database", "take new clients again", _enable, 1, 1),
        Order(
            "RECONNECT [database]",
            "replace every server connection as soon as it is released",
            _reconnect,
            most=1,
        ),
        Order(
            "WAIT_CLOSE [database]",
            "wait until the connections that RECONNECT replaces are closed",
            _wait_close,
            most=1,
        ),
        Order(
            "KILL [database]",
            "drop clients and server connections at once; new clients wait for RESUME",
            _kill,
            most=1,
        ),
        Order("KILL_CLIENT id", "drop one client, by its id in SHOW CLIENTS", _kill_client, 1, 1),
        Order(
            "SHUTDOWN [WAIT_FOR_CLIENTS | WAIT_FOR_SERVERS]",
            "end at once, when all clients have left, or when all transactions have ended",
            _shutdown,
            most=1,
        ),
    )
}


def arguments_of(order: Order, tokens: Sequence[Token]) -> Arguments:
    """What follows the command's name. Raises PgError where that is not what it takes."""
    usage = f"write {order.syntax}"
    if order.name == "set":
        return _assignment(tokens, usage)
    found = tuple(_text(token) for token in tokens)
    if len(found) < order.least:
        raise PgError(errors.SYNTAX_ERROR, f"{order.name.upper()} needs an argument", usage)
    if len(found) > order.most:
        rest = " ".join(token.text for token in tokens[order.most :])
        raise PgError(errors.SYNTAX_ERROR, f"{order.name.upper()} can't take {rest}", usage)
    return found


def is_assignment(tokens: Sequence[Token]) -> bool:
    """Whether SET names a setting of Penstock's, rather than one of the connection."""
    return len(tokens) > 1 and (tokens[1].text == "." or tokens[0].text.lower() in BOUNCER_NAMES)


def _assignment(tokens: Sequence[Token], usage: str) -> Arguments:
    words = [token.text.lower() for token in tokens]
    sign = next((at for at, word in enumerate(words) if word in ("=", "to")), 0)
    if not sign or sign + 1 == len(tokens):
        raise PgError(errors.SYNTAX_ERROR, "SET needs a key and a value", usage)
    key = "".join(_text(token) for token in tokens[:sign])
    return key, "".join(_text(token) for token in tokens[sign + 1 :])


def _text(token: Token) -> str:
    """A name as it is written, without folding, as PgBouncer takes it; a string's value."""
    if token.lexeme is Lexeme.STRING:
        return string_value(token) or ""
    return token.name if token.lexeme is Lexeme.QUOTED else token.text
