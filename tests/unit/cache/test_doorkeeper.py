from proxy.cache.doorkeeper import PLACES, Doorkeeper


def test_what_was_asked_for_before() -> None:
    doorkeeper = Doorkeeper()
    requests = [b"Q%d" % number for number in range(10_000)]
    assert sum(map(doorkeeper.seen, requests)) == 0
    known = sum(map(doorkeeper.seen, requests))
    assert known > 9_700  # the others' places were taken by later ones


def test_later_requests_take_the_places_of_earlier_ones() -> None:
    doorkeeper = Doorkeeper()
    doorkeeper.seen(b"first")
    for number in range(8 * PLACES):
        doorkeeper.seen(b"%d" % number)
    assert not doorkeeper.seen(b"first")
