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

ROSTER = b"roster"
"""The field of the members' hash that is none of them: its mark."""

CLAIM_SCRIPT = b"""\
local now = redis.call('TIME')[1]
local roster = redis.call('HGET', KEYS[1], 'roster')
if not roster or (ARGV[1] ~= '' and string.sub(roster, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ') then
  roster = ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. now
  redis.call('HSET', KEYS[1], 'roster', roster)
end
return {roster, now}
"""
"""KEYS: the members' hash. ARGV: this incarnation of the server or nothing, something new.

Marks the hash unless it has been marked in this incarnation: "incarnation new seconds". Returns the
mark and the server's time in seconds."""

REMOVE_SCRIPT = b"""\
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1])
end
"""
"""KEYS: the members' hash. ARGV: a member, the number of its last renewal as far as is known.

Removes it if it has not been renewed since."""


def argument(value: bytes) -> bytes:
    """One argument of a command."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def pack(*arguments: bytes) -> bytes:
    """A whole command."""
    return b"*%d\r\n" % len(arguments) + b"".join(map(argument, arguments))


def pack_head(*arguments: bytes, total: int) -> bytes:
    """The beginning of a command of `total` arguments."""
    return b"*%d\r\n" % total + b"".join(map(argument, arguments))
