"""A client that changes its state at random and checks that it sees exactly its own."""

import random
from collections.abc import Awaitable, Callable

from tests.integration.session.raw import (
    SYNC,
    RawClient,
    bind,
    client,
    close,
    execute,
    parse,
    run,
)
from tests.proxies import Proxy

SETTINGS: dict[str, Callable[[random.Random], str]] = {
    "application_name": lambda chance: f"app {chance.randrange(100)}",
    "search_path": lambda chance: f"s{chance.randrange(9)}, public",
    "timezone": lambda chance: chance.choice(["UTC", "Asia/Tokyo", "Europe/Paris"]),
    "statement_timeout": lambda chance: f"{chance.randrange(20, 60)}s",
    "my.tenant": lambda chance: f"tenant's {chance.randrange(1000)}\\",
    "work_mem": lambda chance: f"{chance.randrange(1, 60)}MB",
    "extra_float_digits": lambda chance: str(chance.randrange(-5, 3)),
}
STARTUP = ("application_name", "search_path", "timezone", "my.tenant")


class Person:
    """A client that remembers what state it should be in."""

    def __init__(self, proxy: Proxy, number: int, defaults: dict[str, str]) -> None:
        self.proxy = proxy
        self.chance = random.Random(number)
        self.number = number
        self.expected: dict[str, str] = {}
        self.at_startup: dict[str, str] = {}
        self.defaults = defaults
        self.role = proxy.database.user
        self.prepared: dict[str, str] = {}
        self.connection: RawClient

    async def come(self) -> None:
        """Log in, some with settings of their own."""
        asked = [name for name in STARTUP if self.chance.random() < 0.3]
        self.at_startup = {name: SETTINGS[name](self.chance) for name in asked}
        self.connection = await RawClient.login(self.proxy, **self.at_startup)
        self.role = self.proxy.database.user
        self.expected = {**self.defaults, **self.at_startup}
        self.prepared = {}

    async def live(self, steps: int) -> None:
        """Come, do so many random steps, each checked, and leave."""
        await self.come()
        for _ in range(steps):
            step = self.chance.choice(self.steps())
            await step()
            await self.check(step.__name__)
            if self.chance.random() < 0.04:
                await self.part()
                await self.come()
        await self.connection.leave()

    async def part(self) -> None:
        """End the connection, with or without a word."""
        if self.chance.random() < 0.5:
            self.connection.vanish()
        else:
            await self.connection.leave()

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            self.sets,
            self.sets_by_function,
            self.sets_and_rolls_back,
            self.sets_and_commits,
            self.sets_locally,
            self.sets_and_fails,
            self.resets,
            self.resets_all,
            self.prepares,
            self.runs_prepared,
            self.executes_prepared,
        ]

    async def ask(self, sql: str) -> None:
        reply = await self.connection.query(sql)
        assert not reply.errors, (sql, reply.messages)

    def change(self) -> tuple[str, str, str]:
        """(SQL, name, value) of a SET."""
        name = self.chance.choice(list(SETTINGS))
        value = SETTINGS[name](self.chance)
        quoted = value.replace("'", "''")
        if name == "search_path":
            return f"SET search_path = {value}", name, value
        return f"SET {name} = '{quoted}'", name, value

    async def sets(self) -> None:
        sql, name, value = self.change()
        await self.ask(sql)
        self.expected[name] = value

    async def sets_by_function(self) -> None:
        _, name, value = self.change()
        sql = "SELECT set_config($1, $2, false)"
        reply = await self.connection.ask(run(sql, name.encode(), value.encode()), SYNC)
        assert reply.value == value
        self.expected[name] = value

    async def sets_and_rolls_back(self) -> None:
        sql, _, _ = self.change()
        await self.ask("BEGIN")
        await self.ask(sql)
        await self.ask("ROLLBACK")

    async def sets_and_commits(self) -> None:
        sql, name, value = self.change()
        await self.ask("BEGIN")
        await self.ask(sql)
        await self.ask("SAVEPOINT a")
        await self.ask(self.change()[0])
        await self.ask("ROLLBACK TO a")
        await self.ask("COMMIT")
        self.expected[name] = value

    async def sets_locally(self) -> None:
        sql, name, value = self.change()
        await self.ask("BEGIN")
        await self.ask(sql.replace("SET ", "SET LOCAL ", 1))
        found = await self.connection.query(f"SELECT current_setting('{name}')")
        assert found.value == value
        await self.ask("COMMIT")

    async def sets_and_fails(self) -> None:
        """The SET is undone together with what fails behind it."""
        sql, _, _ = self.change()
        reply = await self.connection.query(f"{sql}; SELECT 1/0")
        assert reply.errors == ["22012"]

    async def resets(self) -> None:
        name = self.chance.choice(list(SETTINGS))
        await self.ask(f"RESET {name}")
        self.expected[name] = self.at_startup.get(name, self.defaults[name])

    async def resets_all(self) -> None:
        if self.chance.random() < 0.3:
            statement = self.chance.choice(("RESET ALL", "DISCARD ALL"))
            await self.ask(statement)
            if statement == "DISCARD ALL":
                self.role = self.proxy.database.user
            self.expected = {**self.defaults, **self.at_startup}
            self.prepared = {}
            await self.forget_prepared()

    async def forget_prepared(self) -> None:
        """RESET ALL leaves them, DISCARD ALL doesn't: close them to know."""
        await self.connection.ask(*(close(f"p{number}") for number in range(3)), SYNC)

    async def prepares(self) -> None:
        """All clients use the same names, for different texts."""
        name = f"p{self.chance.randrange(3)}"
        text = f"SELECT '{self.number} {self.chance.randrange(5)}'"
        first = [close(name)] if name in self.prepared else []
        reply = await self.connection.ask(*first, parse(text, name), SYNC)
        assert not reply.errors
        self.prepared[name] = text[8:-1]

    async def runs_prepared(self) -> None:
        for name, expected in self.prepared.items():
            reply = await self.connection.ask(bind(name=name), execute(), SYNC)
            assert reply.value == expected

    async def executes_prepared(self) -> None:
        """The same in SQL."""
        for name, expected in self.prepared.items():
            assert (await self.connection.query(f"EXECUTE {name}")).value == expected
            reply = await self.connection.ask(run(f"EXECUTE {name}"), SYNC)
            assert reply.value == expected

    async def check(self, after: str) -> None:
        """Every setting, on whichever server and connection it is asked."""
        names = list(self.expected)
        asked = ", ".join(f"current_setting('{name}', true)" for name in names)
        reply = await self.connection.query(f"SELECT {asked}, current_user")
        (row,) = reply.rows
        found = {name: value or "" for name, value in zip(names, row[:-1], strict=True)}
        wrong = {
            name: f"{value!r}, not {self.expected[name]!r}"
            for name, value in found.items()
            if value != self.expected[name]
        }
        assert not wrong, f"{wrong} after {after}, at start-up {self.at_startup}"
        assert row[-1] == self.role, f"after {after}"
        for reported, name in (("application_name", "application_name"), ("TimeZone", "timezone")):
            assert self.connection.parameters[reported] == self.expected[name]


async def defaults_of(proxy: Proxy) -> dict[str, str]:
    """The values that a fresh client sees."""
    async with client(proxy) as one:
        return {
            name: (await one.query(f"SELECT coalesce(current_setting('{name}', true), '')")).value
            or ""
            for name in SETTINGS
        }
