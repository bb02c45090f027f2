"""Nobody can tell a user that doesn't exist from one whose password is wrong."""

import struct
from collections.abc import Iterator

import pytest

from proxy.auth.userlist import write_entry
from proxy.wire.passwords import md5_answer, md5_hash
from proxy.wire.scram import ScramClient
from tests.integration.auth.servers import Server, proxy_with
from tests.integration.session.raw import Message, RawClient, message, startup
from tests.proxies import Proxy

KNOWN, UNKNOWN = "alice", "malory"


@pytest.fixture(scope="module", params=["scram-sha-256", "md5", "password"])
def proxy(
    request: pytest.FixtureRequest, server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxy]:
    """Penstock with a user of its own file."""
    settings = {"method": request.param, "auth_file": "userlist.txt", "throttle_failures": "0"}
    files = {"userlist.txt": write_entry(KNOWN, "secret")}
    with proxy_with(server, tmp_path_factory.mktemp("proxy"), settings, files) as proxy:
        yield proxy


async def conversation(proxy: Proxy, user: str) -> list[Message]:
    """All that the client is told on the way to being refused."""
    client = await RawClient.open(proxy)
    client.send(startup({"user": user, "database": proxy.database.name}))
    told = [await client.receive()]
    scram = ScramClient("wrong", nonce="of the client")
    while told[-1].kind == "R":
        client.send(message("p", _answer(user, scram, told[-1].body)))
        told.append(await client.receive())
    assert await client.rest() == []
    return told


def _answer(user: str, scram: ScramClient, body: bytes) -> bytes:
    match int.from_bytes(body[:4]):
        case 3:
            return b"wrong\0"
        case 5:
            return md5_answer(md5_hash(user, "wrong"), body[4:]) + b"\0"
        case 10:
            first = scram.first()
            return b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first
        case _:
            return scram.final(body[4:])


def _salt(told: list[Message]) -> str:
    return told[1].body.decode("latin-1").partition("s=")[2]


async def test_all_that_is_told_is_alike(proxy: Proxy) -> None:
    known, unknown = await conversation(proxy, KNOWN), await conversation(proxy, UNKNOWN)
    assert [(one.kind, len(one.body)) for one in known[:-1]] == [
        (one.kind, len(one.body)) for one in unknown[:-1]
    ]
    assert known[0].body[:4] == unknown[0].body[:4]
    assert {**known[-1].fields, "M": ""} == {**unknown[-1].fields, "M": ""}
    assert known[-1].fields["M"].replace(KNOWN, UNKNOWN) == unknown[-1].fields["M"]


@pytest.mark.parametrize("proxy", ["scram-sha-256"], indirect=True)
async def test_salts_stay_as_they_are(proxy: Proxy) -> None:
    """As those of real users do."""
    for user in (KNOWN, UNKNOWN):
        first, second = await conversation(proxy, user), await conversation(proxy, user)
        assert _salt(first) == _salt(second) != ""
