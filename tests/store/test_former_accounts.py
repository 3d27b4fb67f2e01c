from __future__ import annotations

from gateway.store.crypto import Vault
from gateway.store.former_accounts import KEEP, FormerAccounts, ReceiverSettings

SHOP = ReceiverSettings("https://app.example/in", (b"k" * 32,), 100, False)


class Shelf:
    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {b"partitions": b"8"}

    async def meta(self) -> dict[bytes, bytes]:
        return dict(self.kept)

    async def set_meta(self, field: bytes, value: bytes) -> None:
        self.kept[field] = value

    async def drop_meta(self, field: bytes) -> None:
        del self.kept[field]


async def test_an_account_that_has_left_is_remembered_while_it_matters_and_no_longer() -> None:
    shelf = Shelf()
    departed = FormerAccounts(shelf, Vault({1: b"x" * 32}, 1))
    assert await departed.recall({"shop": SHOP}, {}, 1000) == {}
    assert b"app.example" not in b"".join(shelf.kept.values())  # sealed
    (left,) = (await departed.recall({}, {}, 2000)).values()
    assert (left.url, left.keys, left.left) == (SHOP.url, SHOP.keys, 2000)
    assert list(await departed.recall({}, {}, 2000 + KEEP)) == ["shop"]
    assert list(await departed.recall({}, {"shop": 1}, 2001 + KEEP)) == ["shop"]  # scheduled for next year, say
    assert await departed.recall({}, {}, 2001 + KEEP) == {}
    assert shelf.kept == {b"partitions": b"8"}


async def test_an_account_that_comes_back_is_as_it_is_configured() -> None:
    shelf = Shelf()
    departed = FormerAccounts(shelf, Vault({1: b"x" * 32}, 1))
    await departed.recall({"shop": SHOP}, {}, 1000)
    await departed.recall({}, {}, 2000)
    other = ReceiverSettings("https://other.example/", SHOP.keys, 100, False)
    assert await departed.recall({"shop": other}, {}, 3000) == {}
    (left,) = (await departed.recall({}, {}, 4000)).values()
    assert (left.url, left.left) == ("https://other.example/", 4000)


async def test_a_key_that_was_rotated_away_keeps_no_gateway_from_starting() -> None:
    shelf, old, new = Shelf(), {1: b"x" * 32}, {2: b"y" * 32}
    await FormerAccounts(shelf, Vault(old, 1)).recall({"shop": SHOP, "gone": SHOP}, {}, 1000)
    assert await FormerAccounts(shelf, Vault(new, 2)).recall({"shop": SHOP}, {}, 2000) == {}
    assert list(await FormerAccounts(shelf, Vault(old | new, 2)).recall({"shop": SHOP}, {}, 3000)) == [
        "gone"
    ]  # not forgotten
    (left,) = (
        await FormerAccounts(shelf, Vault(new, 2)).recall({"shop": SHOP}, {}, 4000)
    ).values()  # sealed anew: key 1 goes
    assert (left.url, left.left) == (SHOP.url, 3000)
