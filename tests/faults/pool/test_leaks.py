"""Two hundred clients on ten server connections, with settings, roles, temporary tables, locks
and prepared statements of their own, that end as they like: nobody sees anything of another."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from psycopg import Connection, sql

from tests.databases import Database, superuser_connection
from tests.integration.session.person import Person, defaults_of
from tests.integration.session.raw import query
from tests.proxies import Proxy, running_proxy

CLIENTS = 200
BACKENDS = 10
PINNED = 6
"""So many may keep a server connection at a time: the others need some as well."""


@pytest.fixture
def roles(database: Database) -> Iterator[list[str]]:
    """Roles that the application's may become."""
    names = [f"role{number}_{uuid.uuid4().hex[:8]}" for number in range(4)]
    server = database.stack.primary
    with superuser_connection(server) as connection:
        for name in map(sql.Identifier, names):
            connection.execute(sql.SQL("CREATE ROLE {}").format(name))
            connection.execute(
                sql.SQL("GRANT {} TO {}").format(name, sql.Identifier(database.user))
            )
    yield names
    with superuser_connection(server, database.name) as connection:
        for name in map(sql.Identifier, names):
            connection.execute(sql.SQL("DROP OWNED BY {}").format(name))
            connection.execute(sql.SQL("DROP ROLE {}").format(name))


def wait_for_roles(replica: Connection, user: str, roles: list[str]) -> None:
    """Until a replica knows them as those of the user."""
    known = "SELECT count(*) FROM pg_roles WHERE rolname = ANY (%s)"
    own = "SELECT bool_and(pg_has_role(%s, name, 'MEMBER')) FROM unnest(%s::text[]) name"
    deadline = time.monotonic() + 20
    while replica.execute(known, [roles]).fetchone() != (len(roles),) or (
        replica.execute(own, [user, roles]).fetchone() != (True,)
    ):
        assert time.monotonic() < deadline, "the roles have not come to the replica"
        time.sleep(0.02)


@pytest.fixture(params=[False, True], ids=["primary", "routed"])
def crowded(
    request: pytest.FixtureRequest, database: Database, roles: list[str], tmp_path: Path
) -> Iterator[Proxy]:
    """Ten connections to each node; to the primary alone, or to replicas too."""
    for replica in database.stack.replicas if request.param else ():
        with superuser_connection(replica, database.name) as connection:
            wait_for_roles(connection, database.user, roles)
    routed = str(request.param).lower()
    extra = f"[pool]\nsize = {BACKENDS}\nwait_timeout = 60\n[routing]\nenabled = {routed}\n"
    with running_proxy(database, tmp_path, extra=extra) as proxy:
        yield proxy


class Guest(Person):
    """As Person, who becomes others, keeps temporary things, and breaks off in the middle."""

    def __init__(
        self,
        proxy: Proxy,
        number: int,
        defaults: dict[str, str],
        roles: list[str],
        places: asyncio.Semaphore,
    ) -> None:
        super().__init__(proxy, number, defaults)
        self.roles = roles
        self.places = places
        self.taken = 0

    async def live_until(self, deadline: float) -> int:
        """Take steps until then; how many it were."""
        while time.monotonic() < deadline:
            await self.live(steps=10)
            self.taken += 10
        return self.taken

    def steps(self) -> list[Callable[[], Awaitable[None]]]:
        return [
            *super().steps(),
            self.takes_a_role,
            self.gives_up_its_role,
            self.resets_all_as_another,
            self.finds_nothing,
            self.keeps_temporary_things,
            self.breaks_off,
        ]

    async def takes_a_role(self) -> None:
        self.role = self.chance.choice(self.roles)
        await self.ask(f"SET ROLE {self.role}")

    async def gives_up_its_role(self) -> None:
        await self.ask(self.chance.choice(("RESET ROLE", "SET ROLE none")))
        self.role = self.proxy.database.user

    async def resets_all_as_another(self) -> None:
        await self.takes_a_role()
        await self.ask("RESET ALL")
        self.expected = {**self.defaults, **self.at_startup}

    async def finds_nothing(self) -> None:
        """Of what others keep."""
        found = await self.connection.query(
            "SELECT to_regclass('pg_temp.mine'), (SELECT count(*) FROM pg_locks WHERE "
            "locktype = 'advisory' AND pid = pg_backend_pid()), (SELECT count(*) FROM "
            "pg_prepared_statements WHERE from_sql), (SELECT count(*) FROM pg_cursors)"
        )
        assert found.rows == [(None, "0", "0", "0")]

    async def keeps_temporary_things(self) -> None:
        if self.places.locked():
            return
        async with self.places:
            await self.ask(f"CREATE TEMP TABLE mine AS SELECT {self.number} AS a")
            await self.ask(f"SELECT pg_advisory_lock({self.number})")
            await self.ask(f"PREPARE own AS SELECT {self.number}")
            for _ in range(self.chance.randrange(4)):
                await self.sets()
                for statement in ("SELECT a FROM pg_temp.mine", "EXECUTE own"):
                    found = await self.connection.query(statement)
                    assert found.value == str(self.number), found
                await self.check("temporary things")
            if self.chance.random() < 0.5:
                await self.ask("DISCARD ALL")
                self.role = self.proxy.database.user
                self.expected = {**self.defaults, **self.at_startup}
                await self.forget_prepared()
                self.prepared = {}
            else:
                await self.part()
        if not self.connection.writer.transport.is_closing():
            return
        await self.come()

    async def breaks_off(self) -> None:
        """In an open transaction, in a failed one, in a query."""
        if self.chance.random() < 0.7:
            return
        await self.ask("BEGIN")
        await self.ask(self.change()[0])
        if self.chance.random() < 0.3:
            assert (await self.connection.query("SELECT 1/0")).errors == ["22012"]
        if self.chance.random() < 0.5:
            self.connection.send(query("SELECT pg_sleep(0.1)"))
        self.connection.vanish()
        await self.come()


async def nobody_sees_anothers(proxy: Proxy, roles: list[str], seconds: float) -> None:
    defaults = await defaults_of(proxy)
    places = asyncio.Semaphore(PINNED)
    deadline = time.monotonic() + seconds
    guests = [Guest(proxy, number, defaults, roles, places) for number in range(CLIENTS)]
    async with asyncio.TaskGroup() as group:
        living = [group.create_task(guest.live_until(deadline)) for guest in guests]
    assert min(task.result() for task in living) >= 10
    assert not [line for line in proxy.log() if line["level"] in ("error", "critical")]
    with superuser_connection(proxy.database.stack.primary) as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND usename = %s "
            "AND application_name NOT LIKE 'penstock %%'",
            [proxy.database.name, proxy.database.user],
        ).fetchone() or (0,)
    assert count <= BACKENDS


async def test_nothing_leaks(crowded: Proxy, roles: list[str]) -> None:
    await nobody_sees_anothers(crowded, roles, 5)


@pytest.mark.serial
@pytest.mark.timeout(240)
async def test_nothing_leaks_for_a_minute(crowded: Proxy, roles: list[str]) -> None:
    await nobody_sees_anothers(crowded, roles, 60)
