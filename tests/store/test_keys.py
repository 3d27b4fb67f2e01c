"""Tags spread evenly over a cluster's slots; names hide numbers and differ where they must."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gateway.store import keys

HASHER = keys.Hasher(b"s" * 32, 8)


@pytest.mark.parametrize("partitions", [1, 3, 8, 64, 320])
def test_each_partition_has_its_share_of_the_slots(partitions: int) -> None:
    slots = [keys.slot_of(tag[1:-1].decode()) for tag in keys.tags(partitions)]
    spacing = keys.SLOTS / partitions
    for number, slot in enumerate(slots):
        assert abs(slot - (number + 0.5) * spacing) <= max(spacing / 8, 2)
    assert all(a < b for a, b in pairwise(slots))


def test_the_slot_is_the_one_of_redis_cluster() -> None:
    assert keys.slot_of("123456789") == 0x31C3  # the specification's own example


def test_tags_never_change() -> None:
    assert keys.tags(8)[:3] == (b"{p0.1}", b"{p1.19}", b"{p2.20}")


@pytest.mark.parametrize("partitions", [0, 1025])
def test_partitions_have_bounds(partitions: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1024"):
        keys.tags(partitions)


def test_a_recipient_is_named_by_a_keyed_hash() -> None:
    one, other = HASHER.recipient("46701234567"), keys.Hasher(b"t" * 32, 8).recipient("46701234567")
    assert one == HASHER.recipient("46701234567")
    assert one.key != other.key
    assert len(one.key) == 16
    assert 0 <= one.partition < 8


def test_recipients_spread_over_partitions() -> None:
    counts = [0] * 8
    for number in range(8000):
        counts[HASHER.recipient(f"4670{number:08d}").partition] += 1
    assert min(counts) > 850


def test_scopes_and_references_do_not_clash() -> None:
    assert HASHER.scope("ab", "c") != HASHER.scope("a", "bc")
    assert HASHER.scope("a") != HASHER.scope("a", "")
    one, other = HASHER.recipient("1"), HASHER.recipient("2")
    references = {
        HASHER.reference("shop", one, "1"),
        HASHER.reference("shop", other, "1"),
        HASHER.reference("shop1", one, ""),
        HASHER.reference("shop", one, "2"),
    }
    assert len(references) == 4
    assert len(HASHER.scope("shop")) == 8


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="16 to 64"):
        keys.Hasher(b"short", 8)
