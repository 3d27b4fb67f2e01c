"""Message ids carry time and partition, and read back as they are written."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.store import ids

NOW = 1_795_000_000_123


@settings(deadline=None)  # a shared machine
@given(st.integers(0, 2**48 - 1), st.lists(st.integers(0, ids.MAX_PARTITIONS - 1), max_size=20))
def test_an_id_carries_its_instant_and_its_partition(now: int, partitions: list[int]) -> None:
    made = ids.new_ids(now, partitions)
    assert [ids.partition_of(one) for one in made] == partitions
    assert {ids.time_of(one) for one in made} <= {now}
    assert len(set(made)) == len(partitions)
    assert all(ids.parse(ids.text(one)) == one for one in made)


def test_an_id_is_a_uuid_of_version_7() -> None:
    import uuid

    (made,) = ids.new_ids(NOW, [5])
    known = uuid.UUID(bytes=made)
    assert (known.version, known.variant) == (7, uuid.RFC_4122)
    assert str(known) == ids.text(made)


def test_later_ids_sort_later() -> None:
    assert ids.new_ids(NOW, [9])[0] < ids.new_ids(NOW + 1, [0])[0]


def test_a_derived_id_is_the_same_again() -> None:
    first = ids.derived_id(NOW, 1023, b"\xff" * 8)
    assert first == ids.derived_id(NOW, 1023, b"\xff" * 16)
    assert first != ids.derived_id(NOW, 1023, b"\xfe" * 8)
    assert ids.partition_of(first) == 1023
    assert ids.parse(ids.text(first)) == first


@pytest.mark.parametrize(
    "value",
    ["", "x", "0199c2a4", "0199c2a4-0000-4000-8000-000000000000", "0199c2a4-0000-7000-0000-000000000000", "é" * 36],
)
def test_anything_but_an_id_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="not a message id"):
        ids.parse(value)


def test_upper_case_is_read_too() -> None:
    (made,) = ids.new_ids(NOW, [3])
    assert ids.parse(ids.text(made).upper()) == made
