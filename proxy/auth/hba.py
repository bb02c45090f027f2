"""HBA rules: which connections must show by what method who they are. The first match decides.

Source: PostgreSQL 16, hba.c (parse_hba_line, check_hba); documentation, "The pg_hba.conf File".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from proxy.auth.networks import Address, Interface, Network, needs_mask, read_networks
from proxy.auth.patterns import Pattern, pattern
from proxy.auth.problems import BadLine, Place, Problem
from proxy.auth.tokens import Field, Line, Token, read_lines

Method = Literal["trust", "reject", "md5", "scram-sha-256", "password", "cert", "peer"]
METHODS: Final[tuple[Method, ...]] = (
    "trust",
    "reject",
    "md5",
    "scram-sha-256",
    "password",
    "cert",
    "peer",
)
_ELSEWHERE = frozenset({"gss", "sspi", "ident", "pam", "bsd", "ldap", "radius", "oauth"})
_TYPES = ("local", "host", "hostssl", "hostnossl")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a rule looks at of a client that wants in."""

    user: str
    database: str
    address: Address | None
    """None: it came through a Unix socket."""
    tls: bool = False
    replication: bool = False
    """Of the physical kind, which has no database."""

    def __str__(self) -> str:
        host = "[local]" if self.address is None else str(self.address)
        database = "replication" if self.replication else self.database
        encryption = "TLS" if self.tls else "no encryption"
        return f'host "{host}", user "{self.user}", database "{database}", {encryption}'


@dataclass(frozen=True, slots=True)
class Name:
    """One entry of a rule's list of databases or users."""

    token: Token
    pattern: Pattern | None = None

    def fits(self, name: str) -> bool:
        """Whether a name is this one or matches the expression."""
        if self.pattern is not None:
            return self.pattern.search(name) is not None
        return self.token.text == name


@dataclass(frozen=True, slots=True)
class HbaRule:
    """One line."""

    place: Place | str
    type: str
    databases: tuple[Name, ...]
    users: tuple[Name, ...]
    networks: tuple[Network, ...] | None
    """None: all addresses."""
    method: Method
    map: str | None = None
    client_certificate: Literal["verify-ca", "verify-full"] | None = None
    """What the client must show beside what the method asks for."""
    client_name: Literal["CN", "DN"] = "CN"
    """What in the certificate names the user."""

    def matches(self, attempt: Attempt) -> bool:
        """Whether the rule decides on this attempt."""
        return (
            self._type_fits(attempt)
            and self._address_fits(attempt.address)
            and any(_database_fits(one, attempt) for one in self.databases)
            and any(one.token.is_keyword("all") or one.fits(attempt.user) for one in self.users)
        )

    def _type_fits(self, attempt: Attempt) -> bool:
        local = attempt.address is None
        if local or self.type == "local":
            return local and self.type in ("local", ANY)
        return {"hostssl": attempt.tls, "hostnossl": not attempt.tls}.get(self.type, True)

    def _address_fits(self, address: Address | None) -> bool:
        if self.networks is None or address is None:
            return True
        return any(address.version == net.version and address in net for net in self.networks)


ANY: Final = "any"
"""The type of a rule that is for every connection; not to be had in a file."""


def _database_fits(name: Name, attempt: Attempt) -> bool:
    if attempt.replication:
        return name.token.is_keyword("replication")
    if name.token.is_keyword("all"):
        return True
    if name.token.is_keyword("sameuser"):
        return attempt.database == attempt.user
    return not name.token.is_keyword("replication") and name.fits(attempt.database)


def rule_for_all(method: Method, place: str) -> HbaRule:
    """The rule that a single method for everybody amounts to."""
    everybody = (Name(Token("all")),)
    everything = (*everybody, Name(Token("replication")))
    return HbaRule(place, ANY, everything, everybody, None, method)


def decide(rules: Sequence[HbaRule], attempt: Attempt) -> HbaRule | None:
    """The first rule that matches."""
    return next((rule for rule in rules if rule.matches(attempt)), None)


def read_hba_file(
    path: Path, problems: list[Problem], interfaces: Sequence[Interface]
) -> tuple[HbaRule, ...]:
    """The rules of a file; problems are added to the list.

    `interfaces` are this machine's addresses, for samehost and samenet.
    """
    rules = []
    for line in read_lines(path, problems):
        try:
            rules.append(_parse(line, interfaces))
        except BadLine as error:
            problems.append(Problem(line.place, str(error)))
    if not rules and not problems:
        problems.append(Problem(Place(path), "has no rule, so nobody could log in"))
    return tuple(rules)


