"""Sealing and opening full box stream packets against one libsodium secretbox call of 4096 bytes each, and the
cost of small writes. `python -m tests.benchmarks.box_stream [packets]`
"""

import os
import sys

from replication.box_stream import BODY_MAX, Opener, Sealer
from replication.secretbox import SECRETBOX, pointer
from tests.benchmarks.measure import interleave, micros, ratio, report

REACH = 1.6
KEY, NONCE = os.urandom(32), os.urandom(24)
SMALL = 700


def main(packets: int) -> None:
    data = os.urandom(packets * BODY_MAX)
    sealed = bytes(Sealer(KEY, NONCE).seal(data))
    small = [data[at : at + SMALL] for at in range(0, 64 * SMALL, SMALL)]
    out = bytearray(BODY_MAX + 16)
    sealer = Sealer(KEY, NONCE)  # one stream, since a fresh one grows its buffers first
    opener = Opener(KEY, NONCE)

    def one_call_each() -> None:
        source, target = pointer(data), pointer(out)
        for at in range(0, len(data), BODY_MAX):
            SECRETBOX.seal(target, source + at, BODY_MAX, NONCE, KEY)

    def seal() -> None:
        sealer.seal(data)

    def open_() -> None:
        opener._nonce = int.from_bytes(NONCE, "big")
        assert len(opener.open(sealed)) == len(data)

    def seal_small() -> None:
        for piece in small:
            sealer.seal(piece)

    def seal_small_joined() -> None:
        sealer.seal(b"".join(small))

    contenders = {"one call": one_call_each, "seal": seal, "open": open_}
    times = interleave(contenders | {"small": seal_small, "joined": seal_small_joined}, rounds=60)
    report(
        "box_stream",
        packets=packets,
        secretbox_us=micros(times, "one call", packets),
        seal_us=micros(times, "seal", packets),
        open_us=micros(times, "open", packets),
        seal_mb_s=round(BODY_MAX / micros(times, "seal", packets), 1),
        open_mb_s=round(BODY_MAX / micros(times, "open", packets), 1),
        small_writes_us=micros(times, "small", len(small)),
        small_writes_joined_us=micros(times, "joined", len(small)),
        seal_ratio=ratio(times, "seal", "one call"),
        open_ratio=ratio(times, "open", "one call"),
        reach=REACH,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 63)
