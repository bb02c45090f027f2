"""The SCRAM verifiers that clients are checked against, also of those who don't exist.

The first look at any name takes one derivation's time (1 to 2 ms), whatever is stored for it, and
later looks take none. So time doesn't tell whether a name exists, nor does the salt, which for
plain passwords and for unknown names comes from the same key (PostgreSQL's mock authentication
nonce).
"""

import hmac
import secrets
from collections import OrderedDict
from typing import Final

from proxy.wire.passwords import PlainPassword, StoredSecret
from proxy.wire.scram import Verifier, make_verifier

MOST_NAMES: Final = 10_000


class Verifiers:
    """Verifiers by user, the most recently used names kept."""

    def __init__(self, key: bytes, most: int = MOST_NAMES) -> None:
        self._key = key
        self._most = most
        self._known: OrderedDict[str, tuple[StoredSecret | None, Verifier]] = OrderedDict()

    def of(self, user: str, stored: StoredSecret | None) -> Verifier:
        """The verifier for a stored secret; one that nothing fits where there can't be any."""
        known = self._known.get(user)
        if known is None or known[0] != stored:
            known = stored, self._derive(user, stored)
            self._known[user] = known
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(user)
        return known[1]

    def _derive(self, user: str, stored: StoredSecret | None) -> Verifier:
        salt = hmac.digest(self._key, user.encode(), "sha256")[:16]
        text = stored.text if isinstance(stored, PlainPassword) else secrets.token_hex(16)
        made = make_verifier(text, salt)
        return stored if isinstance(stored, Verifier) else made