@dataclass(slots=True)
class _Rest:
    """The fields of a line that are still to be read."""

    fields: list[Field] = field(default_factory=list)

    def take(self, what: str) -> Field:
        if not self.fields:
            raise BadLine(f"the line ends before {what}")
        return self.fields.pop(0)

    def single(self, what: str) -> Token:
        tokens = self.take(what)
        if len(tokens) != 1:
            raise BadLine(f"{what} must be one word, without commas")
        return tokens[0]


def _parse(line: Line, interfaces: Sequence[Interface]) -> HbaRule:
    rest = _Rest(list(line.fields))
    type_ = _type(rest.single("the connection type"))
    databases = tuple(_database(token) for token in rest.take("the database"))
    users = tuple(_user(token) for token in rest.take("the user"))
    networks = None
    if type_ != "local":
        address = rest.single("the address")
        mask = None
        if needs_mask(address):
            mask = rest.single("the netmask").text
        networks = read_networks(address, mask, interfaces)
    method = _method(rest.single("the method"), type_)
    options = _options(rest.fields, type_, method)
    clientcert = options.get("clientcert")
    return HbaRule(
        line.place,
        type_,
        databases,
        users,
        networks,
        method,
        options.get("map"),
        "verify-full" if clientcert == "verify-full" else "verify-ca" if clientcert else None,
        "DN" if options.get("clientname") == "DN" else "CN",
    )


def _type(token: Token) -> str:
    if token.text == "hostnogssenc":
        return "host"  # nothing here is encrypted by GSSAPI
    if token.text not in _TYPES:
        raise BadLine(
            f'the connection type "{token.text}" is not known here; allowed: {", ".join(_TYPES)}'
        )
    return token.text


def _database(token: Token) -> Name:
    if token.is_keyword("samerole") or token.is_keyword("samegroup"):
        raise BadLine(
            f'"{token.text}": Penstock does not know who is a member of a role; list the databases'
        )
    return Name(token, pattern(token))


def _user(token: Token) -> Name:
    if not token.quoted and token.text.startswith("+"):
        raise BadLine(
            f'"{token.text}": Penstock does not know who is a member of a role; list the users, '
            f"name a file of them by @, or write a regular expression"
        )
    return Name(token, pattern(token))


def _method(token: Token, type_: str) -> Method:
    text = "peer" if token.text == "ident" and type_ == "local" else token.text
    found = next((method for method in METHODS if method == text), None)
    if found is None:
        known = "is not supported" if text in _ELSEWHERE else "is not known"
        raise BadLine(f'the method "{text}" {known}; allowed: {", ".join(METHODS)}')
    if found == "peer" and type_ != "local":
        raise BadLine("the method peer is for local connections, those through a Unix socket")
    if found == "cert" and type_ != "hostssl":
        raise BadLine("the method cert is for hostssl connections")
    return found


def _options(fields: Sequence[Field], type_: str, method: Method) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for token in (token for tokens in fields for token in tokens):
        name, equals, value = token.text.partition("=")
        if not equals:
            raise BadLine(f'"{token.text}" is no option: options are written name=value')
        _check_option(name, value, type_, method)
        options[name] = value
    if method == "cert":
        if options.get("clientcert", "verify-full") != "verify-full":
            raise BadLine("the method cert always verifies the name: clientcert=verify-full")
        options["clientcert"] = "verify-full"
    return options


def _check_option(name: str, value: str, type_: str, method: Method) -> None:
    if name == "map":
        if method not in ("cert", "peer"):
            raise BadLine("the option map is for the methods cert and peer")
    elif name == "clientcert":
        if type_ != "hostssl":
            raise BadLine("the option clientcert is for hostssl connections")
        if value not in ("verify-ca", "verify-full"):
            raise BadLine(f"clientcert={value}: allowed are verify-ca and verify-full")
    elif name == "clientname":
        if type_ != "hostssl":
            raise BadLine("the option clientname is for hostssl connections")
        if value not in ("CN", "DN"):
            raise BadLine(f"clientname={value}: allowed are CN and DN")
    else:
        raise BadLine(f'the option "{name}" is not known; allowed: map, clientcert, clientname')
