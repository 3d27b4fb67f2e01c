"""A gateway process for journey and fault tests, with simulated carriers in the test's event loop."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from bench.children import Child, free_ports
from bench.gateways import ready
from bench.store import StoreView
from gateway.client import Client
from gateway.simulator import Faults, Simulator

KEY = "key"
TOKEN = "token-of-the-operators"


class Message(NamedTuple):
    """One accepted message; each has a recipient of its own."""

    to: str  # digits
    id: str
    segments: int


class RunningGateway:
    """One gateway on ``folder``. Start it again after ``kill``: it continues with the same store."""

    def __init__(
        self,
        folder: Path,
        carriers: dict[str, Simulator],
        settings: str = "",
        *,
        workers: int = 1,
        store: str = "",
        more: str = "",
        node: str = "",
    ) -> None:
        self.folder = folder
        self.carriers = carriers
        self.file = folder / "gateway.toml"
        http, admin, smpp = free_ports(3)
        self.http = Client(f"http://127.0.0.1:{http}", KEY, timeout=30.0)
        self.admin = Client(f"http://127.0.0.1:{admin}", TOKEN, timeout=10.0)
        lines = [
            f'workers = {workers}\nnode = "{node}"',
            f'[store]\ndata_dir = "{folder / "data"}"\n{store}',
            f'[http]\nlisten = "127.0.0.1:{http}"\n[admin]\nlisten = "127.0.0.1:{admin}"\ntoken = "{TOKEN}"',
            f'[smpp]\nlisten = "127.0.0.1:{smpp}"',
            f'[[account]]\nname = "shop"\napi_keys = ["plain:{KEY}"]\ndefault_category = "transactional"',
            "rate = 1000000",
        ]
        for name, carrier in carriers.items():
            lines.append(
                f'[[carrier]]\nname = "{name}"\nhosts = ["127.0.0.1:{carrier.port}"]\nsystem_id = "gw"\n'
                f'password = "secret"\nrate = 0\n{settings}'
            )
        names = ", ".join(f'"{name}"' for name in carriers)
        lines.append(more)
        lines.append(f'[[route]]\nto = "*"\ncarriers = [{names}]\noverflow = true')
        self.file.write_text("\n".join(lines) + "\n")
        self.process: Child | None = None

    def client(self, key: str) -> Client:
        """Return an HTTP client with the API key of another account."""
        return Client(self.http.url, key, timeout=30.0)

    async def start(self) -> None:
        """Start the process; return once it accepts messages."""
        self.process = await Child.start(
            "gateway", ["-m", "gateway", "serve", "--config", str(self.file)], self.folder / "gateway.log"
        )
        await ready(self.process, self.admin)

    async def kill(self) -> None:
        """Send SIGKILL: no orderly stop."""
        assert self.process is not None
        self.process.process.send_signal(signal.SIGKILL)
        await self.process.stop()

    async def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        return await self.process.stop(40.0) if self.process is not None else 0

    async def post(self, messages: list[dict[str, Any]]) -> list[Message]:
        """Post one batch and return the accepted messages. Raise Unreachable when no response came."""
        answer = await asyncio.to_thread(self.http.post, "/v1/messages/batch", {"messages": messages})
        assert answer.status == 202, answer
        return [
            Message(result["to"].lstrip("+"), result["id"], result["segments"])
            for result in answer.body["results"]
            if "id" in result
        ]

    async def status(self) -> dict[str, Any]:
        """Return the body of ``GET /status``."""
        body: dict[str, Any] = (await asyncio.to_thread(self.admin.get, "/status")).body
        return body

    def copies(self) -> dict[str, Counter[bytes]]:
        """Return what the carriers accepted: recipient -> part -> number of copies."""
        seen: dict[str, Counter[bytes]] = {}
        for carrier in self.carriers.values():
            for entry in carrier.ledger:
                seen.setdefault(entry.dest.decode(), Counter())[entry.payload] += 1
        return seen

    async def finals(self) -> dict[str, int]:
        """Return the number of messages by final state, from the events of the whole run."""
        async with StoreView.open(self.file) as store:
            return (await store.finals())[0]


@asynccontextmanager
async def running_gateway(
    folder: Path,
    names: Iterable[str] = ("north", "south"),
    *,
    faults: Faults | None = None,
    settings: str = "",
    workers: int = 1,
    store: str = "",
    more: str = "",
) -> AsyncIterator[RunningGateway]:
    """Run a gateway with one simulated carrier per name until the context ends.

    ``settings`` go into every [[carrier]], ``store`` into [store]; ``more`` is any further configuration."""
    carriers = {name: Simulator(faults, ledger=True) for name in names}
    for carrier in carriers.values():
        await carrier.start()
    built = RunningGateway(folder, carriers, settings, workers=workers, store=store, more=more)
    try:
        await built.start()
        yield built
    finally:
        await built.stop()
        for carrier in carriers.values():
            await carrier.stop()


async def until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until ``holds`` returns True. Raise TimeoutError."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)


def missing(accepted: Iterable[Message], copies: dict[str, Counter[bytes]]) -> list[Message]:
    """Return the accepted messages of which no carrier has every part."""
    return [message for message in accepted if len(copies.get(message.to, ())) < message.segments]


def extra(copies: dict[str, Counter[bytes]]) -> int:
    """Return the number of surplus copies of parts at the carriers."""
    return sum(count - 1 for parts in copies.values() for count in parts.values())
