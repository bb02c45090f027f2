"""What no client should send, at every stage; and logins that must fail."""

import asyncio
import contextlib
import random
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.databases import Database
from tests.integration.session.raw import (
    FLUSH,
    SYNC,
    TERMINATE,
    Gone,
    LoginRefused,
    RawClient,
    bind,
    client,
    copy_data,
    execute,
    message,
    parse,
    query,
    run,
    startup,
)
from tests.proxies import Proxy, running_proxy


@contextlib.asynccontextmanager
async def witness(proxy: Proxy) -> AsyncIterator[None]:
    """Another client, which notices nothing of what happens within the block."""
    other = await RawClient.login(proxy)
    stopping = False

    async def ask() -> int:
        number = 0
        while not stopping:
            number += 1
            reply = await other.ask(run("SELECT $1::int", str(number).encode()), SYNC)
            assert reply.kinds == "12DCZ"
            assert reply.value == str(number)
            await asyncio.sleep(0.001)
        return number

    asking = asyncio.ensure_future(ask())
    try:
        yield
    finally:
        stopping = True
        assert await asking > 0
        await other.leave()
    faults = [line for line in proxy.log() if line["level"] in ("error", "critical")]
    assert faults == []


def opening(proxy: Proxy, **other: str) -> bytes:
    return startup({"user": proxy.database.user, "database": proxy.database.name, **other})


BEFORE_STARTUP = {
    "nothing but zeros": bytes(64),
    "a web browser": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS without asking": bytes.fromhex("16030100c8010000c40303") + bytes(100),
    "a huge length": struct.pack(">II", 0x7FFFFFFF, 196608),
    "a negative length": struct.pack(">iI", -1, 196608),
    "a short length": struct.pack(">II", 4, 196608),
    "an old protocol": struct.pack(">II", 8, 2 << 16),
    "a new protocol": struct.pack(">II", 8, 4 << 16),
    "no end": struct.pack(">II", 12, 196608) + b"user",
    "a name without a value": struct.pack(">II", 14, 196608) + b"user\0\0",
    "no user": startup({"database": "x"}),
    "bytes that are no text": struct.pack(">II", 17, 196608) + b"user\0\xff\xfe\0\0",
    "a cancel without a key": struct.pack(">II", 8, 80877102),
}


@pytest.mark.parametrize("garbage", BEFORE_STARTUP.values(), ids=BEFORE_STARTUP)
async def test_before_startup(module_proxy: Proxy, garbage: bytes) -> None:
    async with witness(module_proxy):
        one = await RawClient.open(module_proxy)
        one.send(garbage)
        rest = await one.rest()
        assert [each.kind for each in rest] == ["E"]
        assert rest[0].fields["S"] == "FATAL"
        assert rest[0].fields["C"] in ("08P01", "28000")


async def test_a_client_that_leaves_before_it_says_who_it_is(module_proxy: Proxy) -> None:
    async with witness(module_proxy):
        one = await RawClient.open(module_proxy)
        one.send(TERMINATE + opening(module_proxy))
        assert await one.rest() == []


@pytest.mark.parametrize("cut", [0, 1, 4, 7, 9, 30])
async def test_a_startup_packet_that_ends_early(module_proxy: Proxy, cut: int) -> None:
    async with witness(module_proxy):
        one = await RawClient.open(module_proxy)
        one.send(opening(module_proxy)[:cut])
        one.writer.write_eof()
        assert await one.rest() == []


DURING_LOGIN = {
    "a query": query("SELECT 1"),
    "a short length": b"p\0\0\0\3",
    "a huge length": b"p\x7f\xff\xff\xff",
    "no mechanism": message("p", b""),
    "another mechanism": message("p", b"SCRAM-SHA-1\0\0\0\0\4nope"),
    "channel binding": message("p", b"SCRAM-SHA-256\0\0\0\0\x10p=tls-unique,,n=x"),
    "zeros": bytes(50),
    "garbage in SASL": message("p", b"SCRAM-SHA-256\0\0\0\0\5\xff\xfe\xfd\xfc\xfb"),
}


@pytest.mark.parametrize("garbage", DURING_LOGIN.values(), ids=DURING_LOGIN)
async def test_during_login(module_proxy: Proxy, garbage: bytes) -> None:
    async with witness(module_proxy):
        one = await RawClient.open(module_proxy)
        one.send(opening(module_proxy))
        assert (await one.receive()).kind == "R"
        one.send(garbage)
        rest = await one.rest()
        assert [each.kind for each in rest] == ["E"]
        assert rest[0].fields["C"] in ("08P01", "28P01")


