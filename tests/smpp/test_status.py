from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.smpp.status import VENDOR, CommandStatus, RetryClass, classify, name


def codes(text: str) -> set[int]:
    return {int(code, 16) for code in text.split()}


TABLE = {
    RetryClass.OK: codes("00"),
    RetryClass.THROTTLE: codes("58"),
    RetryClass.QUEUE_FULL: codes("14"),
    RetryClass.RETRY: codes("08 45 64 FE FF 102"),
    RetryClass.SESSION: codes("02 04 05 0D 0E 0F 53"),
    RetryClass.OTHER: codes("03 06 07 0A 15 43 48 49 50 51 61 62 C0 C1 C2 C3 C4 100 101 103")
    | set(range(0x104, 0x113)),
    RetryClass.PERMANENT: codes("01 0B 33 34 40 44 42 54 55 63 65 66"),
    RetryClass.NOT_APPLICABLE: codes("0C 11 13 67"),
}


def test_the_table_is_complete_and_each_code_has_one_class() -> None:
    assert {int(status) for status in CommandStatus} == set().union(*TABLE.values())
    for retry, expected in TABLE.items():
        assert {int(status) for status in CommandStatus if classify(status) is retry} == expected
        assert all(CommandStatus(code).retry is retry for code in expected)


def test_names() -> None:
    assert name(0x58) == "ESME_RTHROTTLED"
    assert name(0x411) == "0x00000411"
    assert name(0xFFFFFFFF) == "0xFFFFFFFF"
    assert int(CommandStatus.ESME_RTHROTTLED) == 0x58


def test_a_carrier_has_its_own_table() -> None:
    overrides = {0x411: RetryClass.PERMANENT, 0x0B: RetryClass.RETRY}
    assert classify(0x411, overrides) is RetryClass.PERMANENT
    assert classify(0x0B, overrides) is RetryClass.RETRY
    assert classify(0x58, overrides) is RetryClass.THROTTLE


def test_an_unknown_status_is_retried() -> None:
    assert {classify(code) for code in VENDOR} == {RetryClass.RETRY}
    assert classify(0xFFFF) is RetryClass.RETRY


@given(st.integers(min_value=-(2**40), max_value=2**40))
def test_no_value_fails(code: int) -> None:
    assert isinstance(classify(code), RetryClass)
    assert name(code)
