"""One run: start the three programs, warm up, measure, stop them, add up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.carrier import CarrierPlan, Ledger
from bench.children import Child, children_of, cpu_seconds, free_ports, resident
from bench.load import LoadPlan, LoadResult
from bench.measure import Cost, Counts, Latency, Result, compare
from bench.options import Options
from bench.store import StoreView
from gateway.client import Client, Unreachable

KEY = "bench"
TOKEN = "token-of-the-benchmark"
QUIET = 20.0  # seconds without progress after which the rest counts as lost


class Progress(NamedTuple):
    """Progress of a run, for a progress bar."""

    phase: str
    accepted: int = 0
    done: int = 0  # messages whose receipts are acknowledged


class Snapshot(NamedTuple):
    """CPU seconds of each program so far, at a time of the monotonic clock."""

    at: float
    gateway: float
    store: float
    carriers: float


class Measured(NamedTuple):
    """Everything that a run has recorded, before it is added up."""

    sent: LoadResult
    ledger: Ledger
    before: Snapshot
    after: Snapshot
    load_cpu: float
    finals: dict[str, int]
    waits: list[float]
    finished: bool
    parts: int
    receipts: int
    resident: int
    live_bytes: int
    finished_bytes: int


def config_text(options: Options, folder: Path, listen: Sequence[int], carriers: Sequence[int]) -> str:
    """Return the gateway's configuration, without limits except those in the options.

    ``listen``: ports of HTTP, admin, SMPP.
    """
    http, admin, smpp = listen
    quote = msgspec.json.encode
    lines = [
        f"workers = {options.workers}",
        "[store]",
        f"url = {quote(options.store).decode()}",
        f"data_dir = {quote(str(folder / 'data')).decode()}",
        f'durability = "{options.durability}"',
        f"partitions = {options.partitions}",
        f'[http]\nlisten = "127.0.0.1:{http}"',
        f'[admin]\nlisten = "127.0.0.1:{admin}"\ntoken = "{TOKEN}"',
        f'[smpp]\nlisten = "127.0.0.1:{smpp}"',
        '[log]\nlevel = "info"\nformat = "json"',
        f'[[account]]\nname = "bench"\napi_keys = ["plain:{KEY}"]',
        'default_category = "transactional"',
        "rate = 1000000\nmax_queued = 10000000",
    ]
    if options.callback:
        lines.append(f"callback_url = {quote(options.callback).decode()}\nwebhook_batch = 200")
        lines.insert(1, '[webhooks]\nallow_networks = ["127.0.0.0/8"]')
    for index, port in enumerate(carriers):
        lines.append(
            f'[[carrier]]\nname = "c{index}"\nhosts = ["127.0.0.1:{port}"]\nsystem_id = "bench"\npassword = "bench"\n'
            f"binds = {options.binds}\nwindow = {options.window}\nrate = {options.carrier_rate}"
        )
    names = ", ".join(f'"c{index}"' for index in range(len(carriers)))
    lines.append(f'[[route]]\nto = "*"\ncarriers = [{names}]\nweights = [{", ".join("1" * len(carriers))}]')
    return "\n".join(lines) + "\n"


class Run:
    """The programs of one run, and what is measured of them."""

    def __init__(self, options: Options, report: Callable[[Progress], None]) -> None:
        self.options = options
        self._report = report
        self._folder = Path(tempfile.mkdtemp(prefix="smpp-gateway-bench-"))
        self._children: list[Child] = []
        self._deadline = time.monotonic() + options.seconds

    async def result(self) -> Result:
        """Return the result. Raises ChildDied, TimeoutError, Unreachable or StoreError if a program does not start."""
        try:
            return await self._measure()
        finally:
            await self._end()

    async def _end(self) -> None:
        for child in reversed(self._children):  # the load first, the carriers last
            await child.stop()
        if not self.options.keep:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _measure(self) -> Result:
        options = self.options
        self._report(Progress("starting"))
        carriers = await self._start_carriers()
        gateway, http = await self._start_gateway(carriers.reported["ports"])
        await carriers.until_at_least("bound", options.carriers * options.binds)
        async with StoreView.open(self._config) as store:
            self._report(Progress("warming up"))
            warm = max(1, min(2000, options.messages // 5))
            await self._load(http, "warm", warm, first=options.messages)
            await self._drained(carriers, gateway, warm, 0, Progress("warming up"))
            await store.mark()
            empty, before = await store.memory(), self._snapshot(gateway, store, carriers)
            first = dict(carriers.reported)
            sent, load_cpu = await self._load(http, "main", options.messages, carriers=carriers, base=warm)
            finished = await self._drained(carriers, gateway, sent.accepted, warm, Progress("messages", sent.accepted))
            after, full = self._snapshot(gateway, store, carriers), await store.memory()
            held = sum(map(resident, _processes(gateway, store)))
            finals, waits = await store.finals()
            live = await self._live_bytes(http, store)
        parts, receipts = (int(carriers.reported[name]) - int(first[name]) for name in ("parts", "receipts"))
        await gateway.stop()
        await carriers.stop()
        measured = Measured(
            sent=sent,
            ledger=Ledger.read(self._folder / "ledger"),
            before=before,
            after=after,
            load_cpu=load_cpu,
            finals=finals,
            waits=waits,
            finished=finished,
            parts=parts,
            receipts=receipts,
            resident=held,
            live_bytes=live,
            finished_bytes=round((full - empty) / max(1, sent.accepted)),
        )
        return add_up(self.options, measured)

    # ── programs ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self, name: str, *arguments: str) -> Child:
        child = await Child.start(name, list(arguments), self._folder / f"{name}.log")
        self._children.append(child)
        return child

    async def _start_carriers(self) -> Child:
        plan = CarrierPlan(
            carriers=self.options.carriers,
            latency=self.options.latency,
            receipt_delay=self.options.receipt_delay,
            out=str(self._folder / "ledger"),
        )
        child = await self._start("carriers", "-m", "bench.carrier", msgspec.json.encode(plan).decode())
        await child.until("ports")
        return child

    async def _start_gateway(self, carriers: list[int]) -> tuple[Child, int]:
        http, admin, smpp = free_ports(3)
        self._config = self._folder / "bench.toml"
        self._config.write_text(config_text(self.options, self._folder, (http, admin, smpp), carriers))
        child = await self._start("gateway", "-m", "gateway", "serve", "--config", str(self._config))
        client = Client(f"http://127.0.0.1:{admin}", TOKEN, timeout=2.0)
        async with asyncio.timeout(30):
            while True:
                child.check()
                with contextlib.suppress(Unreachable):
                    if await asyncio.to_thread(_all_ready, client):
                        return child, http
                await asyncio.sleep(0.05)

    async def _load(
        self, port: int, name: str, messages: int, *, first: int = 0, send_at: str = "",
        carriers: Child | None = None, base: int = 0,
    ) -> tuple[LoadResult, float]:  # fmt: skip
        """Run the load to its end; return its result and its CPU seconds."""
        options, out = self.options, self._folder / f"{name}.sent"
        paced = options.rate if name == "main" else 0.0
        plan = LoadPlan(
            port, KEY, messages, options.batch, options.connections, paced,
            max(1.0, self._deadline - time.monotonic()), options.text, options.category, str(out), send_at, first,
        )  # fmt: skip
        child = await self._start(name, "-m", "bench.load", msgspec.json.encode(plan).decode())
        spent = 0.0
        while "done" not in child.reported:
            await asyncio.sleep(0.05)
            if "done" not in child.reported:
                child.check()
            spent = max(spent, cpu_seconds(child.process.pid))
            if carriers is not None:
                done = max(0, int(carriers.reported["messages"]) - base)
                self._report(Progress("messages", int(child.reported.get("accepted", 0)), done))
        await child.stop()
        self._children.remove(child)
        return msgspec.msgpack.decode(out.read_bytes(), type=LoadResult), spent

    async def _drained(self, carriers: Child, gateway: Child, accepted: int, base: int, progress: Progress) -> bool:
        """Wait until every accepted message has reached a carrier and every receipt is acknowledged; return False after
        ``QUIET`` seconds without progress, or at the deadline."""
        last, since = (0, 0), time.monotonic()
        while True:
            gateway.check()
            counts = carriers.reported
            now = (int(counts["messages"]) - base, int(counts["receipts"]))
            self._report(progress._replace(accepted=accepted, done=now[0]))
            if now[0] >= accepted and counts["receipts"] >= counts["due"]:
                return True
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > QUIET or time.monotonic() > self._deadline:
                return False
            await asyncio.sleep(0.02)

    # ── measuring ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _snapshot(self, gateway: Child, store: StoreView, carriers: Child) -> Snapshot:
        return Snapshot(
            time.monotonic(),
            sum(map(cpu_seconds, _processes(gateway, store))),
            cpu_seconds(store.pid),
            cpu_seconds(carriers.process.pid),
        )

    async def _live_bytes(self, http: int, store: StoreView) -> int:
        """Return the octets of store data per waiting message: schedule some for tomorrow and compare."""
        if not self.options.memory:
            return 0
        self._report(Progress("memory"))
        before = await store.memory()
        tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        sent, _ = await self._load(
            http, "memory", self.options.memory, first=2 * self.options.messages, send_at=tomorrow
        )
        return round((await store.memory() - before) / max(1, sent.accepted))


def _all_ready(client: Client) -> bool:
    """Whether every worker accepts messages. Raises Unreachable."""
    status = client.get("/status")
    return status.ok and all(worker["state"] == "up" for worker in status.body.get("workers", ()))


def _processes(gateway: Child, store: StoreView) -> list[int]:
    """Return the gateway's processes: one, or a supervisor and its workers."""
    pid = gateway.process.pid
    return [pid, *(child for child in children_of(pid) if child != store.pid)]


