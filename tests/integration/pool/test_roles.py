"""Roles, and settings that RESET ALL spares: nobody runs as somebody else's role."""

from psycopg import sql

from tests.databases import superuser_connection
from tests.integration.pool.conftest import Start
from tests.integration.pool.people import Pooled

WHO = "SELECT current_user || ' ' || current_setting('role')"


def grant(pooled: Pooled) -> None:
    """The application's role may become either of the others."""
    database = pooled.proxy.database
    with superuser_connection(database.stack.primary) as connection:
        for role in pooled.roles:
            connection.execute(
                sql.SQL("GRANT {} TO {}").format(
                    sql.Identifier(role), sql.Identifier(database.user)
                )
            )


async def test_reset_all_leaves_the_role_and_nobody_else_gets_it(start: Start) -> None:
    """As on the server itself, whatever the client asked for at its start."""
    pooled = start("[pool]\nsize = 1\n")
    grant(pooled)
    user, ann = pooled.proxy.database.user, pooled.roles.ann
    async with (
        pooled.client() as one,
        pooled.client(work_mem="7MB") as two,
        pooled.client() as other,
    ):
        for each in (one, two):
            assert (await each.query(f"SET ROLE {ann}")).errors == []
            assert (await each.query("RESET ALL")).errors == []
            assert (await other.query(WHO)).value == f"{user} none"
            assert (await each.query(WHO)).value == f"{ann} {ann}"
            assert (await each.query("DISCARD ALL")).errors == []
            assert (await each.query(WHO)).value == f"{user} none"
            assert (await other.query(WHO)).value == f"{user} none"


async def test_a_seed_is_the_sessions_own(start: Start) -> None:
    """However it is set: the sequence that follows is what the server itself gives."""
    pooled = start("[pool]\nsize = 2\n")
    async with pooled.client() as one, pooled.client() as two:
        for statement in ("SET seed = 0.25", "SET SEED TO 0.25", "SELECT setseed(0.25)"):
            assert (await one.query(statement)).errors == []
            assert (await two.query("SELECT random()")).errors == []
            first = (await one.query("SELECT random()")).value
            assert (await one.query("SELECT setseed(0.25)")).errors == []
            assert (await one.query("SELECT random()")).value == first
