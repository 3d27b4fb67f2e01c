"""What can go wrong.

::

    ClientError
    ├── Unreachable          nobody answered, or not in time: whether it was acted upon is not known
    ├── BadAnswer            what answered was not a gateway: a proxy's page, another program
    └── ApiError             the gateway said no; ``problem`` says why
        ├── InvalidError         400, 405, 406, 413, 415, 431: the request itself
        ├── UnauthorizedError    401: the key
        ├── ForbiddenError       403: what the account may not
        ├── NotFoundError        404
        ├── ConflictError        409, and an Idempotency-Key that was used for another request
        ├── RefusedError         422: policy said no; ``problem.decision``
        ├── RateLimitedError     429
        └── UnavailableError     408, 5xx: the store is away or full, or the gateway is stopping: nothing was accepted
    BadAddress (a ValueError): the URL cannot be used
"""

from __future__ import annotations

from gateway.client.types import Problem


class ClientError(Exception):
    """Anything a call may raise. ``retryable``: the same call may succeed later; ``retry_after``: seconds, if said."""

    retryable = False
    retry_after: float | None = None


class Unreachable(ClientError):
    """Nobody answered at that address, or not in time. The text says where and why."""

    retryable = True


class BadAnswer(ClientError):
    """An answer that is not of the contract: a proxy's page, or another program at that address."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"answered {status} with something that is not a gateway's: {text[:200]!r}")
        self.status = status
        self.retryable = status in {502, 503, 504}


class ApiError(ClientError):
    """The gateway said no."""

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(f"{problem.code}: {problem.detail or problem.title}")
        self.problem = problem
        self.retry_after = retry_after
        # Policy's "later" (quiet hours, a cap) is for the caller to time, not for a loop.
        self.retryable = problem.retryable and problem.status != 422

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """What to branch on."""
        return self.problem.code


class InvalidError(ApiError):
    """The request itself is wrong; ``problem.errors`` names the places."""


class UnauthorizedError(ApiError):
    """The API key is missing or unknown."""


class ForbiddenError(ApiError):
    """The account may not do that."""


class NotFoundError(ApiError):
    """There is no such thing, or it is another account's."""


class ConflictError(ApiError):
    """Too late (``already_final``), or the same request is still being worked on."""


class RefusedError(ApiError):
    """Policy said no; the refusal is recorded under ``problem.id``."""


class RateLimitedError(ApiError):
    """The account is over its rate."""


class UnavailableError(ApiError):
    """The gateway cannot take it now; nothing was accepted."""


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
    """The exception that fits a problem."""
    if problem.code == "idempotency_mismatch":  # a 422 that policy has nothing to do with
        return ConflictError(problem, retry_after)
    usual = UnavailableError if problem.status >= 500 else InvalidError
    return _BY_STATUS.get(problem.status, usual)(problem, retry_after)


class BadAddress(ValueError):
    """The URL cannot be used."""
