"""Both logins as scripts of messages."""

import hashlib
import struct

import pytest

from proxy.wire.client_login import (
    AuthenticationFailed,
    Md5Exchange,
    PlainExchange,
    ScramExchange,
)
from proxy.wire.errors import PgError, ProtocolViolation
from proxy.wire.framing import split_messages
from proxy.wire.messages import message
from proxy.wire.passwords import Md5Hash, PlainPassword, ServerSecret, md5_answer, md5_hash
from proxy.wire.scram import (
    MECHANISM,
    MECHANISM_PLUS,
    ScramClient,
    ScramKeys,
    ScramServer,
    Verifier,
    make_verifier,
)
from proxy.wire.server_login import ServerLogin


def request(code: int, data: bytes = b"") -> bytes:
    """The body of an AuthenticationRequest."""
    return struct.pack(">I", code) + data


def server_login(password: str | None = "secret") -> ServerLogin:
    secret = None if password is None else PlainPassword(password)
    return ServerLogin("postgres", secret, {"database": "app"})


def test_a_login_without_a_password() -> None:
    login = server_login(None)
    assert login.start()[4:8] == b"\0\3\0\0"
    assert b"user\0postgres\0database\0app\0\0" in login.start()
    assert login.receive(ord("R"), request(0)) == b""
    assert login.receive(ord("S"), b"TimeZone\0UTC\0") == b""
    assert login.receive(ord("N"), b"Mhello\0\0") == b""
    assert login.receive(ord("K"), struct.pack(">I", 4711) + b"abcd") == b""
    assert not login.done
    login.receive(ord("Z"), b"I")
    assert login.done
    assert (login.process_id, login.secret) == (4711, b"abcd")
    assert login.parameters == {b"TimeZone": b"UTC"}


def test_a_cleartext_password() -> None:
    assert server_login().receive(ord("R"), request(3)) == b"p\0\0\0\x0bsecret\0"


def test_an_md5_password() -> None:
    """The hash of user and password "postgres" is what pg_authid shows for it."""
    login = server_login("postgres")
    stored = b"3175bce1d3201d16594cebf9d7eb3f9d"
    expected = b"md5" + hashlib.md5(stored + b"salt").hexdigest().encode() + b"\0"
    assert login.receive(ord("R"), request(5, b"salt")) == message(b"p", expected)


def test_scram_against_our_own_server() -> None:
    login = server_login()
    server = ScramServer(make_verifier("secret", b"salt", 5))
    offer = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    first = login.receive(ord("R"), offer)[5:]
    mechanism, _, rest = first.partition(b"\0")
    assert mechanism == b"SCRAM-SHA-256"
    final = login.receive(ord("R"), request(11, server.first(rest[4:])))[5:]
    assert login.receive(ord("R"), request(12, server.final(final))) == b""
    assert login.receive(ord("R"), request(0)) == b""


def test_a_server_that_skips_its_own_proof_is_refused() -> None:
    login = server_login()
    login.receive(ord("R"), request(10, b"SCRAM-SHA-256\0\0"))
    with pytest.raises(ProtocolViolation):
        login.receive(ord("R"), request(0))


@pytest.mark.parametrize("code", [2, 6, 7, 8, 9, 11, 12, 99])
def test_methods_that_are_not_supported(code: int) -> None:
    with pytest.raises(PgError) as refused:
        server_login().receive(ord("R"), request(code))
    assert refused.value.sqlstate == "28P01"


def test_a_password_that_is_not_configured() -> None:
    with pytest.raises(PgError, match="Penstock has none"):
        server_login(None).receive(ord("R"), request(3))


def test_a_servers_error_is_passed_on() -> None:
    with pytest.raises(PgError) as refused:
        server_login().receive(ord("E"), b"SFATAL\0C28000\0Mno entry\0Htry it\0\0")
    assert (refused.value.sqlstate, refused.value.message) == ("28000", "no entry")
    assert refused.value.hint == "try it"


@pytest.mark.parametrize("kind", b"DTGdQ1")
def test_messages_that_have_no_place_in_a_login(kind: int) -> None:
    with pytest.raises(ProtocolViolation):
        server_login().receive(kind, b"")


VERIFIER = make_verifier("secret", b"0123456789abcdef", 5)
BINDING = b"end point"


