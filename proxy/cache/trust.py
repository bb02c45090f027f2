"""Whether the cache may be asked, as far as the change feed is concerned.

The promise: while a database has a change feed, a hit misses no write that was acknowledged more
than `max_lag` before the query came, whoever made it; under a rule with `max_feed_lag`, none more
than that before it. `fresh_until` is what makes it: the moment before which every acknowledged
write has been invalidated in Redis (see `cache.feed.feed` for how that is known). It only grows
while position and samples do; where one of them stands still the age grows, and the cache is passed
by.
"""

import time
from typing import Final

NOT_YET: Final = "the change feed has not caught up yet"
LAGS: Final = "the change feed lags more than cache.feed.max_lag"
RULE_LAGS: Final = "the change feed lags more than the rule's max_feed_lag"

UNKNOWN: Final = float("-inf")


class FeedTrust:
    """See the module's docstring. `max_lag` in seconds. Written by the feed, read by sessions."""

    __slots__ = ("fresh_until", "max_lag", "obstacle")

    def __init__(self, max_lag: float) -> None:
        self.max_lag = max_lag
        self.fresh_until = UNKNOWN
        """In seconds of time.monotonic()."""
        self.obstacle: str | None = None
        """Why the feed can't work as things are; None: nothing is known against it."""

    def doubt(self, max_feed_lag: float) -> str | None:
        """Why the cache can't be asked; None if it can. `max_feed_lag`: the rule's, 0 for none."""
        if self.obstacle is not None:
            return self.obstacle
        if self.fresh_until == UNKNOWN:
            return NOT_YET
        age = time.monotonic() - self.fresh_until
        if age > self.max_lag:
            return LAGS
        if max_feed_lag and age > max_feed_lag:
            return RULE_LAGS
        return None
