"""CPU cost of webhooks, and the effect of dead receivers on others: ``python -m bench.webhooks``.

Runs a store server, a feeder that drives messages through their whole life in the store, receivers, and in this process
only the webhooks, so that the figures contain nothing else. Account "shop" has a healthy receiver; with ``--dead KIND``
account "bank" has a backlog for a receiver that is dead in that way (with ``--dead all`` one for each kind).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import time
from array import array
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog
import uvloop

from bench.children import Child, report
from bench.measure import Latency
from bench.receivers import KINDS
from bench.store_path import OWNER, Meter, life, server
from gateway.config.addresses import AddressGuard
from gateway.signature import read_secret
from gateway.store.crypto import Vault
from gateway.store.former_accounts import EndpointSettings
from gateway.store.keys import Hasher, tags
from gateway.store.library import build_library
from gateway.store.messages import MessageStore
from gateway.store.redis.connection import StoreConnection, connect
from gateway.store.webhook_queues import WebhookQueues
from gateway.webhooks.endpoints import Endpoints
from gateway.webhooks.follower import EventFollower
from gateway.webhooks.poster import Poster

HASHING, KEY = bytes(32), bytes(32)
PARTITIONS = 8
SECRET = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


class Feed(msgspec.Struct, frozen=True):
    """Messages of one account to be driven through their whole life, in batches."""

    url: str
    account: str
    first: int
    messages: int
    batch: int
    rate: float  # messages per second; 0 = unlimited


class WebhookFigures(msgspec.Struct):
    """What one run measured. CPU in µs per event of the healthy receiver."""

    dead: str
    events: int
    seconds: float
    webhooks: float
    store: float  # includes what the feeder causes: compare runs
    posts: int
    latency: Latency


async def _open(url: str) -> tuple[StoreConnection, MessageStore, WebhookQueues]:
    link = await connect(url, tags=tags(PARTITIONS), library=build_library(), durability="always")
    hasher, vault = Hasher(HASHING, PARTITIONS), Vault({0: KEY}, 0)
    store = MessageStore(link, hasher, vault, partitions=PARTITIONS)
    return link, store, WebhookQueues(link, hasher, vault, partitions=PARTITIONS, keep=20_000)


async def feed(plan: Feed) -> None:
    """Feed the store; runs in a child process."""
    _, store, _ = await _open(plan.url)
    begun, end = time.monotonic(), plan.first + plan.messages
    for start in range(plan.first, end, plan.batch):
        if plan.rate:
            await asyncio.sleep(begun + (start - plan.first) / plan.rate - time.monotonic())
        await life(store, Meter(0), range(start, min(end, start + plan.batch), plan.batch), plan.account)
    report(done=True)


async def _feed(plan: Feed, folder: Path) -> Child:
    text = msgspec.json.encode(plan).decode()
    return await Child.start("feeder", ["-m", "bench.webhooks", "--feed", text], folder / "feeder.log")


async def measure(options: argparse.Namespace) -> WebhookFigures:
    """Return the figures of one run. Raises ChildDied or TimeoutError if a program does not start."""
    with tempfile.TemporaryDirectory() as name, server(name) as (pid, url):
        folder = Path(name)
        out = folder / "ages"
        receivers = await Child.start("receivers", ["-m", "bench.receivers", str(out)], folder / "receivers.log")
        try:
            urls = await receivers.until("urls")
            figures = await _run(options, folder, StoreServer(pid, url), urls, receivers)
        finally:
            await receivers.stop()
        ages = array("d")
        ages.frombytes(out.read_bytes())
        figures.latency = Latency.of(ages)
        return figures


class StoreServer(NamedTuple):
    """The process and address of the store."""

    pid: int
    url: str


async def _run(
    options: argparse.Namespace, folder: Path, at: StoreServer, urls: dict[str, str], receivers: Child
) -> WebhookFigures:
    link, store, webhook_queues = await _open(at.url)
    # The same owner as the feeder's, which otherwise would count as a worker and be left its share of the partitions.
    endpoints = Endpoints(lambda: Poster(AddressGuard(["127.0.0.0/8"]), agent="bench"))
    follower = EventFollower(webhook_queues, store, OWNER, endpoints)
    dead = KINDS if options.dead == "all" else tuple(filter(None, [options.dead]))
    follower.configure(
        {"shop": EndpointSettings(urls["healthy"], (SECRET,), options.batch)}
        | {f"bank-{kind}": EndpointSettings(urls[kind], (SECRET,), options.batch) for kind in dead}
    )
    await follower.start()
    for number, kind in enumerate(dead, 1):  # their backlog
        plan = Feed(at.url, f"bank-{kind}", number * 1_000_000, options.backlog // len(dead), 500, 0.0)
        feeder = await _feed(plan, folder)
        await feeder.until("done", 120)
        await feeder.stop()
    task = asyncio.create_task(follower.run())
    await asyncio.sleep(options.settle)  # the backlog is in its queues
    feeder = await _feed(Feed(at.url, "shop", 0, options.messages, options.feed_batch, options.rate), folder)
    meter, begun = Meter(at.pid), time.monotonic()
    with meter.step("all"):
        async with asyncio.timeout(60 + options.messages / 1000):
            while int(receivers.reported["events"]) < options.messages:
                receivers.check()
                await asyncio.sleep(0.1)  # rarely: this process is what is measured
    seconds = time.monotonic() - begun
    await feeder.stop()
    task.cancel()
    await follower.stop(0.1)
    await link.close()
    per = options.messages
    return WebhookFigures(
        options.dead, per, round(seconds, 2), round(meter.python["all"] / per, 2), round(meter.server["all"] / per, 2),
        int(receivers.reported["posts"]), Latency.of([]),
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.webhooks", description=__doc__)
    add = parser.add_argument
    add("--messages", type=int, default=30_000, help="of the healthy receiver's account (default %(default)s)")
    add("--rate", type=float, default=3000.0, help="messages per second (default %(default)s)")
    add("--feed-batch", type=int, default=250, help="messages that become final together (default %(default)s)")
    add("--batch", type=int, default=200, help="webhook_batch (default %(default)s)")
    add("--dead", default="", choices=["", "all", *KINDS], help="in which way the other account's receiver is dead")
    add("--backlog", type=int, default=20_000, help="events waiting for it (default %(default)s)")
    add(
        "--settle",
        type=float,
        default=2.0,
        help="seconds that they are dead before measuring begins (default %(default)s)",
    )
    add("--feed", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if options.feed:
            runner.run(feed(msgspec.json.decode(options.feed, type=Feed)))
        else:
            figures: Any = runner.run(measure(options))
            print(msgspec.json.encode(figures).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
