"""Responses of the Starlette side: JSON by msgspec, problems, and the handlers that turn every error into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from gateway.api.problems import CONTENT_TYPE, HttpProblem, ProblemDetails, problem
from gateway.api.results import store_problem
from gateway.store.errors import StoreError

_PATH_SHOWN = 100
_encode = msgspec.json.Encoder().encode
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 400: "malformed"}


class JsonResponse(Response):
    """Any value that msgspec can encode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


def problem_answer(body: ProblemDetails, headers: Mapping[str, str] | None = None) -> Response:
    """A problem with its own status."""
    return Response(_encode(body), body.status, headers, CONTENT_TYPE.decode())


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpProblem)
    return problem_answer(error.body, {name.decode(): value.decode() for name, value in error.headers})


async def _store_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    return await _http_problem(request, store_problem(error, reads=request.method in {"GET", "HEAD"}))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers, detail = error.headers, ""
    if error.status_code == 405:
        headers = {"Allow": _allowed(request)}
        detail = f"allowed here: {headers['Allow']}"
    elif error.status_code == 404:
        detail = f"there is nothing at {request.url.path[:_PATH_SHOWN]}: mind the spelling, and a slash at the end"
    return problem_answer(problem(_BY_STATUS.get(error.status_code, "malformed"), detail), headers)


def _allowed(request: Request) -> str:
    """Every method of this path. Starlette itself would name those of the first route that fits."""
    fitting = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in fitting for method in route.methods}))


async def _internal(_request: Request, _error: Exception) -> Response:
    return problem_answer(problem("internal"))


HANDLERS: dict[Any, Any] = {
    HttpProblem: _http_problem,
    StoreError: _store_error,
    HTTPException: _http_exception,
    Exception: _internal,  # Starlette answers with it and raises on, so that the error is logged
}
