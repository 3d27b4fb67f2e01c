"""The exceptions of both clients.

::

    ClientError
    ├── Unreachable          no response, or not in time: it is unknown whether the request was carried out
    ├── BadAnswer            the response is not a gateway's: a proxy's page, another program
    └── ApiError             the gateway refused the request; ``problem`` says why
        ├── InvalidError         400, 405, 406, 413, 415, 431: the request is wrong
        ├── UnauthorizedError    401: the API key is missing or unknown
        ├── ForbiddenError       403: the account has no permission
        ├── NotFoundError        404
        ├── ConflictError        409, and an Idempotency-Key that was used for another request
        ├── RefusedError         422: policy refused the message; see ``problem.decision``
        ├── RateLimitedError     429
        └── UnavailableError     408, 5xx: store down or full, or gateway stopping; nothing was accepted
    BadAddress (a ValueError): the URL cannot be used
"""

from __future__ import annotations

from gateway.client.types import Problem


class ClientError(Exception):
    """Base class. ``retryable``: the same call may succeed later; ``retry_after``: seconds, when the gateway says."""

    retryable = False
    retry_after: float | None = None


class Unreachable(ClientError):
    """No response from the address, or not in time. The text says where and why."""

    retryable = True


class BadAnswer(ClientError):
    """A response outside the contract: a proxy's page, or another program at that address."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"the response (HTTP {status}) is not a gateway's: {text[:200]!r}")
        self.status = status
        self.retryable = status in {502, 503, 504}


class ApiError(ClientError):
    """The gateway refused the request."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.code}: {problem.detail or problem.title}")
        self.problem = problem
        self.retry_after = retry_after
        # Policy's "later" (quiet hours, a cap) is for the caller to schedule, not for a retry loop.
        self.retryable = problem.retryable and problem.status != 422

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The stable error code; branch on this."""
        return self.problem.code


class InvalidError(ApiError):
    """The request is wrong; ``problem.errors`` names the fields."""


class UnauthorizedError(ApiError):
    """The API key is missing or unknown."""


class ForbiddenError(ApiError):
    """The account has no permission for this."""


class NotFoundError(ApiError):
    """Not found, or it belongs to another account."""


class ConflictError(ApiError):
    """The message is already final (``already_final``), or the same request is still being processed."""


class RefusedError(ApiError):
    """Policy refused the message; the refusal is recorded under ``problem.id``."""


class RateLimitedError(ApiError):
    """The account exceeds its rate limit."""


class UnavailableError(ApiError):
    """The gateway cannot accept messages now; nothing was accepted."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    408: UnavailableError,
    409: ConflictError,
    422: RefusedError,
    429: RateLimitedError,
}


def error_of(problem: Problem, retry_after: float | None = None) -> ApiError:
    """Return the exception for a problem."""
    if problem.code == "idempotency_mismatch":  # a 422 that is not policy's
        return ConflictError(problem, retry_after)
    usual = UnavailableError if problem.status >= 500 else InvalidError
    return _BY_STATUS.get(problem.status, usual)(problem, retry_after)


class BadAddress(ValueError):
    """The URL or the API key cannot be used."""
