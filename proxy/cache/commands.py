"""Commands as they go over the wire to Redis (RESP), and the script of a conditional store."""

from hashlib import sha1

from proxy.cache.entry import HEADER_SIZE, TOKEN_SIZE

STORE_SCRIPT = f"""\
local epochs = redis.call('MGET', unpack(KEYS, 1, #KEYS - 1))
for i = 1, #epochs do
  local first = {HEADER_SIZE + 1} + (i - 1) * {TOKEN_SIZE}
  if epochs[i] ~= string.sub(ARGV[1], first, first + {TOKEN_SIZE - 1}) then return 0 end
end
redis.call('SET', KEYS[#KEYS], ARGV[1], 'PX', ARGV[2])
return 1
""".encode()
"""KEYS: the epochs, then the entry. ARGV: the entry's bytes, its life in milliseconds.

Stores the entry (1) only if each epoch in it is the current one, else stores nothing (0)."""

STORE_SCRIPT_SHA = sha1(STORE_SCRIPT, usedforsecurity=False).hexdigest().encode()


def argument(value: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def pack(*arguments: bytes) -> bytes:
    """A whole command."""
    return b"*%d\r\n" % len(arguments) + b"".join(map(argument, arguments))


def pack_head(*arguments: bytes, total: int) -> bytes:
    """The beginning of a command of `total` arguments."""
    return b"*%d\r\n" % total + b"".join(map(argument, arguments))
