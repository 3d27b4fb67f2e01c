"""The carriers of a run: our simulators, all in one process, with a ledger that costs a fraction of a microsecond.

Runs as ``python -m bench.carrier JSON`` until SIGTERM; tells its ports and counters, writes the ledger at the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import uvloop

from bench.children import say
from gateway.simulator import Faults, Simulator
from gateway.smpp.short_message import ShortMessage


class Serve(msgspec.Struct, frozen=True):
    """What to simulate. Seconds."""

    carriers: int
    latency: float
    receipt_delay: float
    out: str


class Ledger:
    """When which message's first part arrived (CLOCK_MONOTONIC); ``parts`` counts all."""

    def __init__(self) -> None:
        self.indexes = array("Q")
        self.times = array("d")
        self.parts = 0
        self.ended_at = 0.0  # the last receipt acknowledged

    def write(self, path: Path) -> None:
        fields = (self.parts, self.ended_at, self.indexes.tobytes(), self.times.tobytes())
        path.write_bytes(msgspec.msgpack.encode(fields))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        ledger = cls()
        parts, ended_at, indexes, times = msgspec.msgpack.decode(
            path.read_bytes(), type=tuple[int, float, bytes, bytes]
        )
        ledger.parts, ledger.ended_at = parts, ended_at
        ledger.indexes.frombytes(indexes)
        ledger.times.frombytes(times)
        return ledger

    def arrivals(self) -> Iterator[tuple[int, float]]:
        """(message, instant) of each first part, in the order they came."""
        return zip(self.indexes, self.times, strict=True)


def find_tag(esm_class: int, data_coding: int, payload: bytes) -> int:
    """The number that a message's text begins with (``#00000042#``), -1 for a later part."""
    start = payload[0] + 1 if esm_class & 0x40 and payload else 0
    text = payload[start : start + 20].replace(b"\0", b"") if data_coding == 8 else payload[start : start + 10]
    if text[:1] == b"#" and text[9:10] == b"#" and text[1:9].isdigit():
        return int(text[1:9])
    return -1


def counting(book: Ledger) -> Callable[[ShortMessage], None]:
    """What a simulator is to do with each submit it accepts."""

    def count(message: ShortMessage) -> None:
        book.parts += 1
        index = find_tag(message.esm_class, message.data_coding, message.payload)
        if index >= 0:
            book.indexes.append(index)
            book.times.append(time.monotonic())

    return count


async def serve(plan: Serve) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    book = Ledger()
    faults = Faults(latency_ms=plan.latency * 1000, receipt_delay_ms=plan.receipt_delay * 1000)
    simulators = [Simulator(faults, tap=counting(book)) for _ in range(plan.carriers)]
    tell(simulators, book, ports=[await simulator.start() for simulator in simulators])
    acknowledged = 0
    while not stop.is_set():
        await asyncio.sleep(0.01)
        now = sum(simulator.stats.receipts_acknowledged for simulator in simulators)
        if now != acknowledged:
            acknowledged, book.ended_at = now, time.monotonic()
        tell(simulators, book)
    for simulator in simulators:
        await simulator.stop()
    book.write(Path(plan.out))


_told: dict[str, object] = {}


def tell(simulators: list[Simulator], book: Ledger, **more: object) -> None:
    """The counters, when they changed."""
    stats = [simulator.stats for simulator in simulators]
    facts: dict[str, object] = {
        "bound": sum(each.bound for each in stats),
        "messages": len(book.indexes),
        "parts": book.parts,
        "due": sum(each.receipts_made for each in stats),
        "receipts": sum(each.receipts_acknowledged for each in stats),
        **more,
    }
    if not facts.items() <= _told.items():
        _told.update(facts)
        say(**facts)


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=Serve)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(plan))


if __name__ == "__main__":
    main()
