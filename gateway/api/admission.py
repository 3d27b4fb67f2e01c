"""What may change while requests run: the accounts (a reload) and whether new messages are accepted (shutdown)."""

from __future__ import annotations

from gateway.api.accounts import Accounts


class Admission:
    """``accounts`` is replaced by a reload; ``closing`` is set before the gateway stops."""

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self.closing = False

    def __repr__(self) -> str:
        return f"<Admission {self.accounts!r}{' closing' if self.closing else ''}>"
