"""From the settings, and the files that they name, to an `Authentication`."""

import ipaddress
import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from proxy.auth import hba
from proxy.auth.authentication import Authentication, UserQuery
from proxy.auth.hba import HbaRule
from proxy.auth.identmap import IdentMaps, read_ident_file
from proxy.auth.networks import Interface
from proxy.auth.problems import AuthError, Problem
from proxy.auth.throttle import Limits
from proxy.auth.userlist import read_userlist
from proxy.auth.verifier import parse_stored
from proxy.config.settings import AuthSettings, DatabaseSettings, Settings
from proxy.wire.passwords import Md5Hash, PlainPassword, ServerSecret, StoredSecret
from proxy.wire.scram import Verifier

_random_key = secrets.token_bytes(32)
"""The process's own, where none is configured; the same after a reload."""


def load_auth(settings: Settings) -> Authentication:
    """Read and check all that authentication needs. Raises AuthError with every problem found."""
    problems: list[Problem] = []
    auth = settings.auth
    maps = read_ident_file(Path(auth.auth_ident_file), problems) if auth.auth_ident_file else {}
    rules = _rules(auth, maps, problems)
    stored = _stored(auth, problems)
    server_secrets = _server_secrets(auth, stored)
    queries = _queries(settings)
    problems += _unusable_logins(settings, queries, stored, server_secrets)
    if problems:
        raise AuthError(problems)
    nonce = auth.mock_authentication_nonce
    return Authentication(
        rules,
        maps,
        stored,
        server_secrets,
        queries,
        nonce.get_secret_value().encode() if nonce else _random_key,
        _first_user(auth, server_secrets),
        Limits(auth.throttle_failures, auth.throttle_window, auth.throttle_delay),
    )


def _rules(auth: AuthSettings, maps: IdentMaps, problems: list[Problem]) -> tuple[HbaRule, ...]:
    if auth.method != "hba":
        return (hba.rule_for_all(auth.method, "auth.method"),)
    if auth.auth_hba_file is None:
        problems.append(Problem("auth.auth_hba_file", "is not set, and auth.method is hba"))
        return ()
    rules = hba.read_hba_file(Path(auth.auth_hba_file), problems, _interfaces())
    for rule in rules:
        if rule.map is not None and rule.map not in maps:
            where = auth.auth_ident_file or "auth.auth_ident_file, which is not set"
            problems.append(Problem(rule.place, f'the map "{rule.map}" is not in {where}'))
    return rules


def _interfaces() -> Sequence[Interface]:
    """The addresses of this machine, with their networks."""
    found: list[Interface] = []
    for addresses in psutil.net_if_addrs().values():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                address = one.address.partition("%")[0]
                length = _length(one.netmask, one.family == socket.AF_INET6)
                found.append(ipaddress.ip_interface(f"{address}/{length}"))
    return found


def _length(mask: str | None, six: bool) -> int:
    if mask is None:
        return 128 if six else 32
    return int(ipaddress.ip_address(mask)).bit_count()


def _stored(auth: AuthSettings, problems: list[Problem]) -> Mapping[str, StoredSecret | None]:
    """What passwords are checked against, by user."""
    listed: Mapping[str, str] = {}
    if auth.auth_file is not None:
        listed = read_userlist(Path(auth.auth_file), problems)
    texts = dict(listed)
    for user in auth.users:
        if user.password is not None and user.name in listed:
            message = f'"{user.name}" has a password here and in {auth.auth_file}: give it only one'
            problems.append(Problem("auth.users", message))
        if user.password is not None:
            texts[user.name] = user.password.get_secret_value()
        else:
            texts.setdefault(user.name, "")
    return {name: parse_stored(text) for name, text in texts.items()}


def _server_secrets(
    auth: AuthSettings, stored: Mapping[str, StoredSecret | None]
) -> Mapping[str, ServerSecret]:
    found: dict[str, ServerSecret] = {}
    for name, secret in stored.items():
        if isinstance(secret, PlainPassword | Md5Hash):
            found[name] = secret
    for user in auth.users:
        if user.server_password is not None:
            own = parse_stored(user.server_password.get_secret_value())
            if isinstance(own, PlainPassword | Md5Hash):
                found[user.name] = own
    return found


def _first_user(auth: AuthSettings, server_secrets: Mapping[str, ServerSecret]) -> str | None:
    """The first user of the settings, or else one whose password is known."""
    if auth.users:
        return auth.users[0].name
    known = [name for name, one in server_secrets.items() if isinstance(one, PlainPassword)]
    return auth.auth_user if auth.auth_user in known or not known else known[0]


def _queries(settings: Settings) -> Mapping[str, UserQuery | None]:
    found = {"*": _query(settings.auth, None)}
    for name, database in settings.databases.items():
        found[name] = _query(settings.auth, database)
    return found


def _query(auth: AuthSettings, own: DatabaseSettings | None) -> UserQuery | None:
    """The database's own settings win over those for all, one by one."""
    user = (own and own.auth_user) or auth.auth_user
    if user is None:
        return None
    sql = (own and own.auth_query) or auth.auth_query
    return UserQuery(sql, user, (own and own.auth_dbname) or auth.auth_dbname)


def _unusable_logins(
    settings: Settings,
    queries: Mapping[str, UserQuery | None],
    stored: Mapping[str, StoredSecret | None],
    server_secrets: Mapping[str, ServerSecret],
) -> list[Problem]:
    """Logins of Penstock's own that could not be made with what is known."""
    problems = []
    for user in settings.auth.users:
        password = user.server_password
        if password and isinstance(parse_stored(password.get_secret_value()), Verifier):
            message = f'server_password of "{user.name}" is a SCRAM verifier, which logs in nowhere'
            problems.append(Problem("auth.users", message))
    for name in {query.user for query in queries.values() if query is not None}:
        if isinstance(stored.get(name), Verifier) and name not in server_secrets:
            message = (
                f'only a SCRAM verifier is known of "{name}", which does not log in to a server: '
                f"give it a server_password in auth.users"
            )
            problems.append(Problem("auth.auth_user", message))
    for database, own in settings.databases.items():
        user_name = own.monitor_user
        if user_name is None or stored.get(user_name) is None:
            continue
        if not isinstance(server_secrets.get(user_name), PlainPassword):
            message = f'the password of "{user_name}" must be known as it is, not as a hash'
            problems.append(Problem(f"database.{database}.monitor_user", message))
    return problems
