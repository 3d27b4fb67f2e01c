"""The body of a request on the admin listener: bounded, and JSON or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from gateway.api.problems import refuse
from gateway.api.requests import decode

if TYPE_CHECKING:
    import msgspec
    from starlette.requests import Request

MAX_BODY = 1024 * 1024
"""Octets."""

Decoded = TypeVar("Decoded")


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """Return the body, at most ``limit`` octets. Raise HttpProblem (413)."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise refuse("too_large", f"the body may have at most {limit} bytes")
    return bytes(body)


async def decode_body(request: Request, decoder: msgspec.json.Decoder[Decoded]) -> Decoded:
    """Return the decoded body; an empty body counts as ``{}``. Raise HttpProblem (400, 413)."""
    return decode(decoder, await read_body(request) or b"{}")