AFTER_LOGIN = {
    "an unknown type": b"z\0\0\0\4",
    "an unknown type that goes on": b"z\0\x10\0\0abc",
    "a password": message("p", b"secret\0"),
    "a short length": b"Q\0\0\0\3",
    "a zero length": b"Q\0\0\0\0",
    "a negative length": b"Q\xff\xff\xff\xff",
    "a huge length": b"Q\x7f\xff\xff\xff",
    "a query without its end": message("Q", b"SELECT 1"),
    "an empty Parse": message("P"),
    "a Parse without its end": message("P", b"name\0SELECT 1"),
    "a Parse without a name": message("P", b"name"),
    "an empty Bind": message("B"),
    "a Bind without names": message("B", b"abcdefgh"),
    "an empty Describe": message("D"),
    "a Describe without its end": message("D", b"Sname"),
    "an empty Close": message("C"),
    "an empty Execute": message("E"),
    "an empty function call": message("F"),
    "a startup packet": startup({"user": "app"}),
    "zeros": bytes(200),
}


@pytest.mark.parametrize("in_transaction", [False, True], ids=["idle", "in transaction"])
@pytest.mark.parametrize("garbage", AFTER_LOGIN.values(), ids=AFTER_LOGIN)
async def test_after_login(module_proxy: Proxy, garbage: bytes, in_transaction: bool) -> None:
    async with witness(module_proxy):
        one = await RawClient.login(module_proxy)
        if in_transaction:
            await one.query("BEGIN")
        one.send(garbage, SYNC)
        answers = await one.until("E")
        assert answers.errors[0] in ("08P01", "26000", "34000", "42883", "0A000")


MALFORMED = {
    "a query without its end": message("Q", b"SELECT 1"),
    "an empty query message": message("Q"),
    "a query with something behind its end": message("Q", b"SELECT 1\0SELECT 2\0"),
    "an empty Parse": message("P"),
    "a Parse without its end": message("P", b"name\0SELECT 1"),
    "a Parse without a name": message("P", b"name"),
    "a Parse without its types": message("P", b"name\0SELECT 1\0"),
    "a Parse with too few types": message("P", b"name\0SELECT 1\0\0\2\0\0\0\x17"),
    "a Parse with something behind it": message("P", b"name\0SELECT 1\0\0\0x"),
    "an empty Bind": message("B"),
    "a Bind without names": message("B", b"abcdefgh"),
    "a short Bind": message("B", b"\0\0\0\0"),
    "a short Bind of a statement": message("B", b"\0known\0\0\0"),
    "a Bind with too few values": message("B", b"\0known\0\0\0\0\2\0\0\0\1x\0\0"),
    "a Bind with a value cut off": message("B", b"\0known\0\0\0\0\1\0\0\1\0x\0\0"),
    "a Bind with an impossible format": message("B", b"\0known\0\0\1\0\7\0\1\0\0\0\1x\0\0"),
    "an empty Describe": message("D"),
    "a Describe without its end": message("D", b"Sname"),
    "a Describe of nothing known": message("D", b"Xname\0"),
    "a Describe with something behind it": message("D", b"Sknown\0x\0"),
    "an empty Close": message("C"),
    "a Close without its end": message("C", b"Sname"),
    "a Close of nothing known": message("C", b"Xname\0"),
    "an empty Execute": message("E"),
    "an Execute without its count": message("E", b"\0"),
    "an Execute with something behind it": message("E", b"\0\0\0\0\0x"),
    "an empty function call": message("F"),
    "a short function call": message("F", b"\0\0\0\1\0"),
}


async def answers_to(proxy: Proxy, garbage: bytes, in_transaction: bool) -> list[object]:
    """What a message draws, and what follows shows that the connection is still good."""
    async with client(proxy) as one:
        await one.ask(parse("SELECT $1::text", "known"), SYNC)
        if in_transaction:
            await one.query("BEGIN")
        reply = await one.ask(garbage, run("SELECT 1"), SYNC)
        found: list[object] = [reply.kinds, reply.errors, reply.status]
        if reply.kinds[-2:] != "CZ" and garbage[:1] in b"QF":  # these aren't skipped up to a Sync
            reply = await one.until("Z")
            found += [reply.kinds, reply.errors, reply.status]
        if in_transaction:
            await one.query("ROLLBACK")
        reply = await one.ask(bind(b"x", name="known"), execute(), SYNC)
        return [*found, reply.kinds, reply.value]


