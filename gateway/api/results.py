"""What intake made of submissions, as the contract has it: a message, a row of a batch, a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.api import content_negotiation, schemas
from gateway.api.problems import CONTENT_TYPE, FieldProblem, HttpProblem, ProblemDetails, problem, refuse, retry_after
from gateway.intake import submission
from gateway.intake.submission import SubmissionResult
from gateway.model import State
from gateway.store import ids
from gateway.store.errors import StoreError, StoreFull, StoreUnconfirmed

RETRY_SECONDS = 2.0
JSON = (b"content-type", content_negotiation.JSON)
LINES = (b"content-type", content_negotiation.NDJSON)
PROBLEM = (b"content-type", CONTENT_TYPE)
Header = tuple[bytes, bytes]
Row = schemas.SubmittedView | schemas.RefusedView
_STATUSES = schemas.STATUSES
encode = msgspec.json.Encoder().encode


class SubmitResponse(NamedTuple):
    """A whole answer. ``final``: a repeat under the same ``Idempotency-Key`` gets it again."""

    status: int
    body: bytes
    kind: Header = JSON
    headers: tuple[Header, ...] = ()
    final: bool = True


def said_problem(body: ProblemDetails, headers: tuple[Header, ...] = ()) -> SubmitResponse:
    """A problem as an answer; what is the gateway's own fault, or a matter of time, is not final."""
    return SubmitResponse(body.status, encode(body), PROBLEM, headers, final=body.status < 500 and body.status != 429)


def single(result: SubmissionResult | submission.SubmissionProblem) -> SubmitResponse:
    """The answer to ``POST /v1/messages``."""
    said = shape(result)
    if not isinstance(said, ProblemDetails):
        return SubmitResponse(202, encode(said))
    wait = result.wait if isinstance(result, submission.SubmissionProblem) else 0.0
    return said_problem(said, (retry_after(wait),) if wait else _come_back(said))


class CountLine(msgspec.Struct, gc=False):
    """The last line of an answer in lines."""

    accepted: int
    refused: int


def batch(
    results: Sequence[SubmissionResult | submission.SubmissionProblem], kind: bytes = content_negotiation.JSON
) -> SubmitResponse:
    """The answer to ``POST /v1/messages/batch`` with a body of JSON; ``kind``: its media type."""
    return rows_said([row(result, index) for index, result in enumerate(results)], kind)


def rows_said(rows: list[Row], kind: bytes) -> SubmitResponse:
    """A batch's rows as a whole answer: 202 unless the gateway itself is what refused all of it."""
    refused = [each.problem for each in rows if isinstance(each, schemas.RefusedView)]
    if len(refused) == len(rows) and (busy := _busy(refused)) is not None:
        if busy.id:
            busy = msgspec.structs.replace(busy, id="", ids=[each.id for each in refused])
        return said_problem(busy, _come_back(busy))
    accepted, final = len(rows) - len(refused), all(each.status < 500 for each in refused)
    if kind == content_negotiation.NDJSON:
        return SubmitResponse(202, joined([*rows, CountLine(accepted, len(refused))]), LINES, final=final)
    return SubmitResponse(202, encode(schemas.BatchAnswer(accepted, len(refused), rows)), final=final)


def joined(rows: Sequence[object]) -> bytes:
    """One line each."""
    return b"".join(encode(each) + b"\n" for each in rows)


def row(result: SubmissionResult | submission.SubmissionProblem, index: int, place: str = "messages[{}].") -> Row:
    """One line of a batch's answer. ``place``: what stands before the names of fields, {} is the index."""
    said = shape(result, index, place)
    return schemas.RefusedView(index, said) if isinstance(said, ProblemDetails) else said


def shape(
    result: SubmissionResult | submission.SubmissionProblem, index: int | None = None, place: str = "messages[{}]."
) -> schemas.SubmittedView | ProblemDetails:
    """A result as the contract has it; ``index`` is its place in a batch."""
    if isinstance(result, submission.SubmissionProblem):
        return _fault(result, "" if index is None else place.format(index))
    if result.state is State.REJECTED and not result.duplicate:
        verdict = result.verdict
        return problem(
            schemas.CODES[verdict.code],
            id=ids.text(result.id),
            client_ref=result.client_ref,
            decision=schemas.decision(verdict),
            retry_at=schemas.rfc3339(verdict.next_at),
        )
    return schemas.SubmittedView(
        ids.text(result.id),
        _STATUSES[result.state],
        result.segments,
        result.encoding,
        "+" + result.to,
        result.client_ref,
        schemas.decision(result.verdict),
        result.duplicate,
        index,
        result.replaced,
    )


def _fault(fault: submission.SubmissionProblem, place: str) -> ProblemDetails:
    if not fault.field:
        return problem(fault.code, fault.detail, id=ids.text(fault.id) if fault.id else "")
    field = place + fault.field
    errors = [FieldProblem(field, fault.code, fault.detail)]
    return problem(fault.code, f"{field}: {fault.detail}", errors=errors, retry_at=schemas.rfc3339(fault.retry_at))


def _busy(refused: Sequence[ProblemDetails]) -> ProblemDetails | None:
    """The gateway's own problem (503) when it is what refused every message: then the whole batch is to come again."""
    first = refused[0]
    return first if first.status == 503 and all(said.code == first.code for said in refused) else None


def _come_back(said: ProblemDetails) -> tuple[Header, ...]:
    return (retry_after(RETRY_SECONDS),) if said.status == 503 else ()


def store_problem(error: StoreError, *, reads: bool = False) -> HttpProblem:
    """503 with Retry-After: the store is away or full and nothing was done; or it was silent, and something may be.

    ``reads``: of a request that changes nothing.
    """
    code, detail = "store_full" if isinstance(error, StoreFull) else "store_unavailable", ""
    if isinstance(error, StoreUnconfirmed) and not reads:
        code, detail = "write_unconfirmed", "the store did not answer: repeat the request, which changes nothing twice"
    return refuse(code, detail, headers=(retry_after(RETRY_SECONDS),))
