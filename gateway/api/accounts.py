"""The accounts as the HTTP door sees them: whose key it is, and whether it may hand in more now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from gateway.api.account_rate_limit import AccountRateLimit
from gateway.api.auth import Keyring
from gateway.api.problems import refuse, retry_after
from gateway.config import Account
from gateway.store.limits import ShareGrant, ShareRequest

RETRY_SECONDS = 2.0
_SEND_KEY = "send Authorization: Bearer KEY"
_ASK_FOR_KEY = ((b"www-authenticate", b'Bearer realm="smpp-gateway"'),)


class SharedAccountRate:
    """An account's rate, as gateways share it (``cluster.limits.SharedLimit``)."""

    def __init__(self, account: str, allowance: AccountRateLimit) -> None:
        self.name = f"account/{account}"
        self._allowance = allowance

    def __repr__(self) -> str:
        return f"<SharedAccountRate {self.name} {self._allowance!r}>"

    @property
    def share_known(self) -> bool:
        return self._allowance.share.asked

    @property
    def limit(self) -> float:
        return self._allowance.rate

    @property
    def held(self) -> float:
        return self._allowance.share.held

    def ask(self, now: float) -> ShareRequest:
        return ShareRequest(self.name, self.limit, self.held, self._allowance.wanted(now))

    def grant(self, granted: ShareGrant, request: ShareRequest, now: float) -> None:
        self._allowance.grant(granted.share, granted.members, request.limit, now)

    def close(self, now: float) -> None:
        self._allowance.close(now)


def _always(now: float) -> bool:
    """Nobody else lets messages of these accounts in."""
    return True


class Accounts:
    """Built from the configuration; a reload builds a new one and keeps the allowances already used up.

    ``fresh`` says whether the shares of the accounts' rates are certainly still ours
    (``cluster.heartbeat.Heartbeat.fresh``).
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
        known = former.allowances() if former else {}
        self._allowances = {account.name: _allowance(account, now, known.get(account.name)) for account in accounts}
        self._fresh: Callable[[float], bool] = former._fresh if former else fresh

    def __repr__(self) -> str:
        return f"<Accounts {', '.join(self._accounts)}>"

    def caller(self, authorization: bytes) -> Account:
        """The account that this ``Authorization`` header belongs to. Raises HttpProblem (401)."""
        name = self._keys.account(authorization)
        if name is None:
            given = authorization[:7].lower() == b"bearer "
            detail = "no account has this key: is it whole, and of this gateway?" if given else _SEND_KEY
            raise refuse("unauthorized", detail, headers=_ASK_FOR_KEY)
        return self._accounts[name]

    def knows(self, authorization: bytes) -> bool:
        """Whether this header opens the door for apps."""
        return self._keys.account(authorization) is not None

    def allowances(self) -> dict[str, AccountRateLimit]:
        """By account."""
        return self._allowances

    def shared(self) -> Iterator[SharedAccountRate]:
        """The rates that gateways share: all but those without a limit."""
        return (SharedAccountRate(name, one) for name, one in self._allowances.items() if one.rate)

    def wait(self, account: Account, count: int, now: float) -> float:
        """Let ``count`` messages of this account in (0.0), or say how many seconds to wait before asking again.

        Raises HttpProblem: 401 when there is no such account any more, 503 when the store has been away for so long
        that others may be using our share of the rate.
        """
        allowance = self._allowances.get(account.name)
        if allowance is None:  # a reload took the account away while the request came in
            raise refuse("unauthorized", "this account does not exist any more", headers=_ASK_FOR_KEY)
        if allowance.rate and not self._fresh(now):
            raise refuse("store_unavailable", headers=(retry_after(RETRY_SECONDS),))
        return allowance.take(count, now)

    def admit(self, account: Account, count: int, now: float) -> None:
        """Let ``count`` messages of this account in, or raise HttpProblem (429 with Retry-After)."""
        wait = self.wait(account, count, now)
        if wait:
            detail = f"this account may send {account.rate:g} messages a second"
            members = self._allowances[account.name].share.members
            if members > 1:
                detail += f" through {members} gateways together"
            raise refuse("rate_limited", detail, headers=(retry_after(wait),))


def _allowance(account: Account, now: float, former: AccountRateLimit | None) -> AccountRateLimit:
    """The former one, when it says the same; its share of the rate counts in any case."""
    if former is None:
        return AccountRateLimit(account.rate, now)
    return former if former.rate == account.rate else AccountRateLimit(account.rate, now, former.share)
