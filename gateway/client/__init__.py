"""The Python client of the gateway: typed, retries what is safe to retry, and never sends a message twice.

::

    from gateway.client import Client, Message, RefusedError

    with Client("http://127.0.0.1:8080", key="…") as client:
        accepted = client.send(Message("+46701740605", "Your parcel is here", client_ref="order-1"))
        print(client.wait(accepted.id).status)

``AsyncClient`` has the same methods for asyncio. ``Webhooks`` verifies and decodes webhook requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.client.errors import (
    ApiError,
    BadAddress,
    BadAnswer,
    ClientError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    UnauthorizedError,
    UnavailableError,
    Unreachable,
)
from gateway.client.retry import Retry
from gateway.client.sync_client import Answer, Client
from gateway.client.types import (
    Accepted,
    Batch,
    Canceled,
    Consent,
    Decision,
    Decisions,
    Event,
    EventData,
    FieldError,
    Message,
    Move,
    Part,
    Permitted,
    Problem,
    Record,
    Refused,
    Result,
    Ruling,
    Suppression,
    problem_body,
)
from gateway.client.webhook_receiver import Webhooks
from gateway.signature import BadSignature

if TYPE_CHECKING:
    from gateway.client.async_client import AsyncClient

__all__ = [
    "Accepted",
    "Answer",
    "ApiError",
    "AsyncClient",
    "BadAddress",
    "BadAnswer",
    "BadSignature",
    "Batch",
    "Canceled",
    "Client",
    "ClientError",
    "ConflictError",
    "Consent",
    "Decision",
    "Decisions",
    "Event",
    "EventData",
    "FieldError",
    "ForbiddenError",
    "InvalidError",
    "Message",
    "Move",
    "NotFoundError",
    "Part",
    "Permitted",
    "Problem",
    "RateLimitedError",
    "Record",
    "Refused",
    "RefusedError",
    "Result",
    "Retry",
    "Ruling",
    "Suppression",
    "UnauthorizedError",
    "UnavailableError",
    "Unreachable",
    "Webhooks",
    "problem_body",
]


def __getattr__(name: str) -> Any:
    """Import AsyncClient on first use: it needs aiohttp, which takes a fifth of a second to import."""
    if name == "AsyncClient":
        from gateway.client.async_client import AsyncClient  # noqa: PLC0415 - see above

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
