"""Making a batch ready for a backend that has some statements and lacks others."""

from proxy.pool.description import STALE, Description, describe
from proxy.session.batch import (
    AS_PARSE,
    FORWARD,
    PARSES,
    SWALLOW,
    Batch,
    is_ready,
    render,
    unverified,
)
from proxy.session.intake import Intake
from proxy.session.prepared import MISSING_NAME, Prepared, PreparedRegistry
from proxy.wire.framing import split_messages
from proxy.wire.messages import NO_DATA, close_statement, parse, text_row_description
from tests.integration.session import raw

CAPACITY = 500


class Client:
    """One client's intake."""

    def __init__(self) -> None:
        self.registry = PreparedRegistry()
        self.intake = Intake(self.registry, 1 << 30)

    def batch(self, *messages: bytes) -> Batch:
        self.intake.append(b"".join(messages))
        batch = self.intake.next()
        assert batch is not None
        return batch

    def prepared(self, name: str) -> Prepared:
        return self.intake.statements[name.encode()]


def kinds(payload: bytes) -> str:
    return "".join(chr(kind) for kind, _ in split_messages(payload))


def prepared_client() -> tuple[Client, dict[bytes, Description | None]]:
    """A client with the statement s, and the names that its first backend has."""
    client = Client()
    names: dict[bytes, Description | None] = {}
    batch = client.batch(raw.parse("SELECT 1", "s"), raw.SYNC)
    payload, acks = render(batch, names, None, CAPACITY)
    assert kinds(payload) == "PS"
    assert [(ack.action, ack.client_name) for ack in acks] == [(FORWARD, b"s")]
    return client, names


def test_a_statement_that_the_backend_has() -> None:
    client, names = prepared_client()
    batch = client.batch(raw.bind(name="s"), raw.execute(), raw.SYNC)
    assert is_ready(batch, names, None)


def test_a_statement_that_another_backend_lacks_is_parsed_first() -> None:
    client, _ = prepared_client()
    batch = client.batch(raw.bind(name="s"), raw.execute(), raw.SYNC)
    other: dict[bytes, Description | None] = {}
    assert not is_ready(batch, other, None)
    payload, acks = render(batch, other, None, CAPACITY)
    assert kinds(payload) == "PBES"
    assert [ack.action for ack in acks] == [SWALLOW]
    assert is_ready(batch, other, None)


def test_a_parse_of_what_the_backend_has_is_answered_by_a_close_of_nothing() -> None:
    _, names = prepared_client()
    second = Client()
    second.registry.get(b"SELECT 1\0\0\0")
    payload, acks = render(
        second.batch(raw.parse("SELECT 1", "other"), raw.SYNC), names, None, CAPACITY
    )
    assert payload == close_statement(MISSING_NAME) + raw.SYNC
    assert [(ack.action, ack.client_name) for ack in acks] == [(AS_PARSE, b"other")]


def test_a_name_parsed_twice_reaches_the_server_to_be_refused() -> None:
    client, names = prepared_client()
    batch = client.batch(raw.parse("SELECT 2", "s"), raw.SYNC)
    payload, acks = render(batch, names, None, CAPACITY)
    assert kinds(payload) == "PPS"
    assert [ack.action for ack in acks] == [SWALLOW, FORWARD]


def test_the_unnamed_statement_is_parsed_where_it_is_not() -> None:
    client = Client()
    first = client.batch(raw.parse("SELECT 1"), raw.SYNC)
    assert first.last_unnamed is not None
    second = client.batch(raw.bind(), raw.execute(), raw.SYNC)
    assert is_ready(second, {}, first.last_unnamed)
    payload, acks = render(second, {}, None, CAPACITY)
    assert payload == parse(b"", b"SELECT 1\0\0\0") + raw.bind() + raw.execute() + raw.SYNC
    assert [ack.action for ack in acks] == [SWALLOW]


def test_acks_of_the_clients_own_parses_and_closes_are_forwarded() -> None:
    client, names = prepared_client()
    batch = client.batch(
        raw.parse("SELECT 5"),
        raw.close("never"),
        raw.bind(name="s"),
        raw.close("s"),
        raw.close_portal("p"),
        raw.parse("SELECT 1", "s"),
        raw.SYNC,
    )
    payload, acks = render(batch, names, None, CAPACITY)
    assert kinds(payload) == "PCBCCCS"
    assert [ack.action for ack in acks] == [FORWARD] * 4 + [AS_PARSE]
    assert [ack.closes for ack in acks] == [False, False, True, False, False]


def test_the_oldest_statements_make_room() -> None:
    client = Client()
    names: dict[bytes, Description | None] = {}
    for number in range(10):
        batch = client.batch(raw.parse(f"SELECT {number}", f"s{number}"), raw.SYNC)
        payload, acks = render(batch, names, None, 4)
        assert len(names) <= 4
        assert len(acks) == payload.count(b"penstock_")
    assert list(names) == [client.prepared(f"s{number}").name for number in range(6, 10)]
    needs = client.batch(*(raw.bind(name=f"s{number}") for number in range(6)), raw.SYNC)
    payload, acks = render(needs, names, None, 4)
    assert set(names) >= {client.prepared(f"s{number}").name for number in range(6)}
    assert [ack.action for ack in acks] == [SWALLOW] * (4 + 6)
    assert {ack.evicts for ack in acks[:4]} == {
        client.prepared(f"s{number}").name for number in range(6, 10)
    }