def initial(first: bytes, mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    """A SASLInitialResponse."""
    return mechanism + b"\0" + struct.pack(">I", len(first)) + first


def by_scram(
    password: str,
    *,
    server: bytes | None = None,
    client: bytes | None = None,
    sees: tuple[str, ...] = (MECHANISM, MECHANISM_PLUS),
) -> ScramExchange:
    """A client's whole exchange. Raises AuthenticationFailed where it is refused."""
    login = ScramExchange("app", VERIFIER, server)
    offered = login.start()[9:].decode().strip("\0").split("\0")
    scram = ScramClient(
        password, binding=client, offered=[name for name in offered if name in sees]
    )
    body = initial(scram.first(), scram.mechanism.encode())
    challenge = login.receive(body)
    assert challenge[5:9] == b"\0\0\0\x0b"
    (_, proof), (_, accepted) = split_messages(login.receive(scram.final(challenge[9:])))
    assert (proof[:4], accepted) == (request(12), request(0))
    scram.verify(proof[4:])
    return login


def test_a_client_that_knows_its_password() -> None:
    login = by_scram("secret")
    assert login.done
    assert login.start() == b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"


def test_what_a_proof_gives_away_logs_in_to_a_server_with_the_same_verifier() -> None:
    keys = by_scram("secret").learned
    assert isinstance(keys, ScramKeys)
    login = ServerLogin("app", keys, {})
    first = login.receive(ord("R"), request(10, b"SCRAM-SHA-256\0\0"))[5:]
    server = ScramServer(VERIFIER)
    answer = server.first(first.partition(b"\0")[2][4:])
    final = login.receive(ord("R"), request(11, answer))[5:]
    login.receive(ord("R"), request(12, server.final(final)))
    assert login.receive(ord("R"), request(0)) == b""


@pytest.mark.parametrize(
    "other",
    [
        make_verifier("secret", b"0123456789abcdef", 6),
        make_verifier("secret", b"fedcba9876543210", 5),
    ],
)
def test_keys_of_another_verifier_are_not_tried(other: Verifier) -> None:
    keys = by_scram("secret").learned
    login = ServerLogin("app", keys, {})
    first = login.receive(ord("R"), request(10, b"SCRAM-SHA-256\0\0"))[5:]
    answer = ScramServer(other).first(first.partition(b"\0")[2][4:])
    with pytest.raises(PgError, match="another SCRAM verifier"):
        login.receive(ord("R"), request(11, answer))


def test_a_wrong_password() -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        by_scram("wrong")
    assert refused.value.sqlstate == "28P01"
    assert refused.value.message == 'password authentication failed for user "app"'
    assert refused.value.reason == "the password is wrong"


def test_channel_binding() -> None:
    assert by_scram("secret", server=BINDING, client=BINDING).done
    assert b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0" in ScramExchange("a", VERIFIER, BINDING).start()


def test_a_client_without_channel_binding_where_it_is_offered() -> None:
    assert by_scram("secret", server=BINDING).done


def test_a_client_that_could_bind_where_it_is_not_offered() -> None:
    assert by_scram("secret", client=BINDING).done


@pytest.mark.parametrize(
    ("client", "sees", "reason"),
    [
        (b"other", (MECHANISM, MECHANISM_PLUS), "of another channel"),
        (BINDING, (MECHANISM,), "was not shown"),
    ],
    ids=["man in the middle", "offer taken away"],
)
def test_attacks_on_channel_binding(client: bytes, sees: tuple[str, ...], reason: str) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        by_scram("secret", server=BINDING, client=client, sees=sees)
    assert reason in refused.value.reason


@pytest.mark.parametrize(
    ("mechanism", "first"),
    [
        (b"SCRAM-SHA-256-PLUS", b"n,,n=,r=abc"),
        (b"SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=,r=abc"),
        (b"SCRAM-SHA-256", b"p=tls-server-end-point,,n=,r=abc"),
        (b"SCRAM-SHA-256", b"x,,n=,r=abc"),
        (b"SCRAM-SHA-256", b"n,a=other,n=,r=abc"),
        (b"SCRAM-SHA-256", b"n,,n=,r="),
        (b"SCRAM-SHA-256", b"n"),
    ],
)
def test_first_messages_that_break_the_rules(mechanism: bytes, first: bytes) -> None:
    with pytest.raises(AuthenticationFailed):
        ScramExchange("app", VERIFIER, BINDING).receive(initial(first, mechanism))


def test_channel_binding_to_a_server() -> None:
    login = ServerLogin("app", PlainPassword("secret"), {})
    login.channel_binding = BINDING
    offer = request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")
    first = login.receive(ord("R"), offer)[5:]
    mechanism, _, rest = first.partition(b"\0")
    assert mechanism == b"SCRAM-SHA-256-PLUS"
    server = ScramServer(VERIFIER, binding=BINDING)
    final = login.receive(ord("R"), request(11, server.first(rest[4:], MECHANISM_PLUS)))[5:]
    assert login.receive(ord("R"), request(12, server.final(final))) == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"SCRAM-SHA-256",
        b"SCRAM-SHA-256\0",
        b"SCRAM-SHA-1\0\0\0\0\3abc",
        b"SCRAM-SHA-256\0\0\0\0\4abc",
        b"SCRAM-SHA-256\0\xff\xff\xff\xff",
    ],
)
def test_malformed_first_responses(body: bytes) -> None:
    with pytest.raises(PgError):
        ScramExchange("app", VERIFIER).receive(body)


