"""Shared limits: several gateways on one store, each a process, with one simulated carrier.

``python -m bench.limits`` sends as fast as it can to all gateways, then to one, kills the others, and prints how many
messages per second were accepted and submitted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.children import Child, free_ports
from bench.gateways import ready
from gateway.client import Client
from gateway.simulator import Faults, Simulator
from gateway.store.embedded.server import EmbeddedServer

KEY, TOKEN = "key", "token-of-the-operators"
SECRET = b64encode(bytes(32)).decode()


class GroupMember:
    """One gateway of the group."""

    def __init__(self, node: str, file: Path, http: int, admin: int) -> None:
        self.node = node
        self.file = file
        self.http = Client(f"http://127.0.0.1:{http}", KEY, timeout=30.0)
        self.admin = Client(f"http://127.0.0.1:{admin}", TOKEN, timeout=10.0)
        self.child: Child | None = None

    def __repr__(self) -> str:
        return f"<GroupMember {self.node} {self.child!r}>"

    async def start(self) -> None:
        """Return when it accepts messages."""
        self.child = await Child.start(
            self.node, ["-m", "gateway", "serve", "--config", str(self.file)], self.file.with_suffix(".log")
        )
        await ready(self.child, self.admin)

    async def kill(self) -> None:
        """Send SIGKILL."""
        assert self.child is not None
        os.kill(self.child.process.pid, signal.SIGKILL)
        await self.child.process.wait()

    async def stop(self) -> None:
        if self.child is not None:
            await self.child.stop()

    async def status(self) -> dict[str, Any]:
        """Return what ``GET /status`` shows."""
        body: dict[str, Any] = (await asyncio.to_thread(self.admin.get, "/status")).body
        return body


class GatewayGroup:
    """Gateways a, b, … with an account ``shop`` and a carrier ``north``."""

    def __init__(self, folder: Path, store: str, carrier: Simulator, count: int, settings: dict[str, str]) -> None:
        self.folder = folder
        self.carrier = carrier
        self.gateways = [self._gateway(chr(97 + number), store, settings) for number in range(count)]
        self._number = 0

    def __repr__(self) -> str:
        return f"<GatewayGroup {self.gateways!r}>"

    def _gateway(self, node: str, store: str, settings: dict[str, str]) -> GroupMember:
        http, admin, smpp = free_ports(3)
        file = self.folder / f"{node}.toml"
        file.write_text(
            f'node = "{node}"\n[store]\nurl = "{store}"\ndata_dir = "{self.folder / node}"\ndurability = "everysec"\n'
            f'[privacy]\nhashing_secret = "{SECRET}"\nencryption_keys = {{ 1 = "{SECRET}" }}\n'
            f'[http]\nlisten = "127.0.0.1:{http}"\n[admin]\nlisten = "127.0.0.1:{admin}"\ntoken = "{TOKEN}"\n'
            f'[smpp]\nlisten = "127.0.0.1:{smpp}"\n'
            f'[[account]]\nname = "shop"\napi_keys = ["plain:{KEY}"]\ndefault_category = "transactional"\n'
            f"{settings.get('account', '')}\n"
            f'[[carrier]]\nname = "north"\nhosts = ["127.0.0.1:{self.carrier.port}"]\nsystem_id = "gw"\n'
            f'password = "secret"\n{settings.get("carrier", "")}\n'
            '[[route]]\nto = "*"\ncarriers = ["north"]\n'
        )
        return GroupMember(node, file, http, admin)

    async def post(self, gateway: GroupMember, count: int) -> int:
        """Post one batch, each message to a number of its own; return how many were accepted, 0 if refused (429)."""
        first, self._number = self._number, self._number + count
        messages = [{"to": f"+4670{number:07d}", "text": "hello"} for number in range(first, first + count)]
        answer = await asyncio.to_thread(gateway.http.post, "/v1/messages/batch", {"messages": messages})
        assert answer.status in (202, 429), answer
        return int(answer.body["accepted"]) if answer.ok else 0

    async def flood(self, gateway: GroupMember, seconds: float, batch: int, pause: float = 0.02) -> int:
        """Post as fast as possible, ignoring Retry-After; return how many were accepted."""
        accepted, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            got = await self.post(gateway, batch)
            accepted += got
            if not got:
                await asyncio.sleep(pause)
        return accepted

    async def rates(self, gateways: Sequence[GroupMember], seconds: float, batch: int) -> tuple[float, float]:
        """Return accepted and submitted messages per second while posting to these as fast as possible."""
        submits, start = self.carrier.stats.submits, time.monotonic()
        accepted = await asyncio.gather(*(self.flood(gateway, seconds, batch) for gateway in gateways))
        took = time.monotonic() - start
        return sum(accepted) / took, (self.carrier.stats.submits - submits) / took

    async def shares(self, kind: str) -> list[float]:
        """Return what each running gateway holds: ``rate`` of the account, ``ceiling`` and ``binds`` of the carrier."""
        found = []
        for gateway in self.gateways:
            if gateway.child is not None and gateway.child.process.returncode is None:
                status = await gateway.status()
                (north,) = status["carriers"]
                found.append(status["accounts"]["shop"]["share"] if kind == "rate" else north[kind])
        return found


@asynccontextmanager
async def gateway_group(
    folder: Path, count: int, settings: dict[str, str], faults: Faults | None = None
) -> AsyncIterator[GatewayGroup]:
    """Run ``count`` gateways. ``settings``: lines for the tables of the account and the carrier."""
    store = EmbeddedServer(folder / "store", "everysec")
    await store.start()
    try:
        async with Simulator(faults, ledger=True) as carrier:
            built = GatewayGroup(folder, store.url, carrier, count, settings)
            try:
                await asyncio.gather(*(gateway.start() for gateway in built.gateways))
                yield built
            finally:
                await asyncio.gather(*(gateway.stop() for gateway in built.gateways))
    finally:
        await store.stop()


async def measure(count: int, rate: int, pace: int, seconds: float) -> None:
    """Print one line per phase. The first four seconds of each, in which shares move, are not counted."""
    settings = {"account": f"rate = {rate}", "carrier": f"rate = {pace}\nbinds = {count}"}
    batch = max(1, rate // 20)
    with tempfile.TemporaryDirectory() as folder:
        async with gateway_group(Path(folder), count, settings) as group:

            async def phase(words: str, gateways: Sequence[GroupMember]) -> None:
                await group.rates(gateways, 4.0, batch)
                accepted, submitted = await group.rates(gateways, seconds, batch)
                print(f"{words:<36} {accepted:8.1f} of {rate} accepted {submitted:8.1f} of {pace} submitted")

            await phase(f"full load on all {count}", group.gateways)
            await phase("full load on the first alone", group.gateways[:1])
            await phase(f"full load on all {count} again", group.gateways)
            await asyncio.gather(*(gateway.kill() for gateway in group.gateways[1:]))
            killed = time.monotonic()
            while (await group.shares("rate"))[0] < rate * 0.99 or (await group.shares("up"))[0] < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            print(f"{'kill -9 of all but the first':<36} it holds everything after {time.monotonic() - killed:.1f} s")
            await phase("full load on the one left", group.gateways[:1])


def main() -> int:
    """Measure and return 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=__doc__)
    parser.add_argument("--gateways", type=int, default=3)
    parser.add_argument("--rate", type=int, default=200, help="of the account, messages per second")
    parser.add_argument("--pace", type=int, default=100, help="of the carrier, messages per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase")
    options = parser.parse_args()
    asyncio.run(measure(options.gateways, options.rate, options.pace, options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
