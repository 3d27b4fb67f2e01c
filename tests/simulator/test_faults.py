from __future__ import annotations

import re

import pytest

from gateway.simulator import Faults, StatusRule, read_faults
from gateway.simulator.faults import MEANINGS


def test_options_of_a_command_line_become_faults() -> None:
    words = [
        "latency-ms=20",
        "rate_status=0x14",
        "receipt_tlvs=false",
        'receipt_states={"DELIVRD": 9, "UNDELIV": 1}',
        'status_rules=[{"status": 88, "every": 10}]',
    ]
    assert read_faults(words) == Faults(
        latency_ms=20,
        rate_status=0x14,
        receipt_tlvs=False,
        receipt_states={"DELIVRD": 9, "UNDELIV": 1},
        status_rules=[StatusRule(88, every=10)],
    )


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("latency", "expected name=value"),
        ("speed=1", "unknown fault 'speed'; known: bind_status"),
        ("latency_ms=soon", "'latency_ms=soon': Expected `float`"),
        ("latency_ms=-1", "'latency_ms=-1': Expected `float` >= 0"),
        (
            "receipts=maybe",
            "'receipts=maybe': Invalid enum value 'maybe' - at `$.receipts`; one of on_request, always, off",
        ),
        ("status_rules=[{]", "'status_rules=[{]': JSON is malformed"),
        ("rate_status=0xzz", "'rate_status=0xzz'"),
        ('receipt_states={"LOST": 1}', "Invalid enum value 'LOST'"),
    ],
)
def test_an_invalid_option_is_named(option: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        read_faults([option])


def test_two_carriers_share_no_defaults() -> None:
    Faults().status_rules.append(StatusRule(8))
    Faults().receipt_states["EXPIRED"] = 1
    assert Faults().status_rules == [] and Faults().receipt_states == {"DELIVRD": 1}


def test_every_fault_says_what_it_does() -> None:
    assert list(MEANINGS) == list(Faults.__struct_fields__)
