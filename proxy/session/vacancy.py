"""A statement that demands a database free of others, as a session and the process see it.

DROP DATABASE, RENAME and the use of a template are refused by PostgreSQL (55006) while anybody is
connected to the database. Penstock's own idle connections must not be the ones who are.
"""

from collections.abc import Callable
from typing import Protocol


class Vacancy(Protocol):
    """Databases that Penstock stays away from, from when it is handed out until its end."""

    def forget_results(self, done: Callable[[], None]) -> None:
        """Take all that was read from them out of the cache; `done` is called when it is."""

    def end(self) -> None:
        """The statement has been answered: go on as before."""
