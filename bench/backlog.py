"""Latency of one-time passwords behind a backlog: ``python -m bench.backlog [--backlog N]``.

Messages of a lower priority are sent until N of them wait behind the carriers' rate. Then one-time passwords are sent,
one per request, for ``--seconds``. Measured are the time from the first octet of a password's request to its submit_sm
at the carrier, and the CPU cost of every message sent meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import msgspec
import uvloop

from bench.carrier import Ledger
from bench.children import Child, ChildDied
from bench.load import LoadPlan, LoadResult
from bench.measure import Latency
from bench.options import MAX_MESSAGES, Options
from bench.run import KEY, Run
from bench.store import StoreView
from gateway.client import Unreachable
from gateway.store.errors import StoreError

BUDGET = 50.0
"""Milliseconds, p99, as long as the carriers allow 100 messages a second and answer within 20 ms."""

FIRST_PASSWORD = 50_000_000
"""Number of the first password, above every message of the backlog."""

FILLING = 900.0  # seconds that sending the backlog may take


class BacklogResult(msgspec.Struct, frozen=True):
    """What one run measured."""

    backlog: int  # messages that waited when the first password was sent
    passwords: int
    missing: int  # not at a carrier two seconds after the last was sent
    passwords_ms: Latency  # request → submit_sm
    request_ms: Latency  # request → 202
    sent: int  # messages submitted meanwhile, passwords and others
    gateway: float  # µs per message sent
    store: float
    store_bytes: int  # of data per message that waited
    rewrites: int  # of the append-only file, begun and ended while passwords were sent


class Backlog(Run):
    """A run with two loads: first the backlog, then the passwords."""

    async def measured(self, passwords: float, seconds: float, *, rewrite: bool = False) -> BacklogResult:
        """Send ``passwords`` per second for ``seconds``; with ``rewrite`` the append-only file is rewritten all the
        while. Raises what ``Run.result`` does."""
        try:
            return await self._find(passwords, seconds, rewrite)
        finally:
            await self._end()

    async def _find(self, passwords: float, seconds: float, rewrite: bool) -> BacklogResult:
        options = self.options
        carriers = await self._start_carriers()
        gateway, http = await self._start_gateway(carriers.reported["ports"])
        await carriers.until_at_least("bound", options.carriers * options.binds)
        async with StoreView.open(self._config) as store:
            empty = await store.memory()
            plan = LoadPlan(
                http,
                KEY,
                options.messages,
                500,
                4,
                0.0,
                FILLING,
                options.text,
                "transactional",
                str(self._folder / "sent"),
            )
            filled = await self._send("fill", plan)
            waiting = filled.accepted - int(carriers.reported["messages"])
            bytes_each = (await store.memory() - empty) / max(1, waiting)
            before, first = self._snapshot(gateway, store, carriers), int(carriers.reported["messages"])
            plan = msgspec.structs.replace(
                plan, messages=int(passwords * seconds), batch=1, connections=16, rate=passwords, category="otp",
                first=FIRST_PASSWORD,
            )  # fmt: skip
            rewrites = await store.rewrites()
            rewriting = asyncio.create_task(store.keep_rewriting()) if rewrite else None
            sent = await self._send("main", plan)
            rewrites = await store.rewrites() - rewrites
            if rewriting is not None:
                rewriting.cancel()
            await asyncio.sleep(2.0)
            after, last = self._snapshot(gateway, store, carriers), int(carriers.reported["messages"])
        await gateway.stop()
        await carriers.stop()
        arrived = {
            index: at for index, at in Ledger.read(self._folder / "ledger").arrivals() if index >= FIRST_PASSWORD
        }
        asked = dict(zip(sent.starts, sent.asked, strict=True))
        moved = max(1, last - first)
        return BacklogResult(
            backlog=waiting,
            passwords=sent.accepted,
            missing=sent.accepted - len(arrived),
            passwords_ms=Latency.of((at - asked[index]) * 1e3 for index, at in arrived.items() if index in asked),
            request_ms=Latency.of((b - a) * 1e3 for a, b in zip(sent.asked, sent.answered, strict=True)),
            sent=moved,
            gateway=round((after.gateway - before.gateway) / moved * 1e6, 1),
            store=round((after.store - before.store) / moved * 1e6, 1),
            store_bytes=round(bytes_each),
            rewrites=rewrites,
        )

    async def _send(self, name: str, plan: LoadPlan) -> LoadResult:
        child: Child = await self._start(name, "-m", "bench.load", msgspec.json.encode(plan).decode())
        await child.until("done", FILLING)
        return msgspec.msgpack.decode((self._folder / "sent").read_bytes(), type=LoadResult)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options; argparse exits with code 2 if they are invalid."""
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=__doc__)
    add = parser.add_argument
    add("--backlog", type=int, default=50_000, help="messages waiting (default %(default)s)")
    add("--passwords", type=float, default=50.0, help="one-time passwords per second (default %(default)s)")
    add("--seconds", type=float, default=20.0, help="how long to send passwords (default %(default)s)")
    add(
        "--carrier-rate",
        type=float,
        default=250.0,
        help="messages per second at each of two carriers (default %(default)s)",
    )
    add("--latency", type=float, default=0.005, help="response time of a carrier in seconds (default %(default)s)")
    add("--rewrite", action="store_true", help="have the append-only file rewritten all the while")
    add("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    if not 1 <= given.backlog <= MAX_MESSAGES:
        parser.error(f"--backlog is 1 to {MAX_MESSAGES}")
    if not (0 < given.passwords <= 1000 and 0 < given.seconds <= 600 and given.carrier_rate > 0):
        parser.error("--passwords is at most 1000, --seconds at most 600, --carrier-rate greater than 0")
    return given


async def measure(given: argparse.Namespace) -> BacklogResult:
    """One run, about as long as filling (10,000 messages a second) and ``--seconds`` take."""
    options = Options(
        messages=given.backlog,
        carrier_rate=given.carrier_rate,
        latency=given.latency,
        seconds=FILLING + 2 * given.seconds,
    )
    return await Backlog(options, lambda progress: None).measured(given.passwords, given.seconds, rewrite=given.rewrite)


def main() -> int:
    """Return 0 if passwords stayed within the budget and none is missing, 1 otherwise, 2 if nothing was measured."""
    given, began = parse(sys.argv[1:]), time.monotonic()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measure(given))
    except (ChildDied, TimeoutError, Unreachable, StoreError, OSError) as error:
        print(f"cannot measure: {error or type(error).__name__}", file=sys.stderr)
        return 2
    good = found.passwords_ms.p99 <= BUDGET and not found.missing
    if given.json:
        print(msgspec.json.encode(found).decode())
    else:
        _print(found, good, time.monotonic() - began)
    return 0 if good else 1


def _print(found: BacklogResult, good: bool, seconds: float) -> None:
    ms = found.passwords_ms
    print(f"waiting           {found.backlog:,} messages, {found.store_bytes} bytes each in the store")
    print(f"passwords         {found.passwords:,}, {found.missing} missing")
    print(f"request → 202     p50 {found.request_ms.p50:.1f} ms, p99 {found.request_ms.p99:.1f} ms")
    print(f"→ submit_sm       p50 {ms.p50:.1f} ms, p99 {ms.p99:.1f} ms, max {ms.max:.1f} ms")
    print(f"CPU               gateway {found.gateway} µs, store {found.store} µs per message of {found.sent:,} sent")
    if found.rewrites:
        print(f"append-only file  rewritten {found.rewrites} times meanwhile")
    print(f"budget            p99 {BUDGET:.0f} ms: {'kept' if good else 'missed'}")
    print(f"took              {seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
