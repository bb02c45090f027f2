"""What the cache raises. Clients never see these: a cache that fails is bypassed."""


class CacheError(Exception):
    """The cache could not do what was asked."""


class CacheUnavailable(CacheError):
    """Redis can't be reached, or refused: nothing was changed unless the message says so."""


class LinkLost(CacheError):
    """The connection broke before the reply came: the command may or may not have run."""


class TooSlow(LinkLost):
    """The reply did not come in time."""
