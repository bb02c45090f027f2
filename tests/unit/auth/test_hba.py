"""HBA rules: what they match, and what is refused with file and line."""

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.hba import Attempt, HbaRule, decide, read_hba_file, rule_for_all
from proxy.auth.problems import Problem

INTERFACES = [ipaddress.ip_interface("10.1.2.3/24"), ipaddress.ip_interface("fd00::7/64")]


def read(directory: Path, text: str) -> tuple[tuple[HbaRule, ...], list[str]]:
    path = directory / "pg_hba.conf"
    path.write_text(text)
    problems: list[Problem] = []
    rules = read_hba_file(path, problems, INTERFACES)
    return rules, [str(problem).replace(f"{directory}/", "") for problem in problems]


def attempt(
    user: str = "app",
    database: str = "shop",
    address: str | None = "10.0.0.1",
    *,
    tls: bool = False,
    replication: bool = False,
) -> Attempt:
    host = None if address is None else ipaddress.ip_address(address)
    return Attempt(user, database, host, tls, replication)


@pytest.mark.parametrize(
    ("line", "client", "fits"),
    [
        ("host all all all trust", attempt(), True),
        ("host all all all trust", attempt(address=None), False),
        ("host all all all trust", attempt(tls=True), True),
        ("hostnogssenc all all all trust", attempt(), True),
        ("local all all trust", attempt(address=None), True),
        ("local all all trust", attempt(), False),
        ("hostssl all all all trust", attempt(), False),
        ("hostssl all all all trust", attempt(tls=True), True),
        ("hostnossl all all all trust", attempt(), True),
        ("hostnossl all all all trust", attempt(tls=True), False),
        # Databases and users
        ("host shop all all trust", attempt(), True),
        ("host Shop all all trust", attempt(), False),
        ("host blog,shop all all trust", attempt(), True),
        ('host "all" all all trust', attempt(), False),
        ('host "all" all all trust', attempt(database="all"), True),
        ("host sameuser all all trust", attempt(), False),
        ("host sameuser all all trust", attempt(database="app"), True),
        ("host /^sh all all trust", attempt(), True),
        ("host /op$ all all trust", attempt(), True),
        ("host /^op all all trust", attempt(), False),
        ('host "/^s[a-z]{2,3}$" all all trust', attempt(), True),
        ("host all app all trust", attempt(), True),
        ("host all ops,app all trust", attempt(), True),
        ("host all /^app$ all trust", attempt(user="app\n"), False),
        ("host all /a all trust", attempt(user="a" * 64), False),
        ('host all "+app" all trust', attempt(user="+app"), True),
        # Replication of the physical kind is no database
        ("host all all all trust", attempt(replication=True), False),
        ("host replication all all trust", attempt(replication=True), True),
        ("host replication all all trust", attempt(database="replication"), False),
        ('host "replication" all all trust', attempt(database="replication"), True),
        # Addresses
        ("host all all 10.0.0.0/8 trust", attempt(), True),
        ("host all all 10.0.0.77/8 trust", attempt(), True),
        ("host all all 11.0.0.0/8 trust", attempt(), False),
        ("host all all 10.0.0.0 255.0.0.0 trust", attempt(), True),
        ("host all all 10.0.0.2 255.255.255.255 trust", attempt(), False),
        ("host all all 0.0.0.0/0 trust", attempt(address="fd00::1"), False),
        ("host all all ::/0 trust", attempt(), False),
        ("host all all ::/0 trust", attempt(address="fd00::1"), True),
        ("host all all fd00:: ffff:: trust", attempt(address="fd00::1"), True),
        ("host all all samehost trust", attempt(address="10.1.2.3"), True),
        ("host all all samehost trust", attempt(address="10.1.2.4"), False),
        ("host all all samenet trust", attempt(address="10.1.2.4"), True),
        ("host all all samenet trust", attempt(address="fd00::8"), True),
        ("host all all samenet trust", attempt(), False),
    ],
)
def test_matching(tmp_path: Path, line: str, client: Attempt, fits: bool) -> None:
    (rule,), problems = read(tmp_path, line + "\n")
    assert not problems
    assert rule.matches(client) is fits


def test_the_first_match_decides(tmp_path: Path) -> None:
    text = "host shop all all reject\nhost all app all md5\nhost all all all trust\n"
    rules, _ = read(tmp_path, text)
    assert [
        found.method if (found := decide(rules, each)) else None
        for each in (attempt(), attempt(database="x"), attempt("b", "x"), attempt(address=None))
    ] == ["reject", "md5", "trust", None]


@pytest.mark.parametrize(
    "client", [attempt(), attempt(address=None), attempt(tls=True), attempt(replication=True)]
)
def test_one_method_for_all(client: Attempt) -> None:
    assert rule_for_all("md5", "auth.method").matches(client)


