"""Statements that demand a database free of others."""

import pytest

from proxy.sql.analyse import analyse


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ("DROP DATABASE Shop", "shop"),
        ('drop database if exists "Shop" with (force)', "Shop"),
        ("DROP DATABASE", None),
        ("DROP TABLE database", None),
        ("CREATE DATABASE a", "template1"),
        ("CREATE DATABASE a WITH OWNER o TEMPLATE b", "b"),
        ("CREATE DATABASE a TEMPLATE = 'B' ENCODING 'UTF8'", "B"),
        ("CREATE DATABASE a TEMPLATE DEFAULT", "template1"),
        ("ALTER DATABASE a RENAME TO b", "a"),
        ('ALTER DATABASE "A" SET TABLESPACE t', "A"),
        ("ALTER DATABASE a SET work_mem = '1MB'", None),
        ("ALTER DATABASE a OWNER TO b", None),
        ("SELECT 'DROP DATABASE a'", None),
    ],
)
def test_which_database(text: str, database: str | None) -> None:
    assert [each.occupies for each in analyse(text).statements] == [database]
