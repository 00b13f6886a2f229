"""Writers of what the JavaScript nodes write: BIPF and the two logs."""

import struct
from collections.abc import Sequence

from feeds.message import JsonValue

BLOCK = 65536


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def bipf(value: JsonValue) -> bytes:
    kind, data = _parts(value)
    return varint(len(data) * 8 + kind) + data


def _parts(value: JsonValue) -> tuple[int, bytes]:
    match value:
        case None:
            return 6, b""
        case bool():
            return 6, bytes([value])
        case int() if -(2**31) <= value < 2**31:
            return 2, struct.pack("<i", value)
        case int() | float():
            return 3, struct.pack("<d", value)
        case str():
            return 0, value.encode()
        case list():
            return 4, b"".join(map(bipf, value))
        case _:
            return 5, b"".join(bipf(name) + bipf(member) for name, member in value.items())


def flume(records: Sequence[bytes], width: int = 4) -> bytes:
    out = b""
    for record in records:
        size = len(record).to_bytes(4, "big")
        out += size + record + size
        out += (len(out) + width).to_bytes(width, "big")
    return out


def blocked(records: Sequence[bytes]) -> bytes:
    out, block = b"", b""
    for record in records:
        if len(block) + len(record) + 4 > BLOCK:
            out, block = out + block.ljust(BLOCK, b"\0"), b""
        block += len(record).to_bytes(2, "little") + record
    return out + block.ljust(BLOCK, b"\0")
