"""What the server is asked after a change of settings, and what follows from its answer."""

import pytest

from proxy.config.settings import Settings
from proxy.pool.exchange import Exchange
from proxy.pool.settings_state import (
    DEFAULTS,
    UNSURE,
    SettingsState,
    difference,
    intern_settings,
)
from proxy.routing.plan import EVERY_SETTING, Plan
from proxy.routing.planner import Planner
from proxy.session.batch import Batch
from proxy.session.combine import combine
from proxy.session.intake import Intake
from proxy.session.prepared import PreparedRegistry
from proxy.session.settings_sync import (
    after,
    after_reset,
    named_in,
    question,
    restoration,
    sets_alone,
    without_asking,
)
from proxy.session.transaction import Transaction
from proxy.sql.analyse import analyse
from proxy.sql.catalogue import Catalogue
from tests.integration.session import raw


def plan_of(text: str) -> Plan:
    settings = Settings.model_validate({"database": {"app": {}}})
    planner = Planner(settings.routing, settings.cache, Catalogue(), None)
    return planner.plan(analyse(text))


RESET, DISCARD = plan_of("RESET ALL"), plan_of("DISCARD ALL")


def answered(*rows: list[bytes | None]) -> Exchange:
    exchange = Exchange()
    exchange.rows = list(rows)
    return exchange


def state(**values: bytes) -> SettingsState:
    return intern_settings(values)


def test_named_settings_are_asked_for_by_name() -> None:
    transaction = Transaction(touched={"timezone", "search_path"})
    asked = question(transaction, DEFAULTS, DEFAULTS)
    assert asked.index(b"'search_path'") < asked.index(b"'timezone'")
    session, backend = after(
        transaction, state(timezone=b"UTC", a=b"1"), DEFAULTS, answered([b"x", b"Asia/Tokyo"])
    )
    assert session is state(timezone=b"Asia/Tokyo", a=b"1", search_path=b"x")
    # Whether by a SET or by default is not known, so the next loan makes sure of both.
    assert backend is state(timezone=UNSURE, a=b"1", search_path=UNSURE)
    assert b"'timezone', 'Asia/Tokyo'" in difference(backend, session)
    assert b'RESET "timezone"' in difference(backend, DEFAULTS)


def test_a_set_alone_is_certain() -> None:
    plans, transaction = [plan_of("SET timezone = 'UTC'")], Transaction()
    transaction.note(plans[0], b"")
    startup = state(timezone=b"Asia/Tokyo")
    assert sets_alone(plans, transaction)
    assert without_asking(plans, transaction, startup, startup) is None
    assert b"pg_settings" not in question(transaction, startup, startup, certain=True)
    session, backend = after(transaction, startup, startup, answered([b"UTC"]), certain=True)
    assert session is backend is state(timezone=b"UTC")


@pytest.mark.parametrize("reset", ["RESET timezone", "SET timezone TO DEFAULT"])
def test_a_reset_alone_needs_no_question(reset: str) -> None:
    plans, transaction = [plan_of(reset)], Transaction()
    transaction.note(plans[0], b"")
    current, startup = state(timezone=b"UTC", a=b"1"), state(timezone=b"Asia/Tokyo")
    assert without_asking(plans, transaction, current, startup) == (
        state(timezone=b"Asia/Tokyo", a=b"1"),
        state(a=b"1"),
    )
    assert without_asking(plans, transaction, current, DEFAULTS) == (state(a=b"1"), state(a=b"1"))


def test_a_reset_of_what_may_be_an_extensions_is_asked_for() -> None:
    plans, transaction = [plan_of("RESET my.tenant")], Transaction()
    transaction.note(plans[0], b"")
    current = state(**{"my.tenant": b"7"})
    assert without_asking(plans, transaction, current, DEFAULTS) is None
    assert not sets_alone(plans, transaction)
    session, backend = after(transaction, current, DEFAULTS, answered([b""]))
    assert session is state(**{"my.tenant": b""})
    assert backend is state(**{"my.tenant": UNSURE})


