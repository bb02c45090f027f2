"""Checks of who may log in, and by which names."""

from collections.abc import Iterator

from proxy.config.findings import Check, Finding, twice
from proxy.config.positions import Path
from proxy.config.problems import nearest
from proxy.config.settings import Settings


def _users(settings: Settings) -> Iterator[Finding]:
    users = settings.auth.users
    yield from twice([user.name for user in users], ("auth", "users"))
    if not users and not others(settings):
        message = "there is none, so nobody can log in: add [[auth.users]] with name and password"
        yield Finding(("auth", "users"), message)


def others(settings: Settings) -> bool:
    """Whether there may be users who are not in auth.users."""
    auth = settings.auth
    looked_up = auth.auth_user or any(one.auth_user for one in settings.databases.values())
    return bool(auth.auth_file or looked_up)


def _passwords(settings: Settings) -> Iterator[Finding]:
    auth = settings.auth
    if auth.method in ("trust", "cert", "peer", "hba") or not auth.users or others(settings):
        return
    if all(user.password is None for user in auth.users):
        message = f"{auth.method} needs passwords and no user has one: nobody can log in"
        yield Finding(("auth", "method"), message)


def _hba(settings: Settings) -> Iterator[Finding]:
    auth = settings.auth
    if auth.method == "hba" and auth.auth_hba_file is None:
        message = "needs the file of the rules, and it is not named"
        yield Finding(("auth", "method"), message, 'auth_hba_file = "pg_hba.conf"')
    if auth.method != "hba" and auth.auth_hba_file is not None:
        message = f'is not used: auth.method is {auth.method}, so set method = "hba"'
        yield Finding(("auth", "auth_hba_file"), message)


def _auth_dbnames(settings: Settings) -> Iterator[Finding]:
    names = list(settings.databases)
    wanted: list[tuple[Path, str | None]] = [(("auth",), settings.auth.auth_dbname)]
    wanted += [(("database", name), one.auth_dbname) for name, one in settings.databases.items()]
    for path, name in wanted:
        if name is not None and name not in names and "*" not in names:
            message = "no [database.NAME] has this name"
            allowed = ", ".join(names) or None
            yield Finding((*path, "auth_dbname"), message, allowed, nearest(name, names))


def _admins(settings: Settings) -> Iterator[Finding]:
    if others(settings):
        return
    names = [user.name for user in settings.auth.users]
    for index, admin in enumerate(settings.auth.admins):
        if admin not in names:
            yield no_user(("auth", "admins", index), admin, names)


def _monitor_users(settings: Settings) -> Iterator[Finding]:
    if settings.auth.auth_file is not None:
        return
    names = [user.name for user in settings.auth.users]
    for name, database in settings.databases.items():
        user = database.monitor_user
        if user is not None and user not in names:
            yield no_user(("database", name, "monitor_user"), user, names)


def no_user(path: Path, name: str, names: list[str]) -> Finding:
    """The finding for a name that no [[auth.users]] has."""
    message = "no [[auth.users]] has this name"
    return Finding(path, message, ", ".join(dict.fromkeys(names)) or None, nearest(name, names))


AUTH_CHECKS: tuple[tuple[Check, tuple[str, ...]], ...] = (
    (_users, ("auth.users.*.name", "auth.auth_file", "auth.auth_user")),
    (
        _passwords,
        ("auth.method", "auth.users.*.password", "auth.auth_file", "auth.auth_user"),
    ),
    (_hba, ("auth.method", "auth.auth_hba_file")),
    (_auth_dbnames, ("auth.auth_dbname", "database")),
    (_admins, ("auth.admins", "auth.users.*.name", "auth.auth_file", "auth.auth_user")),
    (_monitor_users, ("database.*.monitor_user", "auth.users.*.name", "auth.auth_file")),
)
"""See `checks.CHECKS`."""
