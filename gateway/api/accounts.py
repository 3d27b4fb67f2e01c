"""The accounts as the HTTP interface sees them: whose key a request has, and whether it may send more now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway.api.account_rate_limit import AccountRateLimit
from gateway.api.auth import Keyring
from gateway.api.problems import RETRY_SECONDS, refuse, retry_after
from gateway.config import Account
from gateway.store.limits import ShareGrant, ShareRequest

_CHALLENGE = ((b"www-authenticate", b'Bearer realm="smpp-gateway"'),)


class SharedAccountRate:
    """An account's rate limit as the gateways on one store share it (``cluster.limits.SharedLimit``)."""

    def __init__(self, account: str, rate_limit: AccountRateLimit) -> None:
        self.name = f"account/{account}"
        self._rate_limit = rate_limit

    def __repr__(self) -> str:
        return f"<SharedAccountRate {self.name} {self._rate_limit!r}>"

    @property
    def share_known(self) -> bool:
        return self._rate_limit.share.asked

    @property
    def limit(self) -> float:
        return self._rate_limit.rate

    @property
    def held(self) -> float:
        return self._rate_limit.share.held

    def ask(self, now: float) -> ShareRequest:
        return ShareRequest(self.name, self.limit, self.held, self._rate_limit.wanted(now))

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        self._rate_limit.grant(granted.share, granted.members, request.limit, now)

    def close(self, now: float) -> None:
        self._rate_limit.close(now)


def _always(now: float) -> bool:
    """Return True: without other gateways, the shares are certainly ours."""
    return True


class Accounts:
    """The accounts of one configuration; a reload builds new ones that keep the state of the rate limits.

    ``fresh`` says whether our shares of the rate limits are certainly still ours (``Heartbeat.fresh``).
    """

    def __init__(
        self,
        accounts: Sequence[Account],
        now: float,
        former: Accounts | None = None,
        *,
        fresh: Callable[[float], bool] = _always,
    ) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._keys = Keyring((account.name, key) for account in accounts for key in account.api_keys)
        known = former.rate_limits() if former else {}
        self._rate_limits = {account.name: _rate_limit(account, now, known.get(account.name)) for account in accounts}
        self._fresh: Callable[[float], bool] = former._fresh if former else fresh

    def __repr__(self) -> str:
        return f"<Accounts {', '.join(self._accounts)}>"

    def caller(self, authorization: bytes) -> Account:
        """Return the account that this ``Authorization`` header belongs to. Raises HttpProblem (401)."""
        name = self._keys.account(authorization)
        if name is None:
            given = authorization[:7].lower() == b"bearer "
            detail = (
                "unknown API key: is it complete, and of this gateway?" if given else "send Authorization: Bearer KEY"
            )
            raise refuse("unauthorized", detail, headers=_CHALLENGE)
        return self._accounts[name]

    def knows(self, authorization: bytes) -> bool:
        """Return whether this ``Authorization`` header belongs to an account."""
        return self._keys.account(authorization) is not None

    def rate_limits(self) -> dict[str, AccountRateLimit]:
        """Return the rate limits by account."""
        return self._rate_limits

    def shared(self) -> Iterator[SharedAccountRate]:
        """Yield the rate limits that gateways share: those of all accounts that have one."""
        return (SharedAccountRate(name, one) for name, one in self._rate_limits.items() if one.rate)

    def wait(self, account: Account, count: int, now: float) -> float:
        """Admit ``count`` messages of this account and return 0.0, or return the seconds to wait before asking again.

        Raises HttpProblem: 401 when a reload removed the account, 503 when the store has been away for so long that
        other gateways may be using our share of the rate.
        """
        rate_limit = self._rate_limits.get(account.name)
        if rate_limit is None:  # a reload removed the account while the request came in
            raise refuse("unauthorized", "this account no longer exists", headers=_CHALLENGE)
        if rate_limit.rate and not self._fresh(now):
            raise refuse("store_unavailable", headers=(retry_after(RETRY_SECONDS),))
        return rate_limit.take(count, now)

    def admit(self, account: Account, count: int, now: float) -> None:
        """Admit ``count`` messages of this account. Raises HttpProblem (429 with Retry-After, or as ``wait``)."""
        wait = self.wait(account, count, now)
        if wait:
            detail = f"this account may send {account.rate:g} messages a second"
            members = self._rate_limits[account.name].share.members
            if members > 1:
                detail += f" through {members} gateways together"
            raise refuse("rate_limited", detail, headers=(retry_after(wait),))


def _rate_limit(account: Account, now: float, former: AccountRateLimit | None) -> AccountRateLimit:
    """Return the former limit when the rate is the same, else a new one that keeps its share."""
    if former is None:
        return AccountRateLimit(account.rate, now)
    return former if former.rate == account.rate else AccountRateLimit(account.rate, now, former.share)
