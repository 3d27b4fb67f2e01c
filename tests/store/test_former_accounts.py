"""Webhook settings of accounts that have left the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from gateway.store.crypto import Vault
from gateway.store.former_accounts import KEEP, EndpointSettings, FormerAccounts

if TYPE_CHECKING:
    from gateway.store.redis.connection import StoreConnection

SHOP = EndpointSettings("https://app.example/in", (b"k" * 32,), 100, False)


class MetaFields:
    """The store's fields about its data as a whole."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {b"partitions": b"8"}

    async def meta(self) -> dict[bytes, bytes]:
        return dict(self.kept)

    async def set_meta(self, field: bytes, value: bytes) -> None:
        self.kept[field] = value

    async def drop_meta(self, field: bytes) -> None:
        del self.kept[field]


def former_accounts_in(fields: MetaFields, vault: Vault) -> FormerAccounts:
    return FormerAccounts(cast("StoreConnection", fields), vault)


async def test_an_account_that_has_left_is_kept_for_a_month_and_while_messages_wait() -> None:
    fields = MetaFields()
    former_accounts = former_accounts_in(fields, Vault({1: b"x" * 32}, 1))
    assert await former_accounts.recall({"shop": SHOP}, {}, 1000) == {}
    assert b"app.example" not in b"".join(fields.kept.values())  # sealed
    (left,) = (await former_accounts.recall({}, {}, 2000)).values()
    assert (left.url, left.keys, left.left) == (SHOP.url, SHOP.keys, 2000)
    assert list(await former_accounts.recall({}, {}, 2000 + KEEP)) == ["shop"]
    assert list(await former_accounts.recall({}, {"shop": 1}, 2001 + KEEP)) == ["shop"]  # scheduled for next year, say
    assert await former_accounts.recall({}, {}, 2001 + KEEP) == {}
    assert fields.kept == {b"partitions": b"8"}


async def test_an_account_that_is_configured_again_has_its_new_settings() -> None:
    fields = MetaFields()
    former_accounts = former_accounts_in(fields, Vault({1: b"x" * 32}, 1))
    await former_accounts.recall({"shop": SHOP}, {}, 1000)
    await former_accounts.recall({}, {}, 2000)
    other = EndpointSettings("https://other.example/", SHOP.keys, 100, False)
    assert await former_accounts.recall({"shop": other}, {}, 3000) == {}
    (left,) = (await former_accounts.recall({}, {}, 4000)).values()
    assert (left.url, left.left) == ("https://other.example/", 4000)


async def test_settings_sealed_with_a_key_that_is_gone_do_not_stop_a_start() -> None:
    fields, old, new = MetaFields(), {1: b"x" * 32}, {2: b"y" * 32}
    await former_accounts_in(fields, Vault(old, 1)).recall({"shop": SHOP, "gone": SHOP}, {}, 1000)
    assert await former_accounts_in(fields, Vault(new, 2)).recall({"shop": SHOP}, {}, 2000) == {}
    assert list(await former_accounts_in(fields, Vault(old | new, 2)).recall({"shop": SHOP}, {}, 3000)) == [
        "gone"
    ]  # not forgotten
    (left,) = (
        await former_accounts_in(fields, Vault(new, 2)).recall({"shop": SHOP}, {}, 4000)
    ).values()  # sealed anew: key 1 goes
    assert (left.url, left.left) == (SHOP.url, 3000)