def test_names_in_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "admins").write_text("ops\nroot, app\n")
    (rule,), _ = read(tmp_path, "host all @admins all trust\n")
    assert [rule.matches(attempt(user)) for user in ("ops", "app", "other")] == [True, True, False]


def test_options(tmp_path: Path) -> None:
    text = (
        "local all all peer map=one\n"
        "hostssl all all all cert map=two clientname=DN\n"
        "hostssl all all all scram-sha-256 clientcert=verify-ca\n"
        "hostssl all all all md5 clientcert=verify-full\n"
        "local all all ident\n"
    )
    rules, problems = read(tmp_path, text)
    assert not problems
    assert [
        (rule.method, rule.map, rule.client_certificate, rule.client_name) for rule in rules
    ] == [
        ("peer", "one", None, "CN"),
        ("cert", "two", "verify-full", "DN"),
        ("scram-sha-256", None, "verify-ca", "CN"),
        ("md5", None, "verify-full", "CN"),
        ("peer", None, None, "CN"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("host", "the line ends before the database"),
        ("host all", "the line ends before the user"),
        ("host all all", "the line ends before the address"),
        ("local all all", "the line ends before the method"),
        ("host all all 10.0.0.1", "the line ends before the netmask"),
        ("hos all all all trust", 'the connection type "hos" is not known here; allowed: local, '),
        ("hostgssenc all all all trust", 'the connection type "hostgssenc" is not known here'),
        ("host,local all all all trust", "the connection type must be one word, without commas"),
        ("host samerole all all trust", '"samerole": Penstock does not know who is a member'),
        ("host all +ops all trust", '"+ops": Penstock does not know who is a member of a role'),
        ("host all all db.example trust", '"db.example" is no address: write one with its length'),
        ("host all all .example.com trust", "host names are not looked up"),
        ("host all all 10.0.0.0/33 trust", '"10.0.0.0/33": '),
        ("host all all 10.0.0.0/x trust", "the length after the slash must be a number"),
        ("host all all 10.0.0.0 255.0.255.0 trust", "a mask must be ones followed by zeros"),
        ("host all all 10.0.0.0 ffff:: trust", "address and mask are of different kinds"),
        ("host all all 10.0.0.0 trust", "'trust' does not appear to be an IPv4 or IPv6 address"),
        ("host all all all kerberos", 'the method "kerberos" is not known; allowed: trust, reject'),
        ("host all all all ldap", 'the method "ldap" is not supported; allowed: trust, reject'),
        ("host all all all ident", 'the method "ident" is not supported'),
        ("host all all all peer", "the method peer is for local connections"),
        ("host all all all cert", "the method cert is for hostssl connections"),
        ("host all all all trust now", '"now" is no option: options are written name=value'),
        ("host all all all md5 map=x", "the option map is for the methods cert and peer"),
        ("host all all all md5 clientcert=verify-ca", "clientcert is for hostssl connections"),
        ("hostssl all all all md5 clientcert=1", "clientcert=1: allowed are verify-ca and"),
        ("hostssl all all all cert clientcert=verify-ca", "cert always verifies the name"),
        ("hostssl all all all cert clientname=x", "clientname=x: allowed are CN and DN"),
        ("host all all all md5 ldapserver=x", 'the option "ldapserver" is not known; allowed: map'),
        ("host /[ all all trust", 'the regular expression "[" is wrong'),
        ("host /[[:alpha:]] all all trust", "means something else to PostgreSQL than here"),
        (r"host /\mx all all trust", "means something else to PostgreSQL than here"),
    ],
)
def test_what_is_refused(tmp_path: Path, line: str, message: str) -> None:
    rules, problems = read(tmp_path, f"# first\nlocal all all trust\n{line}\n")
    assert len(rules) == 1
    (problem,) = problems
    assert problem.startswith("pg_hba.conf:3: ")
    assert message in problem


def test_a_file_without_rules(tmp_path: Path) -> None:
    assert read(tmp_path, "# none\n")[1] == ["pg_hba.conf: has no rule, so nobody could log in"]


def test_an_attempt_in_words() -> None:
    assert str(attempt()) == 'host "10.0.0.1", user "app", database "shop", no encryption'
    assert str(attempt(address=None, tls=True)).startswith('host "[local]"')


_TEXT = r"""host local hostssl all app "all" /^a( /a 10.0.0.0/8 10.0.0.1 255.0.0.0 samenet ::/0 md5
cert peer map=x @x " \ include include_dir , # clientcert=verify-ca reject trust +x"""
WORDS = [*_TEXT.split(), "\n"]
LINES = st.lists(st.sampled_from(WORDS)).map(" ".join)


@given(LINES | st.text())
def test_any_text_gives_rules_or_problems(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any_hba.conf"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    problems: list[Problem] = []
    rules = read_hba_file(path, problems, INTERFACES)
    assert rules or problems
    for rule in rules:
        rule.matches(attempt())
