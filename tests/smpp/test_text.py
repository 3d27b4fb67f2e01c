"""Alphabets, counting, splitting and joining: the vectors of other suites, then properties over any text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.smpp.pdu import ESM_UDHI
from gateway.smpp.text import (
    GSM_BASIC,
    GSM_EQUIVALENTS,
    GSM_ESCAPE,
    GSM_EXTENSION,
    Alphabet,
    Joined,
    Joiner,
    Segments,
    SplitMethod,
    TextError,
    alphabet_of,
    concatenation,
    count,
    decode,
    encode,
    gsm_decode,
    gsm_encode,
    replace_typographic,
    septets,
    split,
    split_header,
    split_octets,
)

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data/vectors.json").read_text())["text"]
CODINGS = {"gsm7": Alphabet.GSM7, "ucs2": Alphabet.UCS2, "8bit": Alphabet.BINARY}
UNIT = {Alphabet.GSM7: 1, Alphabet.UCS2: 2, Alphabet.BINARY: 1, Alphabet.LATIN1: 1}


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def cut_vector(vector: dict[str, Any]) -> Segments:
    long = SplitMethod.UDH16 if vector.get("ref") == 16 else SplitMethod.UDH8
    if "text_hex" in vector:
        return split_octets(bytes.fromhex(vector["text_hex"]), 0, 4, reference=7, long=long)
    return split(vector["text"], reference=7, long=long)


def bodies(segments: Segments) -> list[bytes]:
    if segments.esm_class & ESM_UDHI:
        return [split_header(part.short_message)[1] for part in segments.parts]
    return [part.short_message for part in segments.parts]


@pytest.mark.parametrize("vector", named(VECTORS))
def test_vectors_split(vector: dict[str, Any]) -> None:
    segments = cut_vector(vector)
    assert segments.alphabet is CODINGS[vector["coding"]]
    assert [len(body) // UNIT[segments.alphabet] for body in bodies(segments)] == vector["units"]
    assert len(segments.parts) == vector["parts"]
    if "hex" in vector:
        assert segments.parts[0].short_message.hex() == vector["hex"]


@pytest.mark.parametrize("vector", named([vector for vector in VECTORS if "text" in vector]))
def test_vectors_count(vector: dict[str, Any]) -> None:
    long = SplitMethod.UDH16 if vector.get("ref") == 16 else SplitMethod.UDH8
    assert count(vector["text"], long=long) == (CODINGS[vector["coding"]], vector["parts"], sum(vector["units"]))


# Alphabets --------------------------------------------------------------------------------------------------------


def test_every_character_of_the_alphabet_takes_its_code() -> None:
    for code, char in enumerate(GSM_BASIC):
        if code != GSM_ESCAPE:
            assert gsm_encode(char) == bytes((code,))
            assert septets(char) == 1
            assert gsm_decode(bytes((code,))) == char
    for code, char in GSM_EXTENSION.items():
        assert gsm_encode(char) == bytes((GSM_ESCAPE, code))
        assert septets(char) == 2
        assert gsm_decode(bytes((GSM_ESCAPE, code))) == char


@given(st.characters())
def test_nothing_else_fits(char: str) -> None:
    fits = (char in GSM_BASIC and char != "\x1b") or char in GSM_EXTENSION.values()
    assert (gsm_encode(char) is not None) == fits
    assert (septets(char) is not None) == fits


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"a\x1b", "a"),
        (b"\x1b\x1b", " "),
        (b"\x1bA", "A"),
        (b"\x80\xff", "\ufffd\ufffd"),
        (b"\x1b\x80", "\ufffd"),
        (b"\x1b\x65", "€"),
    ],
)
def test_gsm_decoding_never_fails(octets: bytes, text: str) -> None:
    assert gsm_decode(octets) == text


def test_the_alphabet_is_the_first_allowed_one_that_fits() -> None:
    assert count("héllo").alphabet is Alphabet.GSM7
    assert count("ç").alphabet is Alphabet.UCS2
    assert count("ç", allowed=(Alphabet.GSM7, Alphabet.LATIN1, Alphabet.UCS2)).alphabet is Alphabet.LATIN1
    assert count("a", allowed=(Alphabet.UCS2,)).alphabet is Alphabet.UCS2
    with pytest.raises(TextError, match="gsm7 or latin1"):
        count("я", allowed=(Alphabet.GSM7, Alphabet.LATIN1))
    with pytest.raises(TextError, match="gsm7"):
        encode("я", Alphabet.GSM7)
    with pytest.raises(TextError):
        count("\ud83d")


@pytest.mark.parametrize(
    ("data_coding", "alphabet"),
    [
        (0, Alphabet.GSM7),
        (1, Alphabet.LATIN1),
        (3, Alphabet.LATIN1),
        (4, Alphabet.BINARY),
        (8, Alphabet.UCS2),
        (0x10, Alphabet.GSM7),
        (0x14, Alphabet.BINARY),
        (0x18, Alphabet.UCS2),
        (0xC8, Alphabet.GSM7),
        (0xE0, Alphabet.UCS2),
        (0xF0, Alphabet.GSM7),
        (0xF5, Alphabet.BINARY),
        (0x80, Alphabet.LATIN1),
    ],
)
def test_data_codings(data_coding: int, alphabet: Alphabet) -> None:
    assert alphabet_of(data_coding) is alphabet


def test_data_coding_0_is_what_the_carrier_says() -> None:
    assert alphabet_of(0, Alphabet.LATIN1) is Alphabet.LATIN1
    assert decode(b"\xe7", 0, Alphabet.LATIN1) == "ç"


@given(st.binary(), st.integers(0, 255))
def test_any_octets_decode(data: bytes, data_coding: int) -> None:
    assert isinstance(decode(data, data_coding), str)


# Splitting and joining --------------------------------------------------------------------------------------------

GSM_TEXT = st.text(st.sampled_from("".join(c for c in GSM_BASIC if c != "\x1b") + "€[]{}€€€"), max_size=700)
LATIN_TEXT = st.text(st.characters(max_codepoint=255), max_size=700)
ANY_TEXT = st.text(st.sampled_from("aя😀€ç") | st.characters(exclude_categories=["Cs"]), max_size=500)
WITH_ALPHABET = (
    st.tuples(GSM_TEXT, st.sampled_from([None, Alphabet.GSM7]))
    | st.tuples(LATIN_TEXT, st.sampled_from([Alphabet.LATIN1, Alphabet.BINARY, Alphabet.UCS2, None]))
    | st.tuples(ANY_TEXT, st.sampled_from([Alphabet.UCS2, None]))
)


def tlvs_of(encoded: bytes) -> dict[int, bytes]:
    found = {}
    while encoded:
        size = int.from_bytes(encoded[2:4])
        found[int.from_bytes(encoded[:2])] = encoded[4 : 4 + size]
        encoded = encoded[4 + size :]
    return found


def deliver(joiner: Joiner, segments: Segments, number: int, now: float = 0.0) -> Joined | None:
    part = segments.parts[number]
    tlvs = tlvs_of(part.tlvs)
    payload = tlvs.get(0x0424, part.short_message)
    return joiner.add(b"1", b"2", segments.esm_class, segments.data_coding, payload, tlvs, now)


@settings(deadline=None)
@given(WITH_ALPHABET, st.sampled_from(SplitMethod), st.integers(0, 0xFFFFFFFF), st.randoms(use_true_random=False))
def test_join_undoes_split_in_any_order(
    chosen: tuple[str, Alphabet | None], long: SplitMethod, reference: int, random: Any
) -> None:
    text, alphabet = chosen
    segments = split(text, reference=reference, long=long, alphabet=alphabet)
    order = list(range(len(segments.parts)))
    random.shuffle(order)
    joiner = Joiner()
    joined = [deliver(joiner, segments, number) for number in order]
    assert joined[:-1] == [None] * (len(order) - 1)
    assert joined[-1] is not None
    assert decode(joined[-1].payload, segments.data_coding) == text
    assert count(text, alphabet, long).segments == len(order)


@settings(deadline=None)
@given(WITH_ALPHABET, st.sampled_from(SplitMethod))
@example(("a" * 152 + "€" * 200, Alphabet.GSM7), SplitMethod.UDH8)
@example(("a" * 66 + "😀" * 200, Alphabet.UCS2), SplitMethod.UDH8)
def test_every_part_stands_alone_and_fits(chosen: tuple[str, Alphabet | None], long: SplitMethod) -> None:
    text, alphabet = chosen
    segments = split(text, reference=1, long=long, alphabet=alphabet)
    whole = []
    for body, part in zip(bodies(segments), segments.parts, strict=True):
        octets = tlvs_of(part.tlvs).get(0x0424, body)
        whole.append(decode(octets, segments.data_coding))
        if segments.alphabet is Alphabet.UCS2:
            octets.decode("utf-16-be")  # strict: no half of a pair
        if segments.alphabet is Alphabet.GSM7:
            assert (len(octets) - len(octets.rstrip(b"\x1b"))) % 2 == 0
        header = len(part.short_message) - len(body)
        on_air = header + (-(-len(body) * 7 // 8) if segments.alphabet is Alphabet.GSM7 else len(body))
        assert on_air <= 140
        assert len(part.short_message) <= 254
    assert "".join(whole) == text


def test_no_more_than_255_parts() -> None:
    assert len(split("a" * 153 * 255, reference=1).parts) == 255
    with pytest.raises(TextError, match="255"):
        split("a" * (153 * 255 + 1), reference=1)
    with pytest.raises(TextError, match="65535"):
        split("a" * 65536, reference=1, long=SplitMethod.PAYLOAD)


def test_forms_on_the_wire() -> None:
    text = "a" * 161
    assert split(text, reference=0x1234).parts[1].short_message[:6].hex() == "050003340202"
    assert split(text, reference=0x1234, long=SplitMethod.UDH16).parts[0].short_message[:7].hex() == "06080412340201"
    sar = split(text, reference=0x1234, long=SplitMethod.SAR)
    assert sar.esm_class == 0
    assert sar.parts[0].tlvs.hex() == "020c00020034020e000102020f000101"
    payload = split(text, reference=0x1234, long=SplitMethod.PAYLOAD)
    assert payload.parts == ((b"", b"\x04\x24\x00\xa1" + text.encode()),)


# Ready-made octets ------------------------------------------------------------------------------------------------

PORTS = bytes.fromhex("0605040b8423f0")


def test_octets_with_a_header_that_fit_stay_as_they_are() -> None:
    data = PORTS + bytes(133)
    assert split_octets(data, ESM_UDHI, 4, reference=1).parts == ((data, b""),)


def test_octets_are_cut_as_their_data_coding_says() -> None:
    assert len(split_octets(b"a" * 160, 0, 0, reference=1).parts) == 1
    part_of_a_long_text = b"\x05\0\x03\1\2\1" + b"a" * 153
    assert split_octets(part_of_a_long_text, ESM_UDHI, 0, reference=1).parts == ((part_of_a_long_text, b""),)
    pairs = split_octets("😀".encode("utf-16-be") * 36, 0, 8, reference=1)
    assert [len(body) for body in bodies(pairs)] == [132, 12]
    assert split_octets(b"a" * 160, 0, 0, reference=1, alphabet=Alphabet.LATIN1).alphabet is Alphabet.LATIN1


@pytest.mark.parametrize("long", [SplitMethod.UDH8, SplitMethod.UDH16, SplitMethod.SAR])
def test_a_long_one_repeats_its_header_in_every_part(long: SplitMethod) -> None:
    segments = split_octets(PORTS + bytes(range(256)), ESM_UDHI, 4, reference=1, long=long)
    joiner = Joiner()
    joined = [deliver(joiner, segments, number) for number in range(len(segments.parts))]
    assert all(len(part.short_message) <= 140 and not part.tlvs for part in segments.parts)
    assert joined[-1] == (b"1", b"2", 4, bytes(range(256)), PORTS[1:], len(joined), 0)


def test_octets_whose_header_marks_them_as_a_part_are_refused() -> None:
    with pytest.raises(TextError, match="already marks it as a part"):
        split_octets(b"\x05\0\x03\1\2\1" + bytes(200), ESM_UDHI, 4, reference=1)
    with pytest.raises(TextError, match="beyond"):
        split_octets(b"\x20abc", ESM_UDHI, 4, reference=1)
    with pytest.raises(TextError, match="no room"):
        split_octets(b"\x87" + bytes(0x87) + bytes(200), ESM_UDHI, 4, reference=1)


@given(st.binary(max_size=30))
def test_any_header_is_read_without_error(elements: bytes) -> None:
    place = concatenation(elements)
    assert place is None or 1 <= place[2] <= place[1]


# Joining ----------------------------------------------------------------------------------------------------------


def test_duplicates_change_nothing_before_and_after_the_whole() -> None:
    joiner, segments = Joiner(), split("a" * 400, reference=1)
    assert [deliver(joiner, segments, n) for n in (0, 0, 2, 2)] == [None] * 4
    assert deliver(joiner, segments, 1) is not None
    assert [deliver(joiner, segments, n, now=59.0) for n in (0, 1, 2)] == [None] * 3
    assert [deliver(joiner, segments, n, now=61.0) is None for n in (0, 1, 2)] == [True, True, False]


def test_another_text_under_the_same_reference_is_another_message() -> None:
    joiner, first, second = Joiner(), split("a" * 200, reference=1), split("b" * 200, reference=257)
    assert deliver(joiner, first, 0) is None
    assert deliver(joiner, second, 0) is None
    whole = deliver(joiner, second, 1)
    assert whole is not None and whole.payload == b"b" * 200
    assert joiner.sweep(0.0) == [(b"1", b"2", 0, b"a" * 153, b"", 2, 1)]


def test_references_of_different_kinds_are_apart() -> None:
    joiner = Joiner()
    cuts = [split("a" * 200, reference=1, long=long) for long in (SplitMethod.UDH8, SplitMethod.UDH16, SplitMethod.SAR)]
    assert [deliver(joiner, segments, 0) for segments in cuts] == [None] * 3
    assert all(deliver(joiner, segments, 1) is not None for segments in cuts)


def test_incomplete_messages_are_returned_by_sweep() -> None:
    joiner, segments = Joiner(wait=10), split("a" * 400, reference=1)
    deliver(joiner, segments, 1, now=5.0)
    assert joiner.sweep(14.0) == []
    assert joiner.sweep(15.0) == [(b"1", b"2", 0, b"a" * 153, b"", 3, 2)]
    assert repr(joiner) == "<Joiner 0 messages, 0 parts>"


def test_memory_is_bounded() -> None:
    joiner = Joiner(limit=10)
    for reference in range(1000):
        deliver(joiner, split(f"{reference} " + "a" * 200, reference=reference), 0)
    assert repr(joiner) == "<Joiner 10 messages, 10 parts>"
    assert len(joiner.sweep(0.0)) == 10


def test_a_malformed_header_is_passed_on_unchanged() -> None:
    joiner = Joiner()
    assert joiner.add(b"1", b"2", ESM_UDHI, 0, b"\x20abc", None, 0.0) == (b"1", b"2", 0, b"\x20abc", b"", 1, 0)
    assert joiner.add(b"1", b"2", ESM_UDHI, 0, b"\x05\0\x03\1\2\3x", None, 0.0) is not None  # part 3 of 2
    assert joiner.add(b"1", b"2", ESM_UDHI, 0, b"\x05\0\x03\1\1\1x", None, 0.0) == (b"1", b"2", 0, b"x", b"", 1, 0)
    assert joiner.add(b"1", b"2", 0, 0, b"x", {0x020C: b"\0\1"}, 0.0) == (b"1", b"2", 0, b"x", b"", 1, 0)


@pytest.mark.parametrize("char", GSM_EQUIVALENTS)
def test_every_equivalent_is_in_the_default_alphabet_and_its_original_is_not(char: str) -> None:
    assert septets(char) is None
    assert septets(GSM_EQUIVALENTS[char]) is not None
    assert replace_typographic(f"a{char}") == (f"a{GSM_EQUIVALENTS[char]}", {char: GSM_EQUIVALENTS[char]})


def test_a_text_is_changed_only_when_that_keeps_it_in_the_default_alphabet() -> None:
    assert replace_typographic("It’s “fine” – really…") == (
        'It\'s "fine" - really...',
        {"’": "'", "“": '"', "”": '"', "–": "-", "…": "..."},
    )
    for text in ("“fine” 😀", "“привет”", "“á”", "plain", "\u200b"):
        assert replace_typographic(text) == (text, {})


def test_replacing_typographic_characters_saves_segments() -> None:
    text = "It’s " + "a" * 150
    assert count(text)[:2] == (Alphabet.UCS2, 3)
    assert count(replace_typographic(text)[0])[:2] == (Alphabet.GSM7, 1)


@given(st.text(st.sampled_from([*GSM_EQUIVALENTS, *"abc€ \n"]), min_size=1))
def test_replacement_is_idempotent_and_reported_exactly(text: str) -> None:
    plain, replaced = replace_typographic(text)
    assert replace_typographic(plain) == (plain, {})
    assert plain == "".join(replaced.get(char, char) for char in text)
