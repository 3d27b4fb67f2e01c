"""Responses of the routes behind Starlette: JSON by msgspec, problems, and the handlers that make them of errors."""

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
    """A response of any value that msgspec can encode."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _encode(content)


def problem_json(body: ProblemDetails, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem as a response with its status."""
    return Response(_encode(body), body.status, headers, CONTENT_TYPE.decode())


async def _http_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpProblem)
    return problem_json(error.body, {name.decode(): value.decode() for name, value in error.headers})


async def _store_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreError)
    return await _http_problem(request, store_problem(error, reads=request.method in {"GET", "HEAD"}))


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers, detail = error.headers, ""
    if error.status_code == 405:
        headers = {"Allow": _allowed(request)}
        detail = f"allowed methods: {headers['Allow']}"
    elif error.status_code == 404:
        detail = f"no resource at {request.url.path[:_PATH_SHOWN]}: check the spelling and any slash at the end"
    return problem_json(problem(_BY_STATUS.get(error.status_code, "malformed"), detail), headers)


def _allowed(request: Request) -> str:
    """Return every method of this path; Starlette itself would name those of the first matching route."""
    matching = (route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in matching for method in route.methods}))


async def _internal(_request: Request, _error: Exception) -> Response:
    return problem_json(problem("internal"))


HANDLERS: dict[Any, Any] = {
    HttpProblem: _http_problem,
    StoreError: _store_error,
    HTTPException: _http_exception,
    Exception: _internal,  # Starlette sends it and raises on, so that the error is logged
}