def add_up(options: Options, got: Measured) -> Result:
    """Return the result. Pure except for the description of the machine."""
    sent, accepted = got.sent, got.sent.accepted
    asked = _by_message(sent)
    copies: Counter[int] = Counter()
    to_wire: list[float] = []
    for index, at in got.ledger.arrivals():
        if index in asked:
            copies[index] += 1
            if copies[index] == 1:
                to_wire.append((at - asked[index]) * 1e3)
    reached, lost, doubled = compare(accepted, copies)
    begin = min(sent.asked, default=got.before.at)
    took = max(1e-9, got.ledger.ended_at - begin)
    problems = list(sent.problems)
    if not got.finished:
        problems.append("the run did not finish: see lost, or raise --seconds")
    return Result(
        options=msgspec.to_builtins(options),
        machine=machine(),
        finished=got.finished,
        seconds=round(took, 3),
        rate=round(accepted / took, 1),
        accept_rate=round(accepted / max(1e-9, max(sent.answered, default=begin) - begin), 1),
        counts=Counts(accepted, sent.refused, reached, lost, doubled, got.parts, got.receipts, got.finals),
        gateway=Cost.of(got.after.gateway - got.before.gateway, accepted),
        store=Cost.of(got.after.store - got.before.store, accepted),
        load=Cost.of(got.load_cpu, accepted),
        carriers=Cost.of(got.after.carriers - got.before.carriers, accepted),
        request=Latency.of((b - a) * 1e3 for a, b in zip(sent.asked, sent.answered, strict=True)),
        to_wire=Latency.of(to_wire),
        to_receipt=Latency.of(got.waits),
        gateway_memory=got.resident,
        live_bytes=got.live_bytes,
        finished_bytes=got.finished_bytes,
        problems=problems,
    )


def _by_message(sent: LoadResult) -> dict[int, float]:
    """Return when each message was sent, by number."""
    return {
        index: at
        for start, size, at in zip(sent.starts, sent.sizes, sent.asked, strict=True)
        for index in range(start, start + size)
    }


def machine() -> dict[str, object]:
    """Describe the machine."""
    names = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": names[0] if names else platform.processor(),
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
