from __future__ import annotations

from gateway.carriers.repeated_refusals import MOST, RepeatedRefusals


def test_counts_by_message_and_knows_whether_others_were_accepted_since() -> None:
    refusals = RepeatedRefusals()
    assert refusals.again(b"a", 7) == (1, False)
    assert refusals.again(b"b", 8) == (1, False)
    assert refusals.again(b"a", 8) == (2, True)
    assert refusals.again(b"b", 8) == (2, False)
    refusals.forget(b"a")
    assert refusals.again(b"a", 9) == (1, False)


def test_remembered_messages_are_bounded_and_the_latest_stay() -> None:
    refusals = RepeatedRefusals()
    for number in range(2 * MOST):
        refusals.again(b"busy", number)
        refusals.again(b"%d" % number, number)
    assert refusals.again(b"busy", 0)[0] == 2 * MOST + 1
    assert repr(refusals) == f"<RepeatedRefusals {MOST} messages>"
