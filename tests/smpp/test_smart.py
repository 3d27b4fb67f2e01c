from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.smpp import gsm
from gateway.smpp.smart import EQUIVALENTS, plain
from gateway.smpp.text import Alphabet, count


@pytest.mark.parametrize("char", EQUIVALENTS)
def test_every_equivalent_is_in_the_default_alphabet_and_its_original_is_not(char: str) -> None:
    assert gsm.septets(char) is None
    assert gsm.septets(EQUIVALENTS[char]) is not None
    assert plain(f"a{char}") == (f"a{EQUIVALENTS[char]}", {char: EQUIVALENTS[char]})


def test_a_text_is_changed_only_when_that_keeps_it_in_the_default_alphabet() -> None:
    assert plain("It’s “fine” – really…") == (
        'It\'s "fine" - really...',
        {"’": "'", "“": '"', "”": '"', "–": "-", "…": "..."},
    )
    for text in ("“fine” 😀", "“привет”", "“á”", "plain", "\u200b"):
        assert plain(text) == (text, {})


def test_what_it_saves() -> None:
    text = "It’s " + "a" * 150
    assert count(text)[:2] == (Alphabet.UCS2, 3)
    assert count(plain(text)[0])[:2] == (Alphabet.GSM7, 1)


@given(st.text(st.sampled_from([*EQUIVALENTS, *"abc€ \n"]), min_size=1))
def test_it_is_idempotent_and_what_is_told_gives_the_same_text(text: str) -> None:
    said, replaced = plain(text)
    assert plain(said) == (said, {})
    assert said == "".join(replaced.get(char, char) for char in text)
