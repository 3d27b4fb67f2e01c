"""The load generator: posts batches over keep-alive connections and records when each was sent and answered.

Runs as ``python -m bench.load JSON``. It uses plain sockets and concatenated bodies, since it shares the machine with
what is measured. Ends after the last response, or when its time is over.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from array import array
from pathlib import Path

import msgspec
import uvloop

from bench.children import report

_COUNTS = re.compile(rb'"accepted":\s*(\d+),\s*"refused":\s*(\d+)')
FIRST_NUMBER = 46_700_000_000  # Swedish mobile numbers: ten million of them


class LoadPlan(msgspec.Struct, frozen=True):
    """What to send, and where to."""

    port: int
    key: str
    messages: int
    batch: int
    connections: int
    rate: float
    seconds: float
    text: str
    category: str
    out: str  # file for the LoadResult
    send_at: str = ""
    first: int = 0  # number of the first message


class LoadResult(msgspec.Struct):
    """Written to ``out``: the messages of request n begin at ``starts[n]``; times are CLOCK_MONOTONIC."""

    starts: list[int]
    sizes: list[int]
    asked: list[float]
    answered: list[float]
    accepted: int
    refused: int
    problems: list[str]


def tag(index: int) -> str:
    """Return the start of a message's text, by which the carrier's ledger identifies it. GSM characters only."""
    return f"#{index:08d}#"


def body(plan: LoadPlan, start: int, size: int) -> bytes:
    """Return the JSON body of one request."""
    text = msgspec.json.encode(plan.text)[1:-1].decode()
    tail = f' {text}","category":"{plan.category}"' + (f',"send_at":"{plan.send_at}"' if plan.send_at else "") + "}"
    items = [
        f'{{"to":"+{FIRST_NUMBER + index % 10_000_000}","text":"{tag(index)}{tail}'
        for index in range(start, start + size)
    ]
    joined = items[0] if plan.batch == 1 else '{"messages":[' + ",".join(items) + "]}"
    return joined.encode()


def request(plan: LoadPlan, content: bytes) -> bytes:
    path = "/v1/messages" if plan.batch == 1 else "/v1/messages/batch"
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {plan.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Load:
    """Sends all requests of a plan in order; each connection sends the next one when it is free."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.starts = array("Q")
        self.sizes = array("L")
        self.asked = array("d")
        self.answered = array("d")
        self.accepted = 0
        self.refused = 0
        self.problems: dict[str, int] = {}
        self._next = plan.first
        self._end = plan.first + plan.messages
        self._begun = 0.0

    async def run(self) -> None:
        self._begun = time.monotonic()
        reporting = asyncio.create_task(self._report())
        try:
            async with asyncio.timeout(self.plan.seconds):
                await asyncio.gather(*(self._connection() for _ in range(self.plan.connections)))
        except TimeoutError:
            self._problem("not all messages were sent within --seconds")
        reporting.cancel()

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.plan.port)
        try:
            while self._next < self._end:
                start = self._next
                size = min(self.plan.batch, self._end - start)
                self._next += size
                await self._post(reader, writer, start, size)
        except (OSError, asyncio.IncompleteReadError) as error:
            self._problem(f"connection: {error!r}")
        finally:
            writer.close()

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: int, size: int) -> None:
        data = request(self.plan, body(self.plan, start, size))
        if self.plan.rate:
            due = self._begun + (start - self.plan.first) / self.plan.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        asked = time.monotonic()
        while True:
            writer.write(data)
            status, content = await _answer(reader)
            if status not in (429, 503):
                break
            self._problem(f"answered {status}, retried")
            await asyncio.sleep(0.05)
        self.starts.append(start)
        self.sizes.append(size)
        self.asked.append(asked)
        self.answered.append(time.monotonic())
        self._count(status, content, size)

    def _count(self, status: int, content: bytes, size: int) -> None:
        found = _COUNTS.search(content) if self.plan.batch > 1 else None
        if found:
            self.accepted += int(found[1])
            self.refused += int(found[2])
            if int(found[2]):
                self._problem("refused: " + re.sub(rb"\s+", b" ", content[content.find(b'"problem"') :][:200]).decode())
        elif status == 202:
            self.accepted += size
        else:
            self.refused += size
            self._problem(f"answered {status}: {content[:200].decode(errors='replace')}")

    def _problem(self, text: str) -> None:
        if len(self.problems) < 10 or text in self.problems:
            self.problems[text] = self.problems.get(text, 0) + 1

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            report(accepted=self.accepted)

    def result(self) -> LoadResult:
        problems = [f"{text} (×{count})" for text, count in self.problems.items()]
        times = (list(self.starts), list(self.sizes), list(self.asked), list(self.answered))
        return LoadResult(*times, self.accepted, self.refused, problems)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return status and body of the next response. The gateway always sends a Content-Length, never chunks."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length:\s*(\d+)", head, re.I)
    return int(head[9:12]), await reader.readexactly(int(length[1])) if length else b""


def main() -> None:
    plan = msgspec.json.decode(sys.argv[1], type=LoadPlan)
    load = Load(plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load.run())
    Path(plan.out).write_bytes(msgspec.msgpack.encode(load.result()))
    report(accepted=load.accepted, done=True)


if __name__ == "__main__":
    main()