def test_names_of_skipped_messages_can_be_undone() -> None:
    client, _ = prepared_client()
    batch = client.batch(raw.parse("SELECT 3", "t"), raw.close("s"), raw.SYNC)
    assert set(client.intake.statements) == {b"t"}
    for reference in reversed(batch.references or []):
        client.intake.undo(
            reference.client_name, reference.prepared, closed=reference.action != PARSES
        )
    assert set(client.intake.statements) == {b"s"}


INTEGER = describe(b"\0\0", text_row_description(["n"]))
RENAMED = describe(b"\0\0", text_row_description(["m"]))
NOTHING = describe(b"\0\1\0\0\0\x17", NO_DATA)


def told_client(description: Description) -> tuple[Client, bytes]:
    """A client that was told what its statement s is, and that statement's name."""
    client, _ = prepared_client()
    statement = client.prepared("s")
    client.intake.tell(b"s", statement, statement.told(description))
    return client, statement.name


def use(client: Client) -> Batch:
    return client.batch(raw.bind(name="s"), raw.execute(), raw.SYNC)


def test_descriptions_are_compared_as_postgresql_compares_them() -> None:
    described = raw.row_description(("n", 23, -1), table=16400)
    assert describe(b"", described) is describe(b"", raw.row_description(("n", 23, -1), table=7))
    for other in (("m", 23, -1), ("n", 700, -1), ("n", 23, 8)):
        assert describe(b"", described) is not describe(b"", raw.row_description(other))
    assert describe(b"", NO_DATA) is not describe(b"", described)
    assert not describe(b"", NO_DATA).returns_rows


def test_a_told_statement_is_ready_only_where_it_is_the_same() -> None:
    client, name = told_client(INTEGER)
    assert is_ready(use(client), {name: INTEGER}, None)
    for has in (None, RENAMED, STALE):
        assert not is_ready(use(client), {name: has}, None)
        assert unverified(use(client), {name: has}, None)
    assert unverified(use(client), {}, None)


def test_a_client_that_was_never_told_takes_what_is_there() -> None:
    client, _ = prepared_client()
    name = client.prepared("s").name
    for has in (None, INTEGER):
        assert is_ready(use(client), {name: has}, None)
    assert not is_ready(use(client), {name: STALE}, None)
    assert not unverified(use(client), {}, None)


def test_a_told_statement_is_described_where_it_is_parsed_anew() -> None:
    client, name = told_client(INTEGER)
    for has, messages in (({}, "PDBES"), ({name: None}, "DBES"), ({name: RENAMED}, "CPDBES")):
        names: dict[bytes, Description | None] = dict(has)
        payload, acks = render(use(client), names, None, CAPACITY)
        assert kinds(payload) == messages
        assert {ack.action for ack in acks} == {SWALLOW}
        assert acks[-1].expected is INTEGER
        assert names == {name: INTEGER}


def test_parameters_keep_the_types_that_the_client_was_told() -> None:
    client, name = told_client(NOTHING)
    names: dict[bytes, Description | None] = {}
    assert not unverified(use(client), names, None)  # there are no rows to take for others
    payload, _ = render(use(client), names, None, CAPACITY)
    assert payload.startswith(parse(name, b"SELECT 1\0\0\1\0\0\0\x17"))
    assert kinds(payload) == "PBES"


def test_the_unnamed_statement_is_described_where_it_is_parsed_anew() -> None:
    client = Client()
    client.batch(raw.parse("SELECT 1"), raw.describe(), raw.SYNC)
    statement = client.intake.unnamed
    assert statement is not None
    client.intake.tell(b"", statement, statement.told(INTEGER))
    batch = client.batch(raw.bind(), raw.execute(), raw.SYNC)
    assert is_ready(batch, {}, statement.told(INTEGER))
    assert unverified(batch, {}, statement)
    payload, _ = render(batch, {}, None, CAPACITY)
    assert kinds(payload) == "PDBES"


def test_an_unnamed_statement_described_by_a_portal_is_in_doubt_elsewhere() -> None:
    client = Client()
    whole = (raw.bind(), raw.describe_portal(), raw.execute(), raw.SYNC)
    client.batch(raw.parse("SELECT 1"), *whole)
    (reference,) = client.batch(raw.bind(), raw.execute(), raw.SYNC).references or []
    assert reference.unsure


def test_a_portals_description_is_learned_with_the_statements() -> None:
    client, names = prepared_client()
    whole = (raw.bind(name="s"), raw.describe_portal(), raw.execute(), raw.SYNC)
    batch = client.batch(*whole)
    assert not is_ready(batch, names, None)
    payload, acks = render(batch, names, None, CAPACITY)
    assert kinds(payload) == "DBDES"
    assert [(ack.action, ack.describes) for ack in acks] == [(SWALLOW, True)]


def test_a_parse_of_a_stale_statement_reaches_the_server() -> None:
    client, names = prepared_client()
    name = client.prepared("s").name
    for has, afresh in ((STALE, False), (INTEGER, True), (None, True)):
        names[name] = has
        batch = client.batch(raw.parse("SELECT 1", f"t{has}"), raw.SYNC)
        payload, acks = render(batch, names, None, CAPACITY, afresh)
        assert kinds(payload) == "CPS"
        assert [ack.action for ack in acks] == [SWALLOW, FORWARD]
        assert names == {name: None}