def by_md5(password: str, stored: Md5Hash | None) -> Md5Exchange:
    login = Md5Exchange("postgres", stored)
    asked = login.start()
    assert asked[:9] == b"R\0\0\0\x0c\0\0\0\5"
    answer = md5_answer(md5_hash("postgres", password), asked[9:])
    assert login.receive(answer + b"\0") == b"R\0\0\0\x08\0\0\0\0"
    return login


def test_md5_against_its_hash() -> None:
    """The hash is what pg_authid shows for it."""
    stored = Md5Hash("md53175bce1d3201d16594cebf9d7eb3f9d")
    assert by_md5("postgres", stored).learned == stored


@pytest.mark.parametrize("stored", [md5_hash("postgres", "secret"), None])
def test_md5_refused(stored: Md5Hash | None) -> None:
    with pytest.raises(AuthenticationFailed):
        by_md5("wrong", stored)


PLAIN = [
    pytest.param(VERIFIER, None, id="verifier"),
    pytest.param(make_verifier("mock"), md5_hash("app", "secret"), id="hash"),
]


@pytest.mark.parametrize(("verifier", "stored"), PLAIN)
def test_the_password_itself(verifier: Verifier, stored: Md5Hash | None) -> None:
    login = PlainExchange("app", verifier, stored)
    assert login.start() == b"R\0\0\0\x08\0\0\0\3"
    login.receive(b"secret\0")
    assert login.done
    assert login.learned == PlainPassword("secret")


@pytest.mark.parametrize("body", [b"wrong\0", b"\0", b"", b"secre\xff\0", b"mock\0"])
@pytest.mark.parametrize(("verifier", "stored"), PLAIN)
def test_another_password(verifier: Verifier, stored: Md5Hash | None, body: bytes) -> None:
    """Where a hash is stored, the password of the verifier beside it is none."""
    with pytest.raises(AuthenticationFailed):
        PlainExchange("app", verifier, stored).receive(body)


@pytest.mark.parametrize(
    ("secret", "code", "message"),
    [
        (md5_hash("postgres", "secret"), 10, "wants SCRAM .* only an md5 hash"),
        (md5_hash("postgres", "secret"), 3, "wants the password itself .* only an md5 hash"),
        (ScramKeys(b"", 1, b"", b""), 5, "wants an md5 hash .* only SCRAM keys"),
        (ScramKeys(b"", 1, b"", b""), 3, "wants the password itself .* only SCRAM keys"),
    ],
)
def test_a_server_that_wants_what_is_not_at_hand(
    secret: ServerSecret, code: int, message: str
) -> None:
    with pytest.raises(PgError, match=message):
        ServerLogin("postgres", secret, {}).receive(ord("R"), request(code, b"SCRAM-SHA-256\0\0"))


def test_an_md5_hash_logs_in_where_it_is_asked_for() -> None:
    stored = md5_hash("postgres", "postgres")
    login = ServerLogin("postgres", stored, {})
    expected = md5_answer(stored, b"salt") + b"\0"
    assert login.receive(ord("R"), request(5, b"salt")) == message(b"p", expected)


def test_no_secret_shows_itself() -> None:
    secrets = (PlainPassword("secret"), md5_hash("app", "secret"), VERIFIER, by_scram("secret"))
    shown = repr(secrets) + repr(by_scram("secret").learned) + str(secrets)
    assert "secret" not in shown
    assert repr(VERIFIER.stored_key) not in shown
