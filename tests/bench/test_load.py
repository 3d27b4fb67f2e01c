from __future__ import annotations

import asyncio
import json

from bench.carrier import find_tag
from bench.load import Load, LoadPlan, body, tag
from gateway.smpp.text import split


def plan(**changes: object) -> LoadPlan:
    values: dict[str, object] = {
        "port": 0, "key": "k", "messages": 25, "batch": 10, "connections": 2, "rate": 0.0, "seconds": 5.0,
        "text": 'with "quotes" and ü', "category": "otp", "out": "",
    }  # fmt: skip
    return LoadPlan(**(values | changes))  # type: ignore[arg-type]


def test_bodies_are_json_with_a_tag_in_each_text() -> None:
    messages = json.loads(body(plan(), 7, 3))["messages"]
    assert [message["to"] for message in messages] == ["+46700000007", "+46700000008", "+46700000009"]
    assert messages[0] == {"to": "+46700000007", "text": '#00000007# with "quotes" and ü', "category": "otp"}
    assert json.loads(body(plan(batch=1, send_at="2030-01-01T00:00:00Z"), 7, 1))["send_at"] == "2030-01-01T00:00:00Z"


def test_the_carrier_finds_the_tag_in_every_alphabet_and_only_in_the_first_part() -> None:
    for text in ("short", "x" * 400, "你好" * 100):
        cut = split(f"{tag(42)} {text}", reference=1)
        found = [find_tag(cut.esm_class, cut.data_coding, part.short_message) for part in cut.parts]
        assert found == [42] + [-1] * (len(cut.parts) - 1)


async def test_every_message_is_posted_once_and_counted() -> None:
    seen: list[str] = []

    async def door(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b"":
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            batch = json.loads(await reader.readexactly(length))["messages"]
            seen.extend(message["to"] for message in batch)
            reply = b'{"accepted":%d,"refused":1,"results":[]}' % (len(batch) - 1)
            writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: %d\r\n\r\n%b" % (len(reply), reply))
            if reader.at_eof():
                break

    async def quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await door(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(quietly, "127.0.0.1", 0)
    async with server:
        load = Load(plan(port=server.sockets[0].getsockname()[1], first=100))
        await load.run()
    assert sorted(seen) == [f"+467000001{number:02d}" for number in range(25)]
    assert (load.accepted, load.refused) == (22, 3)
    assert sum(load.sizes) == 25
    assert all(a <= b for a, b in zip(load.asked, load.answered, strict=True))
