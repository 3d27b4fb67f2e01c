"""What intake made of submissions, in the form of the HTTP contract: a message, a row of a batch, a problem."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway.api import content_negotiation, schemas
from gateway.api.problems import (
    CONTENT_TYPE,
    RETRY_SECONDS,
    FieldProblem,
    HttpProblem,
    ProblemDetails,
    problem,
    refuse,
    retry_after,
)
from gateway.intake.submission import SubmissionProblem, SubmissionResult
from gateway.model import State
from gateway.store import ids
from gateway.store.errors import StoreError, StoreFull, StoreUnconfirmed

JSON = (b"content-type", content_negotiation.JSON)
NDJSON = (b"content-type", content_negotiation.NDJSON)
PROBLEM = (b"content-type", CONTENT_TYPE)
Header = tuple[bytes, bytes]
Row = schemas.SubmittedView | schemas.RefusedView
_STATUSES = schemas.STATUSES
encode = msgspec.json.Encoder().encode


class SubmitResponse(NamedTuple):
    """A whole response. ``final``: a repeat under the same ``Idempotency-Key`` gets it again."""

    status: int
    body: bytes
    content_type: Header = JSON
    headers: tuple[Header, ...] = ()
    final: bool = True


class CountLine(msgspec.Struct, gc=False):
    """The last line of an NDJSON response."""

    accepted: int
    refused: int


def problem_response(body: ProblemDetails, headers: tuple[Header, ...] = ()) -> SubmitResponse:
    """Return a problem as a response; the gateway's own faults and rate limits are not final."""
    return SubmitResponse(body.status, encode(body), PROBLEM, headers, final=body.status < 500 and body.status != 429)


def single_response(result: SubmissionResult | SubmissionProblem) -> SubmitResponse:
    """Return the response to ``POST /v1/messages``."""
    view = view_of(result)
    if not isinstance(view, ProblemDetails):
        return SubmitResponse(202, encode(view))
    wait = result.wait if isinstance(result, SubmissionProblem) else 0.0
    return problem_response(view, (retry_after(wait),) if wait else _retry_header(view))


def batch_response(
    results: Sequence[SubmissionResult | SubmissionProblem], media_type: bytes = content_negotiation.JSON
) -> SubmitResponse:
    """Return the response to ``POST /v1/messages/batch`` with a JSON body. ``media_type``: of the response."""
    return rows_response([row_of(result, index) for index, result in enumerate(results)], media_type)


def rows_response(rows: list[Row], media_type: bytes) -> SubmitResponse:
    """Return a batch's rows as one response: 202 unless the gateway itself refused all of them."""
    refused = [row.problem for row in rows if isinstance(row, schemas.RefusedView)]
    if len(refused) == len(rows) and (common := _common_unavailability(refused)) is not None:
        if common.id:
            common = msgspec.structs.replace(common, id="", ids=[each.id for each in refused])
        return problem_response(common, _retry_header(common))
    accepted, final = len(rows) - len(refused), all(each.status < 500 for each in refused)
    if media_type == content_negotiation.NDJSON:
        return SubmitResponse(202, ndjson_lines([*rows, CountLine(accepted, len(refused))]), NDJSON, final=final)
    return SubmitResponse(202, encode(schemas.BatchAnswer(accepted, len(refused), rows)), final=final)


def ndjson_lines(rows: Sequence[object]) -> bytes:
    """Return the rows as JSON, one a line."""
    return b"".join(encode(row) + b"\n" for row in rows)


def row_of(result: SubmissionResult | SubmissionProblem, index: int, prefix: str = "messages[{}].") -> Row:
    """Return one row of a batch's response. ``prefix``: of field names; {} stands for the index."""
    view = view_of(result, index, prefix)
    return schemas.RefusedView(index, view) if isinstance(view, ProblemDetails) else view


def view_of(
    result: SubmissionResult | SubmissionProblem, index: int | None = None, prefix: str = "messages[{}]."
) -> schemas.SubmittedView | ProblemDetails:
    """Return a result in the form of the contract. ``index``: its position in a batch."""
    if isinstance(result, SubmissionProblem):
        return _problem_details(result, "" if index is None else prefix.format(index))
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


def _problem_details(found: SubmissionProblem, prefix: str) -> ProblemDetails:
    if not found.field:
        return problem(found.code, found.detail, id=ids.text(found.id) if found.id else "")
    field = prefix + found.field
    errors = [FieldProblem(field, found.code, found.detail)]
    return problem(found.code, f"{field}: {found.detail}", errors=errors, retry_at=schemas.rfc3339(found.retry_at))


def _common_unavailability(refused: Sequence[ProblemDetails]) -> ProblemDetails | None:
    """Return the problem (503) that every message of the batch has; None otherwise. The batch is then sent again."""
    first = refused[0]
    return first if first.status == 503 and all(each.code == first.code for each in refused) else None


def _retry_header(view: ProblemDetails) -> tuple[Header, ...]:
    return (retry_after(RETRY_SECONDS),) if view.status == 503 else ()


def store_problem(error: StoreError, *, reads: bool = False) -> HttpProblem:
    """Return 503 with Retry-After for an error of the store.

    The code ``write_unconfirmed`` says that something may have been written. ``reads``: the request writes nothing.
    """
    code, detail = "store_full" if isinstance(error, StoreFull) else "store_unavailable", ""
    if isinstance(error, StoreUnconfirmed) and not reads:
        code, detail = "write_unconfirmed", "the store did not answer: repeat the request, it takes effect only once"
    return refuse(code, detail, headers=(retry_after(RETRY_SECONDS),))
