"""Scopes of breakers and held messages: from the names in a request to store scopes, and back."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.api.problems import FieldProblem
from gateway.api.requests import malformed
from gateway.store.keys import GLOBAL_SCOPE

if TYPE_CHECKING:
    from gateway.intake.policy_context import PolicyContext
    from gateway.store.messages import MessageStore


class ScopeChoice(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """A scope as requests name it: all messages (``everybody``), those of an account, or of one of its brands.

    ``scope``: 16 hexadecimal digits, the form in which breakers of removed accounts are shown.
    """

    account: str = ""
    brand: str = ""
    everybody: bool = False
    scope: str = ""


class ScopeNames:
    """Translates between names and scopes (8 octets)."""

    def __init__(self, policy_context: PolicyContext, store: MessageStore) -> None:
        self._policy_context = policy_context
        self._store = store

    def __repr__(self) -> str:
        return f"<ScopeNames of {len(self._policy_context.rights)} accounts>"

    async def resolve(self, choice: ScopeChoice) -> bytes:
        """Return the chosen scope. Raise HttpProblem (400) when it names nothing or something unknown, StoreError."""
        if (choice.everybody or choice.scope) and (choice.account or choice.brand):
            field = "everybody" if choice.everybody else "scope"
            raise malformed([FieldProblem(field, "malformed", "cannot be combined with account or brand")])
        if choice.everybody:
            return GLOBAL_SCOPE
        if choice.scope:
            if not re.fullmatch("[0-9a-f]{16}", choice.scope):
                raise malformed([FieldProblem("scope", "invalid_value", "must be 16 hexadecimal digits")])
            return bytes.fromhex(choice.scope)
        rights = self._policy_context.rights.get(choice.account)
        if rights is None and any((await self._store.depths()).waiting.get(choice.account, {}).values()):
            # The account is no longer configured, but messages of it still wait.
            account_scope, brand_scope = self._policy_context.scopes(choice.account, choice.brand)
            return brand_scope if choice.brand else account_scope
        if rights is None:
            detail = f"there is no account {choice.account}" if choice.account else "name an account, or everybody"
            raise malformed([FieldProblem("account", "invalid_value", detail)])
        if not choice.brand:
            return rights.account_scope
        if choice.brand not in rights.brand_scopes:
            known = ", ".join(rights.brand_scopes)
            raise malformed([FieldProblem("brand", "invalid_value", f"{choice.account} has the brands {known}")])
        return rights.brand_scopes[choice.brand]

    def describe(self, scope: bytes) -> dict[str, Any]:
        """Return the names of a scope as JSON fields; hexadecimal digits for one of a removed account."""
        if scope == GLOBAL_SCOPE:
            return {"everybody": True}
        for name, rights in self._policy_context.rights.items():
            if rights.account_scope == scope:
                return {"account": name}
            for brand, brand_scope in rights.brand_scopes.items():
                if brand_scope == scope:
                    return {"account": name, "brand": brand}
        return {"scope": scope.hex()}

    def phrase(self, scope: bytes) -> str:
        """Return the scope in words, for a sentence."""
        fields = self.describe(scope)
        if "everybody" in fields:
            return "all accounts"
        brand = f", brand {fields['brand']}" if "brand" in fields else ""
        return f"account {fields.get('account', fields.get('scope'))}{brand}"
