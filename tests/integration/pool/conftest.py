"""A module's database, two further roles in it, and proxies with pools of any settings."""

import contextlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import psycopg
import pytest
from psycopg import sql

from tests.databases import Database, superuser_connection
from tests.integration.pool.people import PASSWORD, Pooled, Roles
from tests.proxies import running_proxy


class Start(Protocol):
    """Starts a proxy; PORT in `extra` stands for the primary's."""

    def __call__(self, extra: str, environment: Mapping[str, str] | None = None) -> Pooled: ...


@pytest.fixture(scope="module")
def roles(module_database: Database) -> Iterator[Roles]:
    """Two roles that may log in."""
    suffix = uuid.uuid4().hex[:8]
    found = Roles(f"ann_{suffix}", f"bob_{suffix}")
    server = module_database.stack.primary
    with superuser_connection(server) as connection:
        for name in found:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(name), sql.Literal(PASSWORD)
                )
            )
    yield found
    with superuser_connection(server) as connection:
        for name in found:
            with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture
def start(module_database: Database, roles: Roles, tmp_path: Path) -> Iterator[Start]:
    """Starts a proxy with this addition to its configuration; reads go to the primary alone."""
    with ExitStack() as cleanup:

        def started(extra: str, environment: Mapping[str, str] | None = None) -> Pooled:
            users = "".join(
                f'[[auth.users]]\nname = "{name}"\npassword = "{PASSWORD}"\n' for name in roles
            )
            text = f"{users}\n[routing]\nenabled = false\n{extra}"
            text = text.replace("PORT", str(module_database.stack.primary.port))
            text = text.replace("DATABASE", module_database.name)
            for letter, name in zip("AB", roles, strict=True):
                text = text.replace(f"{letter}_ROLE", name)
            running = running_proxy(module_database, tmp_path, extra=text, environment=environment)
            return Pooled(cleanup.enter_context(running), roles)

        yield started
