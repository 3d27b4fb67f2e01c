"""Forms of ids are learned from agreement, kept for all gateways, and given up for nothing less."""

from __future__ import annotations

from gateway.cluster.receipt_id_forms import ENOUGH, FORM, ReceiptIdForms
from gateway.smpp.message_id import FormKind
from gateway.store.errors import StoreUnavailable
from gateway.store.requests import FormGuess

HERE = ("north", "10.0.0.1:2775")
HEX = [FormGuess(*HERE, b"%d" % number, b"%x" % number) for number in range(0xA0, 0xA0 + 2 * ENOUGH)]


class Flags:
    def __init__(self) -> None:
        self.flags: dict[bytes, int] = {}
        self.away = False

    async def flag(self, name: bytes, value: int) -> None:
        if self.away:
            raise StoreUnavailable("away")
        self.flags[name] = value


def forms() -> ReceiptIdForms:
    return ReceiptIdForms(Flags())


def test_twenty_receipts_in_a_row_teach_a_form() -> None:
    learned = forms()
    learned.guessed(HEX[: ENOUGH - 1])
    assert learned.kind(HERE) is None
    assert learned.allowed() == {HERE: FormKind.HEX}  # sweep may go by it: nothing has ever spoken against it
    learned.guessed(HEX[ENOUGH - 1 : ENOUGH])
    assert learned.kind(HERE) is FormKind.HEX


def test_two_hosts_of_a_carrier_are_learned_apart() -> None:
    learned = forms()
    learned.guessed(HEX[:ENOUGH])
    assert learned.kind(("north", "10.0.0.2:2775")) is None


def test_an_id_found_as_it_came_contradicts_every_other_form() -> None:
    learned = forms()
    learned.plain(HERE, 1)
    learned.guessed(HEX[: ENOUGH - 1])
    assert learned.allowed() == {}
    assert not learned.sure(HERE)
    learned.plain(HERE, 1)
    learned.guessed(HEX[: ENOUGH - 1])
    assert learned.kind(HERE) is None  # twenty in a row are wanted


def test_one_plain_receipt_among_guesses_begins_the_count_anew_and_the_form_is_learned_all_the_same() -> None:
    learned = forms()
    learned.guessed(HEX[:5])
    learned.plain(HERE, 1)
    learned.guessed(HEX[5 : 5 + ENOUGH])
    assert learned.kind(HERE) is FormKind.HEX


def test_a_carrier_that_changes_its_form_is_followed_after_twenty_receipts() -> None:
    learned = forms()
    learned.plain(HERE, 1000)
    learned.guessed(HEX[: ENOUGH - 1])
    assert learned.kind(HERE) is FormKind.AS_IS
    learned.guessed(HEX[:1])
    assert learned.kind(HERE) is FormKind.HEX


def test_ids_that_several_forms_explain_are_evidence_for_each() -> None:
    learned = forms()
    learned.guessed(
        [FormGuess(*HERE, b"%d" % number, b"%x" % number) for number in range(0x10, 0x10 + 9)]
    )  # digits alone
    learned.guessed([FormGuess(*HERE, b"%d" % number, b"%X" % number) for number in range(0xAB, 0xAB + ENOUGH)])
    assert learned.kind(HERE) is FormKind.HEX_UPPER


async def test_what_was_learned_is_kept_for_all_gateways_and_survives_a_restart() -> None:
    flags = Flags()
    first, other = ReceiptIdForms(flags), ReceiptIdForms(flags)
    first.guessed(HEX[:ENOUGH])
    flags.away = True
    await first.try_to_save()
    flags.away = False
    await first.try_to_save()
    assert flags.flags == {FORM + b"north\0" + HERE[1].encode(): FormKind.HEX + 1}
    other.take_over(flags.flags | {FORM + b"north\0x": 200, b"epoch": 3})
    assert other.kind(HERE) is FormKind.HEX
    assert other.sure(HERE)


def test_a_setting_forgets_what_was_learned() -> None:
    learned = forms()
    learned.guessed(HEX[:ENOUGH])
    learned.forget("north")
    assert (learned.kind(HERE), learned.allowed()) == (None, {})
