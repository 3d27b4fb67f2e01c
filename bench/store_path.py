"""CPU time of the store per message: of every function, in the server and in Python.

    python -m bench.store_path [messages] [batch] [partitions]

Starts a server in a temporary folder, drives messages through their whole life in batches, and prints a table. CPU
time, not wall time, so that other load on the machine matters less.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.model import (
    Category,
    Check,
    Content,
    Envelope,
    NewMessage,
    OnUnknown,
    PartAnswer,
    PartState,
    Permission,
    Priority,
    Reason,
    ReceiptFact,
    Resolution,
    State,
    SubmitResult,
)
from gateway.store.crypto import Vault
from gateway.store.embedded.binary import environment, find_binary
from gateway.store.ids import new_ids
from gateway.store.keys import Hasher, tags
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.owner import LeaseOwner
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.requests import Lane, TakeRequest

TEXT = "Your parcel arrives today between 14:00 and 16:00. Track it at https://example.com/t/8f3k2 - reply STOP to end"
OWNER = LeaseOwner("bench", "1")


class Meter:
    """CPU time of the server and of this process, by step."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.server: defaultdict[str, float] = defaultdict(float)
        self.python: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        server, python = self._server_us(), time.process_time()
        yield
        self.server[name] += self._server_us() - server
        self.python[name] += (time.process_time() - python) * 1e6

    def _server_us(self) -> float:
        tasks = Path(f"/proc/{self._pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1000


def messages(hasher: Hasher, count: int, start: int, account: str = "shop") -> list[NewMessage]:
    now = int(time.time() * 1000)
    recipients = [hasher.recipient(f"4670{number:08d}") for number in range(start, start + count)]
    ids = new_ids(now, [recipient.partition for recipient in recipients])
    permission = Permission(
        now - 1000,
        now + 86_400_000,
        now + 172_800_000,
        Check.ALL_OPT_OUT,
        hasher.scope(account),
        hasher.scope(account, "brand"),
    )
    return [
        NewMessage(
            message_id,
            recipient,
            State.QUEUED,
            Reason.NONE,
            0,
            Category.TRANSACTIONAL,
            OnUnknown.RESEND,
            "north",
            1,
            1,
            permission,
            Envelope(recipient.digits, "Shop", account, int(Category.TRANSACTIONAL), "brand", encoding="gsm7"),
            Content(TEXT),
            hasher.reference(account, recipient, str(number)),
        )
        for number, (message_id, recipient) in enumerate(zip(ids, recipients, strict=True), start)
    ]


async def life(store: MessageStore, meter: Meter, numbers: range, account: str = "shop") -> None:
    """Drive messages to these numbers, in batches of the range's step, from accept to delivered.

    Responses share a call with the receipts of the batch before.
    """
    hasher, batch = store.hasher, numbers.step
    owner, lanes = OWNER, (Lane("north", 0, Priority.OTP), Lane("north", 0, Priority.TRANSACTIONAL))
    receipts: list[ReceiptFact] = []
    limit = batch // store.partitions * 2
    for start in numbers:
        items = messages(hasher, batch, start, account)
        with meter.step("accept"):
            await store.accept(items)
        with meter.step("take"):
            requests = [TakeRequest(p, lanes, "north", limit) for p in range(store.partitions)]
            taken = await store.take(owner, requests)
        leased = [message for one in taken for message in one.leased]
        answers = [
            SubmitResult(
                message.id,
                message.lease,
                "north",
                Resolution.SENT,
                Reason.NONE,
                0,
                0,
                1,
                [PartAnswer(0, PartState.ACCEPTED, message.id.hex()[-12:].encode(), 0)],
            )
            for message in leased
        ]
        with meter.step("progress"):
            await store.progress(owner, answers, receipts)
        receipts = [
            ReceiptFact("north", (message.id.hex()[-12:].encode(),), message.recipient, PartState.DELIVERED, "000")
            for message in leased
        ]
    with meter.step("progress"):
        await store.progress(owner, [], receipts)


def table(rows: Sequence[tuple[str, float, float]]) -> str:
    lines = [f"{'':16}{'server µs':>12}{'python µs':>12}"]
    lines += [f"{name:16}{server:12.1f}{python:12.1f}" for name, server, python in rows]
    return "\n".join(lines)


@contextmanager
def server(folder: str) -> Iterator[tuple[int, str]]:
    """Run a durable server on a unix socket; yield its pid and url."""
    binary, socket = find_binary(), Path(folder) / "s"
    arguments = ["--port", "0", "--unixsocket", str(socket), "--dir", folder, "--save", "", "--appendonly", "yes"]
    arguments += ["--hash-max-listpack-entries", "16"]  # as the embedded store
    arguments += ["--appendfsync", "always", "--auto-aof-rewrite-min-size", "4gb", "--logfile", f"{folder}/log"]
    process = subprocess.Popen([str(binary), *arguments], env=environment(binary), stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.01)
        yield process.pid, f"unix://{socket}"
    finally:
        process.terminate()
        process.wait()


async def main(count: int = 40_000, batch: int = 500, partitions: int = 8) -> None:
    hasher, vault = Hasher(bytes(32), partitions), Vault({0: bytes(32)}, 0)
    with tempfile.TemporaryDirectory() as folder, server(folder) as (pid, url):
        link: StoreConnection = await connect(url, tags=tags(partitions), library=build_library())
        store: Any = MessageStore(link, hasher, vault, partitions=partitions)
        await life(store, Meter(pid), range(50_000_000, 50_000_000 + batch * 4, batch))  # warm up
        meter = Meter(pid)
        used = int((await link.commands([(0, ("INFO", "memory"))]))[0].split(b"used_memory:")[1].split(b"\r")[0])
        await life(store, meter, range(0, count, batch))
        after = int((await link.commands([(0, ("INFO", "memory"))]))[0].split(b"used_memory:")[1].split(b"\r")[0])
        await link.close()
    rows = [(name, meter.server[name] / count, meter.python[name] / count) for name in meter.server]
    rows.append(("whole life", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print(f"{count} messages, batches of {batch}, {partitions} partitions, fsync always")
    print(table(rows))
    print(f"bytes per finished message: {(after - used) / count:.0f}")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
