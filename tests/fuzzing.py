"""The corpus of sessions from which fuzz tests start: `tests/corpus/*.session`.

A line is a message: its type, a space, and its body with Python's escapes for bytes. `-` stands for
bytes without a type and a length, `^` for the packets before authentication, whose length alone is
put in front. Lines that begin with `#` are remarks.
"""

import ast
import struct
from pathlib import Path

from hypothesis import strategies as st

PLACE = Path(__file__).parent / "corpus"
_AUTHENTICATION = "login."


def sessions() -> list[list[bytes]]:
    """What clients send after they have logged in, each a list of messages."""
    return [_read(path) for path in _files() if not path.name.startswith(_AUTHENTICATION)]


def logins() -> list[list[bytes]]:
    """What they send before."""
    return [_read(path) for path in _files() if path.name.startswith(_AUTHENTICATION)]


def _files() -> list[Path]:
    return sorted(PLACE.glob("*.session"))


def _read(path: Path) -> list[bytes]:
    lines = path.read_text().splitlines()
    return [_message(line) for line in lines if line and not line.startswith("#")]


def _message(line: str) -> bytes:
    kind, _, text = line.partition(" ")
    quoted = text.replace('"', '\\"')
    body: bytes = ast.literal_eval(f'b"{quoted}"')
    if kind == "-":
        return body
    length = struct.pack(">I", len(body) + 4)
    return length + body if kind == "^" else kind.encode() + length + body


@st.composite
def damaged(draw: st.DrawFn, scripts: list[list[bytes]]) -> bytes:
    """Messages of some of the sessions, some of them left out, repeated, exchanged or damaged."""
    pieces: list[bytes] = []
    for _ in range(draw(st.integers(1, 3))):
        script = draw(st.sampled_from(scripts))
        start = draw(st.integers(0, len(script) - 1))
        pieces += script[start:]
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(pieces) - 1))
        change = draw(st.sampled_from(_CHANGES))
        pieces[place] = change(draw, pieces[place], pieces)
    return b"".join(pieces)


def _left_out(draw: st.DrawFn, piece: bytes, _: list[bytes]) -> bytes:
    return b""


def _repeated(draw: st.DrawFn, piece: bytes, _: list[bytes]) -> bytes:
    return piece * draw(st.integers(2, 5))


def _exchanged(draw: st.DrawFn, piece: bytes, pieces: list[bytes]) -> bytes:
    return draw(st.sampled_from(pieces))


def _other_bytes(draw: st.DrawFn, piece: bytes, _: list[bytes]) -> bytes:
    found = bytearray(piece)
    for _count in range(draw(st.integers(1, 3)) if found else 0):
        found[draw(st.integers(0, len(found) - 1))] = draw(st.integers(0, 255))
    return bytes(found)


def _another_length(draw: st.DrawFn, piece: bytes, _: list[bytes]) -> bytes:
    if len(piece) < 5:
        return piece
    lengths = st.integers(0, 12) | st.sampled_from([1 << 30, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
    return piece[:1] + struct.pack(">I", draw(lengths)) + piece[5:]


def _cut(draw: st.DrawFn, piece: bytes, _: list[bytes]) -> bytes:
    return piece[: draw(st.integers(0, len(piece)))]


def _more(draw: st.DrawFn, piece: bytes, _: list[bytes]) -> bytes:
    return piece + draw(st.binary(max_size=12))


_CHANGES = (
    _left_out,
    _repeated,
    _exchanged,
    _other_bytes,
    _other_bytes,
    _another_length,
    _cut,
    _more,
)