@pytest.mark.parametrize(
    "texts",
    [
        ("BEGIN", "SET timezone = 'UTC'", "ROLLBACK"),
        ("SET timezone = 'UTC'; SELECT 1/0",),
        ("BEGIN", "SET timezone = 'UTC'", "RESET timezone", "COMMIT"),
        ("SET timezone = 'UTC'", "SET a.b = '1'"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",),
        ("SELECT set_config('timezone', 'UTC', false)",),
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
def test_a_set_among_others_is_not_certain(texts: tuple[str, ...], at_once: bool) -> None:
    plans = [plan_of(text) for text in texts]
    transaction = Transaction()
    for plan in plans:
        transaction.note(plan, b"")
    assert not sets_alone([combine(plans)] if at_once else plans[-1:], transaction)


def test_what_is_set_behind_a_reset_of_all_is_not_forgotten() -> None:
    plans = [combine([RESET, plan_of("SET timezone = 'UTC'")])]
    assert without_asking(plans, Transaction(), DEFAULTS, DEFAULTS) is None


def test_a_value_that_was_cleared_is_not_one_that_was_reset() -> None:
    startup = state(**{"my.tenant": b"7", "role": b"ann"})
    cleared = state(**{"my.tenant": b"", "role": b"none"})
    answer = answered([b"my.tenant", b""], [b"role", b"none"])
    unknown = Transaction(touched_unknown=True)
    assert after(unknown, cleared, startup, answer) == (cleared, DEFAULTS)
    assert after(unknown, startup, startup, answer) == (startup, DEFAULTS)
    named = Transaction(touched={"my.tenant"}, touched_unknown=True)
    assert after(named, startup, startup, answer)[0] is state(**{"my.tenant": b"", "role": b"ann"})
    reset = Transaction(touched={"my.tenant"}, restores={"my.tenant"})
    assert after(reset, startup, startup, answer)[0] is startup


def test_settings_that_do_not_exist_any_more_are_forgotten() -> None:
    session, _ = after(
        Transaction(touched={"my.x"}), state(**{"my.x": b"1"}), DEFAULTS, answered([None])
    )
    assert session is DEFAULTS


def test_unknown_changes_read_everything() -> None:
    transaction = Transaction(touched_unknown=True)
    current = state(timezone=b"UTC", **{"my.tenant": b"7"})
    asked = question(transaction, current, DEFAULTS)
    assert b"pg_settings" in asked
    assert b"'my.tenant'" in asked  # which pg_settings doesn't show
    session, backend = after(
        transaction, current, DEFAULTS, answered([b"TimeZone", b"Asia/Tokyo"], [b"my.tenant", None])
    )
    assert session is backend is state(timezone=b"Asia/Tokyo")


def test_a_reset_gives_back_what_was_asked_for_at_start_up() -> None:
    startup = state(timezone=b"Asia/Tokyo")
    transaction = Transaction(touched={"timezone"})
    assert b"pg_settings" in question(transaction, startup, startup)
    session, backend = after(transaction, startup, startup, answered())
    assert (session, backend) == (startup, DEFAULTS)
    assert after_reset([RESET], startup, startup) == (startup, DEFAULTS)


def test_reset_all_leaves_the_role_and_discard_all_does_not() -> None:
    startup, ann = state(timezone=b"Asia/Tokyo"), state(role=b"ann", work_mem=b"1MB")
    both = state(timezone=b"Asia/Tokyo", role=b"ann")
    assert after_reset([RESET], ann, startup) == (both, state(role=b"ann"))
    assert after_reset([DISCARD], ann, startup) == (startup, DEFAULTS)
    assert after_reset([RESET], state(work_mem=b"1MB"), state(role=b"bob")) == (DEFAULTS, DEFAULTS)
    assert after_reset([DISCARD], DEFAULTS, state(role=b"bob")) == (state(role=b"bob"), DEFAULTS)


def batch_of(*messages: bytes) -> Batch:
    intake = Intake(PreparedRegistry(), 1 << 30)
    intake.append(b"".join(messages))
    batch = intake.next()
    assert batch is not None
    return batch


@pytest.mark.parametrize(
    ("messages", "names"),
    [
        (
            [raw.query("DO $$ BEGIN PERFORM set_config('My.Tenant', 'x', false); END $$")],
            {"my.tenant"},
        ),
        (
            [raw.run("SELECT set_config($1, $2, false)", b"my.tenant", b"7"), raw.SYNC],
            {"my.tenant"},
        ),
        ([raw.run("SELECT set_config($1, $2, false)", None, b"not a.name"), raw.SYNC], set()),
        ([raw.run("SELECT set_config('a.b', $1, false)", b"1.5"), raw.SYNC], {"a.b"}),
        ([raw.query("SELECT 'no', 'a.', '.b', 'a b.c', '\xff.x'")], set()),
    ],
)
def test_names_in_a_batch(messages: list[bytes], names: set[str]) -> None:
    assert named_in(batch_of(*messages)) == names


def test_a_malformed_bind_names_nothing() -> None:
    batch = batch_of(
        raw.parse("SELECT $1"), raw.message("B", b"\0\0\0\0\0\1\0\0\0\x09a.b"), raw.SYNC
    )
    assert named_in(batch) == set()


def test_a_reset_within_a_transaction_is_made_good_at_once() -> None:
    startup = state(timezone=b"Asia/Tokyo", datestyle=b"German")
    transaction = Transaction(restores={"timezone", "work_mem"})
    asked = restoration(transaction, startup)
    assert b"'timezone', 'Asia/Tokyo'" in asked
    assert b"datestyle" not in asked
    assert restoration(transaction, startup) == b""  # once is enough
    everything = restoration(Transaction(restores={EVERY_SETTING}), startup)
    assert b"'timezone'" in everything
    assert b"'datestyle'" in everything
