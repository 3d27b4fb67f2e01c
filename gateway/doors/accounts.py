"""The accounts as the HTTP door sees them: whose key it is, and whether it may hand in more now."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.config import Account
from gateway.doors.auth import Allowance, Keyring
from gateway.doors.problems import refuse, retry_after

_ASK_FOR_KEY = ((b"www-authenticate", b'Bearer realm="smpp-gateway"'),)


class Accounts:
    """Built from the configuration; a reload builds a new one and keeps the allowances already used up."""

    def __init__(self, accounts: Sequence[Account], now: float, former: Accounts | None = None) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._keys = Keyring((account.name, key) for account in accounts for key in account.api_keys)
        self._allowances = {a.name: Allowance(a.rate, now) for a in accounts}
        for name, allowance in former._allowances.items() if former else ():
            if name in self._allowances and self._allowances[name].rate == allowance.rate:
                self._allowances[name] = allowance

    def __repr__(self) -> str:
        return f"<Accounts {', '.join(self._accounts)}>"

    def caller(self, authorization: bytes) -> Account:
        """The account that this ``Authorization`` header belongs to. Raises HttpProblem (401)."""
        name = self._keys.account(authorization)
        if name is None:
            raise refuse("unauthorized", "send Authorization: Bearer KEY", headers=_ASK_FOR_KEY)
        return self._accounts[name]

    def knows(self, authorization: bytes) -> bool:
        """Whether this header opens the door for apps."""
        return self._keys.account(authorization) is not None

    def wait(self, account: Account, count: int, now: float) -> float:
        """Let ``count`` messages of this account in (0.0), or say how many seconds to wait before asking again."""
        allowance = self._allowances.get(account.name)
        if allowance is None:  # a reload took the account away while the request came in
            raise refuse("unauthorized", "this account does not exist any more", headers=_ASK_FOR_KEY)
        return allowance.take(count, now)

    def admit(self, account: Account, count: int, now: float) -> None:
        """Let ``count`` messages of this account in, or raise HttpProblem (429 with Retry-After)."""
        wait = self.wait(account, count, now)
        if wait:
            detail = f"this account may send {account.rate:g} messages a second"
            raise refuse("rate_limited", detail, headers=(retry_after(wait),))
