"""What other accounts feel of carriers that flood and of hostile receivers: ``python -m tests.faults.floods``.

A gateway as a process of its own, a hostile carrier and a healthy one beside it. Account ``shop`` posts single messages
at a fixed rate to the healthy carrier all the time; each round floods for a few seconds in every way there is, with
quiet before each. The machine's other work is in the figures, so the rounds alternate and the table shows medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from bench.carrier import CarrierPlan, Ledger
from bench.children import Child, children_of, cpu_seconds, free_ports, resident
from bench.gateways import ready
from bench.load import LoadPlan, LoadResult
from bench.measure import quantile
from gateway.client import Client, Unreachable
from tests.faults.flooder import KINDS
from tests.webhooks.hostile import ENDLESS, UNENDING, hostile

KEY, TOKEN = "key", "token-of-the-operators"
RECEIVERS = [*list(ENDLESS.values())[:5], *list(UNENDING.values())[:5]]
"""The ten hostile receivers."""

CONNECTIONS = 64
SETTLE = 1.0
"""Seconds of a flood before the first request that is measured."""

QUIET, WEBHOOKS, ALL = "quiet", "hostile receivers", "all together"


class Phase(NamedTuple):
    """What one phase measured. Seconds; octets; CPU as a part of one core."""

    kind: str
    requests: list[float]
    submits: list[float]
    refused: int  # 429 and 503
    missing: int  # accepted, but no submit_sm while it was looked for
    memory: int
    gateway: float
    store: float
    flood: int


class Interval(NamedTuple):
    """A phase before the carrier's ledger is known."""

    kind: str
    sent: LoadResult
    memory: int
    gateway: float
    store: float
    flood: int


def go_first(pid: int) -> None:
    """Let a process go before all other work of the machine (Linux, root)."""
    os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))


class Flooder:
    """The hostile carrier."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.port = port
        self.process = process

    async def turn(self, kind: str) -> int:
        """From now on send this; octets sent so far."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(kind.encode() + b"\n")
        return int(msgspec.json.decode(await self.process.stdout.readline())["octets"])


@asynccontextmanager
async def flooder() -> AsyncIterator[Flooder]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.flooder", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield Flooder(process, msgspec.json.decode(await process.stdout.readline())["port"])
    finally:
        process.kill()
        await process.wait()


@contextmanager
def receivers() -> Iterator[list[int]]:
    """Ports of the hostile receivers."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(hostile(habit)) for habit in RECEIVERS]


def config_text(folder: Path, listen: list[int], north: int, south: int, webhook_queues: list[int]) -> str:
    """``north`` is healthy, ``south`` floods; account ``shop`` is measured, the others' receivers are hostile."""
    http, admin, smpp = listen
    lines = [
        f'[store]\ndata_dir = "{folder / "data"}"',
        f'[http]\nlisten = "127.0.0.1:{http}"\n[admin]\nlisten = "127.0.0.1:{admin}"\ntoken = "{TOKEN}"',
        f'[smpp]\nlisten = "127.0.0.1:{smpp}"\n[webhooks]\nallow_networks = ["127.0.0.0/8"]',
    ]
    for name, hook in [("shop", 0), *((f"hook{number}", port) for number, port in enumerate(webhook_queues))]:
        lines.append(
            f'[[account]]\nname = "{name}"\napi_keys = ["plain:{KEY if name == "shop" else name}"]\n'
            'default_category = "transactional"\nrate = 100000'
        )
        if hook:
            lines.append(f'callback_url = "http://127.0.0.1:{hook}/"\nwebhook_events = "all"')
    for name, port in (("north", north), ("south", south)):
        lines.append(
            f'[[carrier]]\nname = "{name}"\nhosts = ["127.0.0.1:{port}"]\nsystem_id = "gw"\npassword = "secret"\n'
            "rate = 0\nwindow = 250"
        )
    lines.append('[[route]]\nto = "+49"\ncarriers = ["south"]\n[[route]]\nto = "*"\ncarriers = ["north"]')
    return "\n".join(lines) + "\n"


