"""What tells one cached answer from another."""

from proxy.pool.description import describe
from proxy.session.batch import Batch
from proxy.session.caching import _request_bytes, description_in
from proxy.session.intake import Intake
from proxy.session.prepared import PreparedRegistry
from proxy.wire.messages import NO_DATA, text_row_description
from tests.integration.session import raw

COLUMNS, OTHERS = text_row_description(["n"]), text_row_description(["m"])


def batch_of(columns: bytes | None, *messages: bytes) -> Batch:
    """Of a client that was told these columns when it prepared s."""
    intake = Intake(PreparedRegistry(), 1 << 20)
    intake.append(raw.parse("SELECT 1", "s") + raw.SYNC)
    intake.next()
    statement = intake.statements[b"s"]
    if columns is not None:
        intake.tell(b"s", statement, statement.told(describe(b"\0\0", columns)))
    intake.append(b"".join(messages))
    batch = intake.next()
    assert batch is not None
    return batch


def test_rows_are_kept_for_those_who_were_told_of_the_same_columns() -> None:
    use = (raw.bind(name="s"), raw.execute(), raw.SYNC)
    keys = [_request_bytes(batch_of(columns, *use)) for columns in (COLUMNS, OTHERS, None)]
    assert len(set(keys)) == 3
    assert _request_bytes(batch_of(COLUMNS, *use)) == keys[0]


def test_an_answer_with_its_description_is_for_everybody() -> None:
    use = (raw.bind(name="s"), raw.describe_portal(), raw.execute(), raw.SYNC)
    keys = {_request_bytes(batch_of(columns, *use)) for columns in (COLUMNS, OTHERS, None)}
    assert len(keys) == 1


def test_a_hit_tells_a_client_its_columns_once() -> None:
    described = (raw.bind(name="s"), raw.describe_portal(), raw.execute(), raw.SYNC)
    found = description_in(batch_of(None, *described), COLUMNS + b"D...")
    assert found is describe(None, COLUMNS)
    assert found.agrees(describe(None, COLUMNS))
    assert describe(b"\0\0", COLUMNS).agrees(found)
    assert not describe(b"\0\0", NO_DATA).agrees(found)
    assert description_in(batch_of(COLUMNS, *described), COLUMNS) is None
    plain = (raw.bind(name="s"), raw.execute(), raw.SYNC)
    assert description_in(batch_of(None, *plain), b"D...") is None
