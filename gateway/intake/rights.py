"""What an account may send, and its scopes in the store."""

from __future__ import annotations

from gateway.config import Account
from gateway.config.addresses import AddressGuard
from gateway.config.read import cap
from gateway.model import Category
from gateway.policy.templates import MessageTemplate
from gateway.policy.velocity import VelocityTable
from gateway.store.keys import Hasher

_PUBLIC_ADDRESSES = AddressGuard()


class AccountRights:
    """An account as intake needs it: its categories, senders, brands, templates and limits, and its scopes."""

    __slots__ = (
        "account_scope",
        "brand",
        "brand_scopes",
        "categories",
        "category",
        "country",
        "encoding",
        "guard",
        "name",
        "sender",
        "senders",
        "signs",
        "template_scopes",
        "templates",
        "velocity",
        "weight",
    )

    def __init__(self, account: Account, hasher: Hasher, guard: AddressGuard = _PUBLIC_ADDRESSES) -> None:
        """``guard``: the addresses that events may be posted to."""
        self.name = account.name
        self.weight = account.weight
        self.categories = frozenset(Category[name.upper()] for name in account.categories)
        self.category = Category[account.category.upper()]
        self.senders = None if "*" in account.senders else frozenset(account.senders)
        self.sender = next((sender for sender in account.senders if sender != "*"), "")
        self.brand = account.brand
        self.country = account.default_country
        self.velocity = VelocityTable({prefix: cap(text) for prefix, text in account.velocity.items()})
        self.encoding = account.encoding
        self.guard = guard
        self.signs = bool(account.signing)
        self.account_scope = hasher.scope(account.name)
        self.templates = {name: MessageTemplate(text) for name, text in account.templates.items()}
        self.template_scopes = {name: template_scope(hasher, account.name, name) for name in self.templates}
        self.brand_scopes = {brand: hasher.scope(account.name, brand) for brand in {*account.brands, account.brand}}

    def __repr__(self) -> str:
        return f"<AccountRights of {self.name}: {'+'.join(sorted(c.name.lower() for c in self.categories))}>"


def template_scope(hasher: Hasher, account: str, template: str) -> bytes:
    """Return the scope of a template, by which breakers and withdrawn templates name it."""
    return hasher.scope(account, "template", template)