class Floods:
    """The programs, and the phases they go through."""

    def __init__(
        self, folder: Path, flood: Flooder, webhook_queues: list[int], rate: float, seconds: float, first: bool
    ) -> None:
        self._folder, self._flood, self._hooks = folder, flood, webhook_queues
        self._rate, self._seconds, self._first_of_all = rate, seconds, first
        self._first = 0  # number of the next message
        self._intervals: list[Interval] = []

    async def start(self) -> None:
        plan = msgspec.json.encode(CarrierPlan(1, 0.0, 0.05, str(self._folder / "ledger"))).decode()
        self._north = await Child.start("north", ["-m", "bench.carrier", plan], self._folder / "north.log")
        (north,) = await self._north.until("ports")
        listen = free_ports(3)
        self._http = listen[0]
        file = self._folder / "gateway.toml"
        file.write_text(config_text(self._folder, listen, north, self._flood.port, self._hooks))
        self._gateway = await Child.start(
            "gateway", ["-m", "gateway", "serve", "--config", str(file)], self._folder / "gateway.log"
        )
        await ready(self._gateway, Client(f"http://127.0.0.1:{listen[1]}", TOKEN, timeout=10.0))
        await self._north.until_at_least("bound", 1)
        pid = self._gateway.process.pid
        for each in (pid, *children_of(pid), self._north.process.pid):
            self._prefer(each)

    def _prefer(self, pid: int) -> None:
        if self._first_of_all:
            go_first(pid)

    async def stop(self) -> None:
        await self._gateway.stop(40.0)
        await self._north.stop()

    async def phase(self, kind: str) -> None:
        """Flood in this way, or not at all, while the account posts."""
        floods = "everything" if kind == ALL else kind
        before = await self._flood.turn(floods)
        posting = asyncio.create_task(self._feed_hooks()) if kind in (WEBHOOKS, ALL) else None
        await asyncio.sleep(SETTLE)
        gateway, store = self._cpu()
        sent = await self._load()
        spent = self._cpu()
        octets = await self._flood.turn(QUIET) - before
        if posting is not None:
            posting.cancel()
        memory = resident(self._gateway.process.pid)
        took = max(sent.answered) - min(sent.asked)
        self._intervals.append(
            Interval(kind, sent, memory, (spent[0] - gateway) / took, (spent[1] - store) / took, octets)
        )
        await asyncio.sleep(SETTLE)

    def _cpu(self) -> tuple[float, float]:
        pid = self._gateway.process.pid
        store = sum(map(cpu_seconds, children_of(pid)))
        return cpu_seconds(pid), store

    async def _load(self) -> LoadResult:
        count = int(self._rate * self._seconds)
        out = self._folder / "sent"
        plan = LoadPlan(
            self._http, KEY, count, 1, CONNECTIONS, self._rate, self._seconds * 5, "hello", "transactional", str(out),
            first=self._first,
        )  # fmt: skip
        self._first += count
        child = await Child.start("load", ["-m", "bench.load", msgspec.json.encode(plan).decode()], out)
        self._prefer(child.process.pid)
        await child.until("done", self._seconds * 6)
        await child.stop()
        return msgspec.msgpack.decode(out.read_bytes(), type=LoadResult)

    async def _feed_hooks(self) -> None:
        """Send ten messages a second with events for each of the hostile receivers."""
        clients = [
            Client(f"http://127.0.0.1:{self._http}", f"hook{number}", timeout=30.0)
            for number in range(len(self._hooks))
        ]
        messages = [{"to": f"+4673{number:07d}", "text": "x"} for number in range(10)]
        while True:
            for client in clients:
                with contextlib.suppress(Unreachable):
                    await asyncio.to_thread(client.post, "/v1/messages/batch", {"messages": messages})
                await asyncio.sleep(1.0 / len(clients))

    def phases(self) -> Iterator[Phase]:
        """All phases, when everything has stopped."""
        ledger = Ledger.read(self._folder / "ledger")
        arrived: dict[int, float] = {}
        for message, at in ledger.arrivals():
            arrived.setdefault(message, at)
        for kind, sent, *rest in self._intervals:
            asked = dict(zip(sent.starts, sent.asked, strict=True))
            requests = [answered - at for at, answered in zip(sent.asked, sent.answered, strict=True)]
            submits = [arrived[number] - at for number, at in asked.items() if number in arrived]
            again = sum(int(text.rsplit("×", 1)[1][:-1]) for text in sent.problems if "sent again" in text)
            yield Phase(kind, requests, submits, again, len(asked) - len(submits), *rest)


def table(phases: list[Phase]) -> str:
    """Medians over the rounds; milliseconds, and times the p99 of the quiet phases in the same rounds."""
    rows = [f"{'':<22}{'202 p50':>9}{'p99':>8}{'submit p50':>12}{'p99':>8}{'× quiet':>9}{'429/503':>9}{'lost':>6}"
            f"{'MiB':>6}{'gateway':>9}{'store':>7}{'MB':>7}"]  # fmt: skip
    kinds = dict.fromkeys(phase.kind for phase in phases)
    base = 0.0
    for kind in kinds:
        mine = [phase for phase in phases if phase.kind == kind]
        figures = [
            statistics.median(1000 * quantile(sorted(values), share) for values in lists)
            for lists in ([phase.requests for phase in mine], [phase.submits for phase in mine])
            for share in (0.5, 0.99)
        ]
        base = base or figures[3]
        rows.append(
            f"{kind:<22}{figures[0]:9.1f}{figures[1]:8.1f}{figures[2]:12.1f}{figures[3]:8.1f}{figures[3] / base:9.2f}"
            f"{sum(phase.refused for phase in mine):9}{sum(phase.missing for phase in mine):6}"
            f"{max(phase.memory for phase in mine) >> 20:6}"
            f"{statistics.median(phase.gateway for phase in mine):9.0%}"
            f"{statistics.median(phase.store for phase in mine):7.0%}"
            f"{statistics.median(phase.flood for phase in mine) / 1e6:7.1f}"
        )
    return "\n".join(rows)


async def measure(kinds: list[str], rounds: int, rate: float, seconds: float, first: bool) -> list[Phase]:
    """Quiet before each kind, so many rounds."""
    with tempfile.TemporaryDirectory(prefix="smpp-gateway-floods-") as name, receivers() as webhook_queues:
        async with flooder() as flood:
            floods = Floods(Path(name), flood, webhook_queues, rate, seconds, first)
            try:
                await floods.start()
                for _ in range(rounds):
                    for kind in kinds:
                        await floods.phase(QUIET)
                        await floods.phase(kind)
            finally:
                await floods.stop()
            return list(floods.phases())


def main() -> int:
    """0 when it was measured."""
    known = [*(kind for kind in KINDS if kind != "everything"), WEBHOOKS, ALL]
    parser = argparse.ArgumentParser(prog="python -m tests.faults.floods", description=__doc__)
    parser.add_argument("kinds", nargs="*", help=f"of: {', '.join(known)}", default=known)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=100.0, help="single messages a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each flood")
    parser.add_argument("--first", action="store_true", help="go before the machine's other work (Linux, root)")
    options = parser.parse_args()
    print(table(asyncio.run(measure(options.kinds, options.rounds, options.rate, options.seconds, options.first))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
