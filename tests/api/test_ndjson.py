"""Batches as lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api import ndjson
from gateway.api.accounts import Accounts
from gateway.api.ndjson import LineSplitter
from gateway.store.errors import StoreUnavailable
from tests.api.conftest import Answer, ApiClient
from tests.intake.fakes import OTHER, SHOP

HEADERS = {"Content-Type": "application/x-ndjson"}


def line(number: int, **more: Any) -> bytes:
    return msgspec.json.encode({"to": f"+4670174{number:04}", "text": "x"} | more) + b"\n"


async def post(api_client: ApiClient, data: Any) -> tuple[Answer, list[Any]]:
    answer = await api_client("POST", "/v1/messages/batch", data=data, headers=HEADERS)
    rows = [msgspec.json.decode(row) for row in answer.body.splitlines()] if isinstance(answer.body, bytes) else []
    return answer, rows


@given(st.lists(st.binary(max_size=12)), st.integers(1, 8))
def test_any_chunks_give_the_same_lines(pieces: list[bytes], limit: int) -> None:
    together = LineSplitter(limit).feed(b"".join(pieces), end=True)
    cutter = LineSplitter(limit)
    apart = [each for piece in pieces for each in cutter.feed(piece)] + cutter.feed(b"", end=True)
    assert apart == together
    assert all(each is None or 0 < len(each) <= limit for each in apart)


async def test_one_line_in_one_line_out(api_client: ApiClient) -> None:
    data = line(1, client_ref="a") + b"\n" + line(2, colour=1) + b"{\n" + line(3, to="x") + line(4).rstrip()
    answer, rows = await post(api_client, data)
    assert (answer.status, answer.headers["Content-Type"]) == (202, "application/x-ndjson")
    first, second, third, fourth, fifth, count = rows
    assert (first["index"], first["status"], first["client_ref"]) == (0, "queued", "a")
    assert (second["index"], second["problem"]["code"]) == (1, "unknown_field")
    assert second["problem"]["errors"][0]["field"] == "colour"
    assert (third["index"], third["problem"]["code"]) == (2, "malformed")
    assert third["problem"]["detail"].startswith("the line is not JSON: it is truncated")
    assert (fourth["problem"]["code"], fourth["problem"]["errors"][0]["field"]) == ("invalid_number", "to")
    assert (fifth["index"], fifth["to"]) == (4, "+46701740004")
    assert count == {"accepted": 2, "refused": 3}
    assert len(api_client.store.messages) == 2


async def test_results_leave_while_lines_arrive(api_client: ApiClient) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def lines() -> AsyncIterator[bytes]:
        for number in range(3):
            yield line(number)
            assert msgspec.json.decode(await asyncio.wait_for(heard.get(), 5))["index"] == number

    headers = HEADERS | {"Authorization": "Bearer shop-key"}
    async with api_client.http.post("/v1/messages/batch", data=lines(), headers=headers) as response:
        async for row in response.content:
            heard.put_nowait(row)
    assert msgspec.json.decode(await heard.get()) == {"accepted": 3, "refused": 0}


async def test_a_long_stream(api_client: ApiClient) -> None:
    """More than a JSON batch may have, by a client that reads nothing before it has sent everything."""
    answer, rows = await post(api_client, b"".join(line(number) for number in range(7000)))
    assert answer.status == 202
    assert rows.pop() == {"accepted": 7000, "refused": 0}
    assert [row["index"] for row in rows] == list(range(7000))
    assert len({row["id"] for row in rows}) == 7000


async def test_a_stream_has_a_maximum_of_lines(api_client: ApiClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "MAX_LINES", 600)
    _, rows = await post(api_client, b"".join(line(number) for number in range(700)))
    assert rows[-1] == {"accepted": 600, "refused": 1}
    assert (rows[-2]["index"], rows[-2]["problem"]["code"]) == (600, "too_large")
    assert (await api_client.send()).status == 202


async def test_a_line_has_bounds(api_client: ApiClient) -> None:
    _, rows = await post(api_client, line(1) + b"x" * 200_000 + b"\n" + line(2))
    assert [row.get("problem", {}).get("code") for row in rows] == [None, "too_large", None, None]


@pytest.mark.parametrize("data", [b"", b"\n\n"])
async def test_an_empty_stream_is_malformed(api_client: ApiClient, data: bytes) -> None:
    answer = await api_client("POST", "/v1/messages/batch", data=data, headers=HEADERS)
    assert (answer.status, answer.body["code"]) == (400, "malformed")


async def test_without_a_store_the_request_is_refused_or_its_later_lines(api_client: ApiClient) -> None:
    data = b"".join(line(number) for number in range(1100))
    api_client.store.error = StoreUnavailable("x")
    answer = await api_client("POST", "/v1/messages/batch", data=data, headers=HEADERS)
    assert (answer.status, answer.body["code"]) == (503, "store_unavailable")
    api_client.store.fail_after = 1
    answer, rows = await post(api_client, data)
    accepted = rows[-1]["accepted"]
    assert 0 < accepted < 1100
    assert rows[accepted]["problem"]["code"] == "store_unavailable"
    assert len(rows) == 1101


async def test_a_stream_over_the_rate_is_slowed_down_not_refused(api_client: ApiClient) -> None:
    api_client.api.accounts = Accounts((msgspec.structs.replace(SHOP, rate=1000), OTHER), time.monotonic())
    began = time.monotonic()
    _, rows = await post(api_client, b"".join(line(number) for number in range(1500)))
    assert rows[-1] == {"accepted": 1500, "refused": 0}
    assert 0.5 < time.monotonic() - began < 5
    over = await api_client("POST", "/v1/messages/batch", data=line(1), headers=HEADERS)
    assert (over.status, over.body["code"]) == (429, "rate_limited")


async def test_the_single_route_takes_no_lines(api_client: ApiClient) -> None:
    answer = await api_client("POST", "/v1/messages", data=line(1), headers=HEADERS)
    assert answer.status == 415


def both() -> bytes:
    """Two messages, the second to nobody."""
    return line(1) + line(2, to="x")


async def test_lines_in_json_out(api_client: ApiClient) -> None:
    asked = HEADERS | {"Accept": "application/json"}
    answer = await api_client("POST", "/v1/messages/batch", data=both(), headers=asked)
    assert (answer.status, answer.headers["Content-Type"]) == (202, "application/json")
    assert (answer.body["accepted"], answer.body["refused"]) == (1, 1)
    assert [row["index"] for row in answer.body["results"]] == [0, 1]
    assert answer.body["results"][1]["problem"]["errors"][0]["field"] == "to"


async def test_json_in_lines_out(api_client: ApiClient) -> None:
    messages = [msgspec.json.decode(row) for row in both().splitlines()]
    answer = await api_client(
        "POST", "/v1/messages/batch", json={"messages": messages}, headers={"Accept": "application/x-ndjson"}
    )
    assert (answer.status, answer.headers["Content-Type"]) == (202, "application/x-ndjson")
    first, second, count = [msgspec.json.decode(row) for row in answer.body.splitlines()]
    assert (first["status"], second["problem"]["code"], count) == (
        "queued",
        "invalid_number",
        {"accepted": 1, "refused": 1},
    )


async def test_a_kept_response_is_repeated_unchanged(api_client: ApiClient) -> None:
    asked = HEADERS | {"Accept": "application/json", "Idempotency-Key": "k"}
    first = await api_client("POST", "/v1/messages/batch", data=both(), headers=asked)
    again = await api_client("POST", "/v1/messages/batch", data=both(), headers=asked)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (202, first.body, "true")


async def test_an_unavailable_media_type_is_refused_before_anything_is_accepted(api_client: ApiClient) -> None:
    answer = await api_client("POST", "/v1/messages/batch", data=both(), headers=HEADERS | {"Accept": "text/csv"})
    assert (answer.status, answer.body["code"]) == (406, "not_acceptable")
    assert "application/x-ndjson or application/json" in answer.body["detail"]
    answer = await api_client("POST", "/v1/messages/batch", data=b"to,text", headers={"Content-Type": "text/csv"})
    assert (answer.status, "application/json or application/x-ndjson" in answer.body["detail"]) == (415, True)
    assert [name for name, _ in api_client.store.calls if name == "accept"] == []


async def test_half_an_emoji_is_the_fault_of_its_line(api_client: ApiClient) -> None:
    good = b'{"to":"+46701740605","text":"whole \\ud83d\\ude00"}'
    lines = [
        good,
        good.replace(b"\\ude00", b""),
        good.replace(b"\\ud83d", b""),
        good.replace(b"whole", b"\xed\xa0\xbd"),
        good,
    ]
    answer = await api_client(
        "POST", "/v1/messages/batch", data=b"\n".join(lines), headers={"Content-Type": "application/x-ndjson"}
    )
    *rows, count = [msgspec.json.decode(line) for line in answer.body.splitlines()]
    assert (answer.status, count) == (202, {"accepted": 2, "refused": 3})
    assert ["problem" in row for row in rows] == [False, True, True, True, False]
    assert "a lone surrogate" in rows[1]["problem"]["detail"]
