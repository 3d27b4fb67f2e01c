"""Batches: many messages as a few requests, and the results of those requests as one."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from gateway.client.calls import Call, idempotency, message_body
from gateway.client.errors import InvalidError
from gateway.client.types import Accepted, Batch, Decision, Message, Problem, Refused, Result

CHUNK = 500  # messages a request: larger requests are no faster and delay other traffic
MAX_CHUNK = 5000
_MAX_OCTETS = 8 * 1024 * 1024 - 1024


class ResultRow(msgspec.Struct):
    """One row of a batch response: refused when it has a ``problem``, else accepted."""

    index: int = 0
    id: str = ""
    status: str = ""
    segments: int = 1
    encoding: str = ""
    to: str = ""
    client_ref: str | None = None
    decision: Decision = Decision()
    duplicate: bool = False
    replaced: dict[str, str] | None = None
    problem: Problem | None = None


class ResultRows(msgspec.Struct):
    """The response to a batch request."""

    accepted: int
    refused: int
    results: list[ResultRow]


NOTHING = ResultRows(0, 0, [])
"""The response to a chunk without a request."""


class BatchChunk(NamedTuple):
    """A part of a batch that goes in one request.

    ``start``: index of its first message in the batch; ``size``: messages sent; ``call``: None when none can be sent;
    ``refused``: messages that cannot be encoded and are not sent, by index in the batch.
    """

    start: int
    size: int
    call: Call[ResultRows] | None
    refused: tuple[Refused, ...] = ()


def chunks(messages: Iterable[Message], size: int, key: str | None) -> Iterator[BatchChunk]:
    """Divide a batch into requests of at most ``size`` messages and 8 MiB, reading the iterable as needed.

    The requests' Idempotency-Keys derive from ``key``: the same messages under the same key make the same requests.
    """
    if not 1 <= size <= MAX_CHUNK:
        raise ValueError(f"size must be from 1 to {MAX_CHUNK} messages a request, not {size}")
    base = key or str(uuid.uuid4())
    start = octets = 0
    encoded: list[bytes] = []
    refused: list[Refused] = []
    for index, message in enumerate(messages):
        try:
            one = message_body(message)
        except InvalidError as error:
            refused.append(Refused(index, error.problem))
            continue
        if encoded and (len(encoded) == size or octets + len(one) + 1 > _MAX_OCTETS):
            yield _chunk(encoded, start, base, refused)
            start, octets, encoded, refused = index, 0, [], []
        encoded.append(one)
        octets += len(one) + 1
    if encoded or refused:
        yield _chunk(encoded, start, base, refused)


def _chunk(encoded: list[bytes], start: int, base: str, refused: list[Refused]) -> BatchChunk:
    body = b'{"messages":[' + b",".join(encoded) + b"]}"
    call = Call("POST", "/v1/messages/batch", ResultRows, body, idempotency(f"{base}.{start}")) if encoded else None
    return BatchChunk(start, len(encoded), call, tuple(refused))


def results(chunk: BatchChunk, rows: ResultRows) -> Batch:
    """Return the results of a chunk, with indexes that count from the start of the whole batch."""
    not_sent = {one.index for one in chunk.refused}
    places = (
        [index for index in range(chunk.start, chunk.start + chunk.size + len(not_sent)) if index not in not_sent]
        if not_sent
        else range(chunk.start, chunk.start + chunk.size)
    )
    done: list[Result] = [_result(row, places[row.index]) for row in rows.results]
    done = sorted([*done, *chunk.refused], key=lambda one: one.index) if not_sent else done
    return Batch(rows.accepted, rows.refused + len(not_sent), done)


def _result(row: ResultRow, index: int) -> Result:
    if row.problem is not None:
        return Refused(index, row.problem)
    return Accepted(
        row.id,
        row.status,
        row.segments,
        row.encoding,
        row.to,
        row.client_ref,
        row.decision,
        row.duplicate,
        index,
        row.replaced,
    )


def joined(batches: Iterable[Batch]) -> Batch:
    """Return consecutive batches as one."""
    accepted = refused = 0
    done: list[Result] = []
    for batch in batches:
        accepted += batch.accepted
        refused += batch.refused
        done += batch.results
    return Batch(accepted, refused, done)
