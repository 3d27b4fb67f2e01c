"""The carriers of a run: simulators in one process, with a ledger that costs a fraction of a microsecond per message.

Runs as ``python -m bench.carrier JSON`` until SIGTERM; reports its ports and counters, writes the ledger at the end.
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

from bench.children import report
from gateway.simulator import Faults, Simulator
from gateway.smpp.short_message import ShortMessage


class CarrierPlan(msgspec.Struct, frozen=True):
    """What to simulate. Times in seconds."""

    carriers: int
    latency: float
    receipt_delay: float
    out: str


class Ledger:
    """When the first part of each message arrived (CLOCK_MONOTONIC); ``parts`` counts all parts."""

    def __init__(self) -> None:
        self.indexes = array("Q")
        self.times = array("d")
        self.parts = 0
        self.ended_at = 0.0  # when the last receipt was acknowledged

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
        """Yield (message, time) of each first part, in order of arrival."""
        return zip(self.indexes, self.times, strict=True)


def find_tag(esm_class: int, data_coding: int, payload: bytes) -> int:
    """Return the number at the start of a message's text (``#00000042#``), -1 for a later part."""
    start = payload[0] + 1 if esm_class & 0x40 and payload else 0
    text = payload[start : start + 20].replace(b"\0", b"") if data_coding == 8 else payload[start : start + 10]
    if text[:1] == b"#" and text[9:10] == b"#" and text[1:9].isdigit():
        return int(text[1:9])
    return -1


def recorder(ledger: Ledger) -> Callable[[ShortMessage], None]:
    """Return a simulator's ``tap``: records each accepted submit in the ledger."""

    def count(message: ShortMessage) -> None:
        ledger.parts += 1
        index = find_tag(message.esm_class, message.data_coding, message.payload)
        if index >= 0:
            ledger.indexes.append(index)
            ledger.times.append(time.monotonic())

    return count


async def serve(plan: CarrierPlan) -> None:
    """Serve until SIGTERM, then write the ledger."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    ledger = Ledger()
    faults = Faults(latency_ms=plan.latency * 1000, receipt_delay_ms=plan.receipt_delay * 1000)
    simulators = [Simulator(faults, tap=recorder(ledger)) for _ in range(plan.carriers)]
    report_changes(simulators, ledger, ports=[await simulator.start() for simulator in simulators])
    acknowledged = 0
    while not stop.is_set():
        await asyncio.sleep(0.01)
        now = sum(simulator.stats.receipts_acknowledged for simulator in simulators)
        if now != acknowledged:
            acknowledged, ledger.ended_at = now, time.monotonic()
        report_changes(simulators, ledger)
    for simulator in simulators:
        await simulator.stop()
    ledger.write(Path(plan.out))


_last_report: dict[str, object] = {}


def report_changes(simulators: list[Simulator], ledger: Ledger, **more: object) -> None:
    """Report the counters that changed."""
    stats = [simulator.stats for simulator in simulators]
    facts: dict[str, object] = {
        "bound": sum(each.bound for each in stats),
        "messages": len(ledger.indexes),
        "parts": ledger.parts,
        "due": sum(each.receipts_made for each in stats),
        "receipts": sum(each.receipts_acknowledged for each in stats),
        **more,
    }
    if not facts.items() <= _last_report.items():
        _last_report.update(facts)
        report(**facts)


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=CarrierPlan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(plan))


if __name__ == "__main__":
    main()
