"""Every message posted three times, two posts at once, the gateway killed twice in between.

Half of the batches repeat by ``client_ref``, half by ``Idempotency-Key``. For many messages:
``python -m tests.faults.repeated_posts 100000``.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from gateway.simulator import Faults
from tests.running_gateway import KEY, RunningGateway, extra, running_gateway, until

BATCH = 100
AT_ONCE = 4  # batches, each posted twice at the same time
LATER = 15  # batches between the second and the third post
FIRST = 46_700_000_000
WINDOWS = 2 * 2 * 50  # carriers x binds x window: what one kill may leave unknown


class Report(NamedTuple):
    """Results of the run."""

    messages: int
    answers: Counter[str]  # by response to the posts
    ids_of_one: Counter[int]  # how many ids a message was answered with -> messages
    ids: int
    missing: int
    doubled: int  # copies too many at the carriers
    seconds: float
    finals: dict[str, int]


class RepeatingClient:
    """Posts batches, and repeats those without a complete response."""

    def __init__(self, gateway: RunningGateway, count: int) -> None:
        self.gateway = gateway
        self.count = count
        self.answers: Counter[str] = Counter()
        self.ids: list[set[str]] = [set() for _ in range(count)]
        self.done = 0
        self._batches = iter(range(count // BATCH))
        self._later: list[int] = []

    async def run(self) -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(self.gateway.http.url, headers=headers) as http:
            await asyncio.gather(*(self._work(http) for _ in range(AT_ONCE)))
            await asyncio.gather(*(self._work(http, last=True) for _ in range(AT_ONCE)))

    async def _work(self, http: aiohttp.ClientSession, *, last: bool = False) -> None:
        if not last:
            for number in self._batches:
                await asyncio.gather(self._post(http, number), self._post(http, number))
                self.done += BATCH
                self._later.append(number)
                if len(self._later) > LATER:
                    await self._post(http, self._later.pop(0))
        while last and self._later:
            await self._post(http, self._later.pop(0))

    async def _post(self, http: aiohttp.ClientSession, number: int) -> None:
        """Post a batch until each of its messages has a result."""
        by_key = number % 2 == 1
        places = range(number * BATCH, (number + 1) * BATCH)
        messages: list[dict[str, Any]] = [{"to": f"+{FIRST + i}", "text": f"Hello {i}"} for i in places]
        if not by_key:
            for place, message in zip(places, messages, strict=True):
                message["client_ref"] = f"order-{place}"
        headers = {"Idempotency-Key": f"batch-{number}"} if by_key else {}
        while not await self._answered(http, messages, headers, places.start):  # noqa: ASYNC110 - it is the answer
            await asyncio.sleep(0.05)

    async def _answered(
        self, http: aiohttp.ClientSession, messages: list[dict[str, Any]], headers: dict[str, str], first: int
    ) -> bool:
        try:
            async with http.post("/v1/messages/batch", json={"messages": messages}, headers=headers) as response:
                body = await response.json(content_type=None)
                replayed = "Idempotency-Replayed" in response.headers
        except aiohttp.ClientError:
            self.answers["no answer"] += 1
            return False
        if response.status != 202:
            self.answers[f"{response.status} {body['code']}"] += 1
            return False
        self.answers["202 replayed" if replayed else "202"] += 1
        for row in body["results"]:
            if "id" in row:
                self.ids[first + row["index"]].add(row["id"])
        return int(body["refused"]) == 0


async def post_repeatedly(folder: Path, count: int, patience: float) -> Report:
    """Post, kill, post, kill, post; wait until every message is at a carrier and its receipt is back."""
    began = time.monotonic()
    faults = Faults(latency_ms=5, receipt_delay_ms=100)
    async with running_gateway(folder, faults=faults, settings="binds = 2\nwindow = 50") as gateway:
        client = RepeatingClient(gateway, count)
        posting = asyncio.create_task(client.run())
        for share in (1 / 3, 2 / 3):
            await until(lambda share=share: client.done >= count * share or posting.done(), patience)  # type: ignore[misc]
            await gateway.kill()
            await gateway.start()
        await asyncio.wait_for(posting, patience)
        carriers = gateway.carriers.values()
        await until(lambda: len(gateway.copies()) >= count, patience)
        await until(lambda: all(c.stats.receipts_acknowledged >= c.stats.accepted for c in carriers), patience)
        copies = gateway.copies()
        return Report(
            messages=count,
            answers=client.answers,
            ids_of_one=Counter(len(each) for each in client.ids),
            ids=len(set().union(*client.ids)),
            missing=sum(str(FIRST + i) not in copies for i in range(count)),
            doubled=extra(copies),
            seconds=time.monotonic() - began,
            finals=await gateway.finals(),
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="repeated-posts-") as name:
        print(asyncio.run(post_repeatedly(Path(name), int(sys.argv[1]), 900.0)))
