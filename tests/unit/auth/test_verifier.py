"""Stored secrets as text."""

import pytest

from proxy.auth.verifier import parse_stored, write_verifier
from proxy.auth.verifiers import Verifiers
from proxy.wire.passwords import Md5Hash, PlainPassword
from proxy.wire.scram import ITERATIONS, Verifier, make_verifier, password_fits

STORED = write_verifier(make_verifier("secret", b"0123456789abcdef", 10))


def test_a_verifier_reads_back() -> None:
    parsed = parse_stored(STORED)
    assert isinstance(parsed, Verifier)
    assert password_fits(parsed, "secret")
    assert not password_fits(parsed, "other")
    assert write_verifier(parsed) == STORED


def test_an_md5_hash() -> None:
    text = "md53175bce1d3201d16594cebf9d7eb3f9d"
    assert parse_stored(text) == Md5Hash(text)


@pytest.mark.parametrize(
    "text",
    [
        "secret",
        "md5",
        "md53175BCE1D3201D16594CEBF9D7EB3F9D",
        "md53175bce1d3201d16594cebf9d7eb3f9d0",
        STORED[:-1],
        STORED.replace("$10:", "$0:"),
        STORED.replace("$10:", "$x:"),
        STORED + "\n",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA",
        "SCRAM-SHA-256$4096:A$B:C",
    ],
)
def test_what_is_a_plain_password(text: str) -> None:
    assert parse_stored(text) == PlainPassword(text)


def test_no_password() -> None:
    assert parse_stored("") is None


def test_unknown_users_look_like_those_with_plain_passwords() -> None:
    """The salt comes from the same key, so that it doesn't change when the user is made."""
    verifiers, other = Verifiers(b"key"), Verifiers(b"another key")
    mock = verifiers.of("app", None)
    assert verifiers.of("app", None) == mock
    real = verifiers.of("app", PlainPassword("secret"))
    assert (mock.salt, mock.iterations) == (real.salt, real.iterations) == (mock.salt, ITERATIONS)
    assert mock.stored_key != real.stored_key
    assert password_fits(real, "secret")
    assert verifiers.of("ops", None).salt != mock.salt
    assert Verifiers(b"key").of("app", None).salt == mock.salt
    assert other.of("app", None).salt != mock.salt


def test_a_stored_verifier_is_used_as_it_is() -> None:
    stored = make_verifier("secret")
    assert Verifiers(b"key").of("app", stored) is stored


def test_the_first_look_costs_the_same_whatever_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[str] = []

    def counting(password: str, salt: bytes) -> Verifier:
        derived.append(password)
        return make_verifier(password, salt, 1)

    monkeypatch.setattr("proxy.auth.verifiers.make_verifier", counting)
    verifiers = Verifiers(b"key")
    stored = [None, PlainPassword("x"), Md5Hash("md5" + "0" * 32), make_verifier("y")]
    for turn in (1, 2):
        for number, one in enumerate(stored):
            verifiers.of(f"user {number}", one)
        assert len(derived) == len(stored), f"turn {turn}"
    verifiers.of("user 1", PlainPassword("changed"))
    assert derived[-1] == "changed"


def test_the_names_that_are_kept_are_bounded() -> None:
    verifiers = Verifiers(b"key", most=3)
    first = verifiers.of("0", None)
    for number in range(1, 4):
        verifiers.of(str(number), None)
    assert verifiers.of("0", None).stored_key != first.stored_key