@pytest.mark.parametrize("in_transaction", [False, True], ids=["idle", "in transaction"])
@pytest.mark.parametrize("garbage", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_message_is_answered_as_the_server_answers_it(
    module_proxy: Proxy, garbage: bytes, in_transaction: bool
) -> None:
    server = module_proxy.database.stack.primary
    direct = replace(module_proxy, host=server.host, port=server.port)
    expected = await answers_to(direct, garbage, in_transaction)
    async with witness(module_proxy):
        assert await answers_to(module_proxy, garbage, in_transaction) == expected


GARBAGE_BETWEEN = b"z\xff\xff\xff\xffgarbage"


async def test_in_the_middle_of_a_pipeline(module_proxy: Proxy) -> None:
    async with witness(module_proxy):
        one = await RawClient.login(module_proxy)
        one.send(run("SELECT 1"), SYNC, parse("SELECT 2"), GARBAGE_BETWEEN)
        assert (await one.until("Z")).value == "1"
        assert [each.kind for each in await one.rest()] == ["E"]


async def test_behind_a_flush(module_proxy: Proxy) -> None:
    async with witness(module_proxy):
        one = await RawClient.login(module_proxy)
        one.send(run("SELECT 1"), FLUSH)
        await one.until("C")
        one.send(GARBAGE_BETWEEN)
        assert [each.kind for each in await one.rest()] == ["E"]


async def test_during_copy(module_proxy: Proxy) -> None:
    async with witness(module_proxy):
        one = await RawClient.login(module_proxy)
        await one.query("CREATE TABLE IF NOT EXISTS copied (a int)")
        one.send(query("COPY copied FROM STDIN"))
        await one.until("G")
        one.send(copy_data(b"1\n"), query("SELECT 1"))
        assert [each.kind for each in await one.rest()] == ["E"]
    async with client(module_proxy) as other:  # a standby may not have the table yet
        counted = await other.query("/* penstock: primary */ SELECT count(*) FROM copied")
        assert counted.value == "0"


async def test_random_bytes(module_proxy: Proxy) -> None:
    """Streams of good messages with some bytes changed, cut or added: whatever happens to their
    client, it ends, and nobody else notices."""
    chance = random.Random(7)
    good = b"".join(
        (
            run("SELECT $1::text", b"x"),
            SYNC,
            query("SELECT generate_series(1, 10)"),
            parse("SELECT 1", "named"),
            bind(name="named"),
            execute(),
            FLUSH,
            SYNC,
        )
    )

    async def attempt(seed: int) -> None:
        own = random.Random(seed)
        data = bytearray(good * 3)
        for _ in range(own.choice((1, 2, 20))):
            where = own.randrange(len(data))
            match own.randrange(3):
                case 0:
                    data[where] = own.randrange(256)
                case 1:
                    del data[where : where + own.randrange(9)]
                case _:
                    data[where:where] = own.randbytes(own.randrange(9))
        with contextlib.suppress(Gone, OSError, TimeoutError):
            one = await RawClient.login(module_proxy)
            one.send(bytes(data))
            async with asyncio.timeout(0.3):
                await one.rest()
        one.vanish()

    async with witness(module_proxy):
        for _ in range(12):
            await asyncio.gather(*(attempt(chance.getrandbits(32)) for _ in range(10)))


async def test_requests_for_encryption_are_declined(module_proxy: Proxy) -> None:
    one = await RawClient.open(module_proxy)
    for code in (80877103, 80877104):
        one.send(struct.pack(">II", 8, code))
        assert await one.reader.readexactly(1) == b"N"
    one.send(opening(module_proxy))
    await one.authenticate(module_proxy.database.password)
    assert (await one.query("SELECT 1")).value == "1"
    await one.leave()


async def test_bytes_behind_a_request_for_encryption_are_refused(module_proxy: Proxy) -> None:
    """They could have been put there by whoever stands between (CVE-2021-23214)."""
    one = await RawClient.open(module_proxy)
    one.send(struct.pack(">II", 8, 80877103), opening(module_proxy))
    assert [each.kind for each in await one.rest()] == ["E"]


async def test_newer_minor_protocols_and_unknown_options(module_proxy: Proxy) -> None:
    one = await RawClient.open(module_proxy)
    own = {"user": module_proxy.database.user, "database": module_proxy.database.name}
    one.send(startup({**own, "_pq_.marvels": "on"}, version=(3 << 16) + 9))
    negotiated = await one.receive()
    assert negotiated.kind == "v"
    assert negotiated.body == struct.pack(">II", (3 << 16) + 2, 1) + b"_pq_.marvels\0"
    await one.authenticate(module_proxy.database.password)
    assert (await one.query("SELECT 1")).value == "1"
    await one.leave()


async def test_a_wrong_password_and_an_unknown_user_look_the_same(module_proxy: Proxy) -> None:
    answers = []
    for user in (module_proxy.database.user, "nobody_of_that_name"):
        with pytest.raises(LoginRefused) as refused:
            await RawClient.login(module_proxy, user=user, password="wrong")
        answers.append({k: v.replace(user, "USER") for k, v in refused.value.fields.items()})
    assert answers[0] == answers[1]
    assert answers[0]["C"] == "28P01"


async def test_an_unknown_user_is_asked_the_same_each_time(module_proxy: Proxy) -> None:
    """A salt that changes from one attempt to the next would tell that nobody is there."""
    salts = set()
    for _ in range(2):
        one = await RawClient.open(module_proxy)
        one.send(startup({"user": "nobody_of_that_name", "database": "x"}))
        await one.receive()
        first = b"n,,n=,r=abc"
        one.send(message("p", b"SCRAM-SHA-256\0" + struct.pack(">I", len(first)) + first))
        salts.add((await one.receive()).body.split(b",")[1:][0])
        one.vanish()
    assert len(salts) == 1


async def test_an_unknown_database(module_proxy: Proxy) -> None:
    with pytest.raises(LoginRefused) as refused:
        await RawClient.login(module_proxy, database="nowhere")
    assert refused.value.fields["C"] == "3D000"
    with pytest.raises(LoginRefused) as refused:
        await RawClient.login(module_proxy, database="nowhere", password="wrong")
    assert refused.value.fields["C"] == "28P01"


async def test_start_up_options_that_are_no_settings(module_proxy: Proxy) -> None:
    with pytest.raises(LoginRefused) as refused:
        await RawClient.login(module_proxy, options="-x nonsense")
    assert refused.value.fields["C"] == "42601"


async def test_a_setting_that_does_not_exist(module_proxy: Proxy) -> None:
    with pytest.raises(LoginRefused) as refused:
        await RawClient.login(module_proxy, no_such_setting="1")
    assert refused.value.fields["C"] == "42704"
    assert (await (await RawClient.login(module_proxy)).query("SELECT 1")).value == "1"


@pytest.fixture
def limited(database: Database, tmp_path: Path) -> Iterator[Proxy]:
    """Few clients, little patience."""
    with running_proxy(database, tmp_path, environment=LIMITED) as proxy:
        yield proxy


LIMITED = {
    "PENSTOCK_SERVER__MAX_CLIENT_CONNECTIONS": "4",
    "PENSTOCK_LIMITS__ADMIN_CLIENTS": "0",
    "PENSTOCK_SERVER__LOGIN_TIMEOUT": "1s",
}


async def test_too_many_clients(limited: Proxy) -> None:
    """However they come at once; and those who leave make room."""

    async def attempt() -> RawClient | str:
        try:
            return await RawClient.login(limited)
        except LoginRefused as refused:
            return refused.fields["C"]

    outcomes = await asyncio.gather(*(attempt() for _ in range(12)))
    admitted = [each for each in outcomes if isinstance(each, RawClient)]
    assert [each for each in outcomes if isinstance(each, str)] == ["53300"] * 8
    for each in admitted:
        assert (await each.query("SELECT 1")).value == "1"
    assert await attempt() == "53300"
    for each in admitted:
        await each.leave()
    async with asyncio.timeout(5):
        while isinstance(late := await attempt(), str):
            pass
    await late.leave()


async def test_slow_logins_are_ended(limited: Proxy) -> None:
    silent, slow = await RawClient.open(limited), await RawClient.open(limited)
    slow.send(opening(limited))
    assert (await slow.receive()).kind == "R"
    assert await silent.rest() == []
    last = await slow.rest()
    assert [each.fields["C"] for each in last] == ["28000"]


async def test_thousands_of_half_open_connections(limited: Proxy) -> None:
    """They neither take the places of clients nor keep anybody from being served."""
    before = limited.memory()
    silent = await asyncio.gather(*(RawClient.open(limited) for _ in range(3000)))
    async with client(limited) as one:
        for number in range(20):
            assert (await one.query(f"SELECT {number}")).value == str(number)
    assert limited.memory() - before < 64 << 20
    for each in silent:
        assert await each.rest() == []


@pytest.mark.parametrize("empty", [message("P"), message("B")], ids=["Parse", "Bind"])
async def test_an_empty_message_with_nothing_behind_it(module_proxy: Proxy, empty: bytes) -> None:
    async with witness(module_proxy):
        one = await RawClient.login(module_proxy)
        one.send(empty)
        assert (await one.until("E")).errors == ["08P01"]
        assert (await one.ask(SYNC)).kinds == "Z"
        assert (await one.query("SELECT 1")).value == "1"
