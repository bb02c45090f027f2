import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.topology.positions import Samples, WalLayout, format_lsn, last_record_end, parse_lsn

LAYOUT = WalLayout(segment_size=16 << 20)


@pytest.mark.parametrize(
    ("text", "lsn"),
    [
        ("0/0", 0),
        ("16/B374D848", 0x16_B374_D848),
        ("0/50000F8", 0x50000F8),
        ("ffffffff/1", 2**64 - 2**32 + 1),
    ],
)
def test_positions_are_read_as_postgresql_writes_them(text: str, lsn: int) -> None:
    assert parse_lsn(text) == lsn
    assert format_lsn(lsn) == text.upper()


@given(st.integers(0, 2**64 - 1))
def test_reading_undoes_writing(lsn: int) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize(
    "text", ["", "0", "/", "1/", "/1", "1/2/3", "x/1", "-1/0", "0/123456789", "1_0/0", "+1/0"]
)
def test_other_text_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="is no WAL position: expected"):
        parse_lsn(text)


@pytest.mark.parametrize(
    ("inserted", "end"),
    [
        (0x5000028, 0x5000000),  # behind the long header of a segment
        (0x5002018, 0x5002000),  # behind the short header of another page
        (0x5000018, 0x5000018),  # no place where a record could start: left alone
        (
            0x5002028,
            0x5002028,
        ),  # 40 bytes into a page that is not a segment's first: a record's end
        (0x5002020, 0x5002020),
        (0x5002000, 0x5002000),
    ],
)
def test_a_page_header_is_no_record(inserted: int, end: int) -> None:
    assert last_record_end(inserted, LAYOUT) == end


def test_the_servers_sizes_count() -> None:
    small = WalLayout(segment_size=1 << 20, page_size=4096)
    assert last_record_end(0x5100028, small) == 0x5100000
    assert last_record_end(0x5101018, small) == 0x5101000
    assert last_record_end(0x5100028, LAYOUT) == 0x5100028


def test_nothing_is_fresh_before_the_first_sample() -> None:
    assert Samples().fresh_until(10**12) == float("-inf")
    assert Samples().latest is None


def test_freshness_is_the_time_of_the_newest_sample_replayed() -> None:
    samples = Samples()
    for at, lsn in ((1.0, 100), (2.0, 200), (3.0, 200), (4.0, 300)):
        samples.add(at, lsn)
    assert samples.fresh_until(99) == float("-inf")
    assert samples.fresh_until(100) == 1.0
    assert samples.fresh_until(199) == 1.0
    assert samples.fresh_until(200) == 3.0
    assert samples.fresh_until(300) == 4.0
    assert samples.latest == (4.0, 300)


def test_a_crash_of_the_primary_may_take_positions_back() -> None:
    samples = Samples()
    for at, lsn in ((1.0, 100), (2.0, 250), (3.0, 200)):
        samples.add(at, lsn)
    assert samples.fresh_until(200) == 3.0
    assert samples.fresh_until(199) == 1.0


def test_nothing_of_another_timeline_remains() -> None:
    samples = Samples()
    samples.add(1.0, 100)
    samples.clear()
    assert samples.fresh_until(100) == float("-inf")


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=60),
    st.integers(0, 55),
    st.integers(4, 100),
)
def test_a_replica_never_counts_as_fresher_than_it_is(
    lsns: list[int], replayed: int, capacity: int
) -> None:
    samples = Samples(capacity)
    for at, lsn in enumerate(lsns):
        samples.add(float(at), lsn)
    exact = max(
        (float(at) for at, lsn in enumerate(lsns) if lsn <= replayed), default=float("-inf")
    )
    found = samples.fresh_until(replayed)
    assert found == exact if capacity >= len(lsns) else found <= exact
    if replayed >= lsns[-1]:
        assert found == len(lsns) - 1


def test_few_samples_cover_a_long_time() -> None:
    samples = Samples(capacity=256)
    for at in range(100_000):
        samples.add(float(at), at)
    assert len(samples) <= 256
    for behind in (0, 10, 50, 1_000, 50_000, 99_000):
        age = 99_999 - samples.fresh_until(99_999 - behind)
        assert behind <= age <= behind * 1.25
