"""One message at a time until something is answered; at a sick carrier only what may be resent."""

from __future__ import annotations

from gateway.carriers.probing import RECONNECT_AFTER, Probing


def test_after_a_loss_one_message_goes_at_a_time_until_an_answer() -> None:
    probing = Probing(4)
    assert not probing
    probing.lost()
    assert probing
    probing.answered()
    assert not probing


def test_after_a_loss_any_message_may_go_once_no_partition_holds_a_resendable_one() -> None:
    probing = Probing(4)
    probing.lost()
    for _ in range(4):
        assert probing.only_resendable
        probing.took(0, 1.0)
    assert not probing.only_resendable
    probing.took(1, 1.0)
    assert probing.only_resendable


def test_a_sick_carrier_is_never_given_what_may_not_be_resent() -> None:
    probing = Probing(2)
    probing.look(True, 0.0)
    for _ in range(10):
        probing.took(0, 1.0)
        assert probing.only_resendable


def test_a_sick_carrier_without_a_probe_for_a_minute_is_reconnected() -> None:
    probing = Probing(2)
    assert not probing.look(True, 10.0)
    assert not probing.look(True, 10.0 + RECONNECT_AFTER)  # nothing was looked for yet
    probing.took(0, 11.0)
    assert not probing.look(True, 9.9 + RECONNECT_AFTER)
    assert probing.look(True, 10.0 + RECONNECT_AFTER)
    assert not probing.look(True, 11.0 + RECONNECT_AFTER)  # once
    assert probing  # the new connections begin with one message


def test_a_probe_puts_the_reconnect_off() -> None:
    probing = Probing(2)
    probing.look(True, 0.0)
    probing.took(1, 50.0)
    probing.took(0, 60.0)
    assert not probing.look(True, 100.0)
    assert probing.look(True, 50.0 + RECONNECT_AFTER)


def test_a_carrier_that_loses_again_with_nothing_answered_in_between_is_failing() -> None:
    probing = Probing(1)
    probing.took(1, 0.0)
    probing.lost()
    probing.answered()
    probing.took(1, 0.0)
    probing.lost()
    probing.lost()
    assert not probing.failing, "every link broke, at one time"
    probing.took(1, 1.0)
    probing.lost()
    assert probing.failing
    assert probing.only_resendable
    probing.took(0, 1.0)
    assert not probing.only_resendable, "or a carrier of advertising alone would never be asked again"
    probing.answered()
    assert not probing.failing


def test_a_carrier_that_answers_again_is_well() -> None:
    probing = Probing(2)
    probing.look(True, 0.0)
    assert repr(probing) == "<Probing sick>"
    probing.look(False, 1.0)
    assert not probing
