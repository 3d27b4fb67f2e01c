"""One message at a time until something is answered; at a sick carrier only what may be resent."""

from __future__ import annotations

from gateway.carriers.probing import RECONNECT_AFTER, Probing


def test_lost_submits_ask_for_caution_until_something_is_answered() -> None:
    caution = Probing(4)
    assert not caution
    caution.lost()
    assert caution
    caution.answered()
    assert not caution


def test_after_a_loss_anything_is_risked_once_every_partition_had_nothing_that_may_be_resent() -> None:
    caution = Probing(4)
    caution.lost()
    for _ in range(4):
        assert caution.only_resendable
        caution.took(0, 1.0)
    assert not caution.only_resendable
    caution.took(1, 1.0)
    assert caution.only_resendable


def test_a_sick_carrier_is_never_given_what_may_not_be_resent() -> None:
    caution = Probing(2)
    caution.look(True, 0.0)
    for _ in range(10):
        caution.took(0, 1.0)
        assert caution.only_resendable


def test_a_sick_carrier_that_cannot_be_asked_for_a_minute_is_connected_anew() -> None:
    caution = Probing(2)
    assert not caution.look(True, 10.0)
    assert not caution.look(True, 10.0 + RECONNECT_AFTER)  # nothing was looked for yet
    caution.took(0, 11.0)
    assert not caution.look(True, 9.9 + RECONNECT_AFTER)
    assert caution.look(True, 10.0 + RECONNECT_AFTER)
    assert not caution.look(True, 11.0 + RECONNECT_AFTER)  # once
    assert caution  # the new connections begin with one message


def test_a_probe_puts_the_new_connection_off() -> None:
    caution = Probing(2)
    caution.look(True, 0.0)
    caution.took(1, 50.0)
    caution.took(0, 60.0)
    assert not caution.look(True, 100.0)
    assert caution.look(True, 50.0 + RECONNECT_AFTER)


def test_a_carrier_that_loses_again_with_nothing_answered_in_between_is_failing() -> None:
    caution = Probing(1)
    caution.took(1, 0.0)
    caution.lost()
    caution.answered()
    caution.took(1, 0.0)
    caution.lost()
    caution.lost()
    assert not caution.failing, "every link broke, at one time"
    caution.took(1, 1.0)
    caution.lost()
    assert caution.failing
    assert caution.only_resendable
    caution.took(0, 1.0)
    assert not caution.only_resendable, "or a carrier of advertising alone would never be asked again"
    caution.answered()
    assert not caution.failing


def test_a_carrier_that_answers_again_is_well() -> None:
    caution = Probing(2)
    caution.look(True, 0.0)
    assert repr(caution) == "<Probing sick>"
    caution.look(False, 1.0)
    assert not caution
