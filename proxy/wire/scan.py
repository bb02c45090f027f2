"""Loops over messages, in C where it was compiled (`_scan.c`). Both forms do the same.

Source of the layouts: PostgreSQL documentation, "Message Formats".
"""

from collections.abc import Callable

from proxy.wire.framing import uint32_at

Execution = tuple[int, bytes | None, bytes, bytes, int]


def skip_in_python(data: bytes, position: int, table: bytes) -> int:
    """Past all whole messages from `position` on whose type's entry in `table` is zero.

    Gives where the first other one begins: one that matters, that is not whole, or whose length is
    impossible; or the end of `data`. `table` has 256 entries.
    """
    size = len(data)
    while size - position >= 5 and not table[data[position]]:
        length = uint32_at(data, position + 1)
        if length < 4 or length + 1 > size - position:
            break
        position += 1 + length
    return position


def answered_in_python(data: bytes, position: int, table: bytes) -> int:
    """The transaction status of a ReadyForQuery that ends `data`, or 0.

    0 too if anything before it, from `position` on, is not as `skip` would pass over it.
    """
    position = skip_in_python(data, position, table)
    return data[position + 5] if data[position:-1] == b"Z\0\0\0\x05" else 0


def execution_in_python(data: bytes, position: int) -> Execution | None:
    """The commonest batch: one statement run once, up to its Sync; None for any other.

    That is [Parse] Bind [Describe of the portal] Execute Sync, with the unnamed portal, no limit of
    rows, and the statement unnamed if it is parsed. Gives (where it ends, the body of Parse
    after the name or None, the statement's name in Bind, the body of Bind after the names, 1 if it
    is described or else 0).
    """
    content = None
    if data[position : position + 1] == b"P":
        end = _end(data, position, 80)
        if end - position < 7 or data[position + 5] or data.find(b"\0", position + 6, end) < 0:
            return None
        content = data[position + 6 : end]
        position = end
    bind_end = _end(data, position, 66)
    if bind_end - position < 7 or data[position + 5]:
        return None
    name_end = data.find(b"\0", position + 6, bind_end)
    name = data[position + 6 : name_end]
    if name_end < 0 or bind_end - name_end < 7 or (content is not None and name):
        return None
    position = bind_end
    describes = data[position : position + 1] == b"D"
    if describes:
        if data[position + 1 : position + 7] != b"\0\0\0\x06P\0":
            return None
        position += 7
    if data[position : position + 15] != b"E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04":
        return None
    return position + 15, content, name, data[name_end + 1 : bind_end], int(describes)


def renamed_in_python(data: bytes, start: int, end: int, old: int, name: bytes) -> bytes:
    """`data` from `start`, a Bind to the unnamed portal, to `end`, with another statement's name.

    `old`: the length of its name so far, in bytes.
    """
    if end > len(data) or end - start < 6 + old:
        raise ValueError("there is no Bind with such a name")
    length = uint32_at(data, start + 1) - old + len(name)
    return b"".join((b"B", length.to_bytes(4), b"\0", name, data[start + 6 + old : end]))


def _end(data: bytes, position: int, kind: int) -> int:
    """The end of a whole message of this type, or -1."""
    if len(data) - position < 5 or data[position] != kind:
        return -1
    length = uint32_at(data, position + 1)
    return position + 1 + length if 4 <= length < len(data) - position else -1


skip: Callable[[bytes, int, bytes], int] = skip_in_python
answered: Callable[[bytes, int, bytes], int] = answered_in_python
execution: Callable[[bytes, int], Execution | None] = execution_in_python
renamed: Callable[[bytes, int, int, int, bytes], bytes] = renamed_in_python

try:
    from proxy.wire import _scan
except ImportError:
    pass
else:
    skip, answered, execution, renamed = _scan.skip, _scan.answered, _scan.execution, _scan.renamed
