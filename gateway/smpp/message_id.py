"""Message ids as carriers write them: one id may look different in the response and in its receipt.

``forms_of`` gives the forms that the id of a receipt may have had in the response. All but the first are guesses: with
ids that are counters a guess may name another message, so it counts only where the form has been learned for a carrier,
or together with more than the id. Nothing here raises, whatever the octets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from hashlib import blake2b
from typing import Literal

from gateway.smpp.pdu import MAX_ID

IdForm = Literal["auto", "as-is", "hex-to-dec", "dec-to-hex"]
"""The setting of a carrier: ``auto`` learns the form, the others state it and nothing is guessed."""

_KEPT = MAX_ID - 17  # octets of an overlong id; the mark and 16 hexadecimal digits follow
_CUT_MARK = b"~"


class FormKind(IntEnum):
    """How the id of a receipt is changed to give the id in the response. Kept in the store: never renumber."""

    AS_IS = 0
    LOWER = 1
    UPPER = 2
    STRIPPED = 3  # leading zeros removed
    STRIPPED_LOWER = 4
    STRIPPED_UPPER = 5
    PADDED_8 = 6  # leading zeros added, to this many octets
    PADDED_8_LOWER = 7
    PADDED_8_UPPER = 8
    PADDED_10 = 9
    PADDED_16 = 10
    PADDED_16_LOWER = 11
    PADDED_16_UPPER = 12
    PADDED_20 = 13
    WITHOUT_0X = 20
    WITHOUT_0X_LOWER = 21
    WITHOUT_0X_UPPER = 22
    WITH_0X = 23
    WITH_0X_LOWER = 24
    WITH_0X_UPPER = 25
    WITHOUT_DASHES = 30  # of a UUID
    WITHOUT_DASHES_LOWER = 31
    WITHOUT_DASHES_UPPER = 32
    WITH_DASHES = 33
    WITH_DASHES_LOWER = 34
    WITH_DASHES_UPPER = 35
    DECIMAL = 40  # the receipt's id is hexadecimal, the response's decimal
    DECIMAL_10 = 41  # padded
    DECIMAL_20 = 42
    HEX = 50  # the receipt's id is decimal, the response's hexadecimal
    HEX_UPPER = 51
    HEX_8 = 52
    HEX_8_UPPER = 53
    HEX_16 = 54
    HEX_16_UPPER = 55
    HEX_0X = 56
    HEX_0X_UPPER = 57
    WITHOUT_SUFFIX = 60  # cut from the last separator on: "-", "_", ".", ":", "/", "@", "#", "|"
    WITHOUT_PREFIX = 61  # cut up to the first separator


def bounded_id(raw: bytes) -> bytes:
    """Return ``raw``, or for more than 64 octets (section 4.4.2) its beginning, ``~`` and a digest of the whole.

    Long ids with the same beginning stay distinct, and the response's and the receipt's stay equal in any case.
    """
    if len(raw) <= MAX_ID:
        return raw
    return b"%b%b%b" % (raw[:_KEPT], _CUT_MARK, blake2b(raw.lower(), digest_size=8).hexdigest().encode())


def trimmed(raw: bytes) -> bytes:
    """Return ``raw`` without the NULs and spaces around it."""
    return raw.strip(b"\0 ")


def forms_of(raw: bytes) -> list[tuple[FormKind, bytes]]:
    """Return the ids that the response may have had for the id of a receipt, by kind: AS_IS, then by likelihood.

    Guesses that leave this id unchanged are omitted. Several kinds may give the same octets: a match is evidence for
    each of them (``kinds_between``).
    """
    receipted = trimmed(raw)
    forms = [(FormKind.AS_IS, receipted)]
    for kind, change in _CHANGES.items():
        changed = change(receipted)
        if changed and changed != receipted:
            forms.append((kind, changed))
    return forms


def apply(kind: FormKind, raw: bytes) -> bytes:
    """Return the response's id for a receipt's id of the form ``kind``; unchanged where the form does not apply."""
    receipted = trimmed(raw)
    change = _CHANGES.get(kind)
    return receipted if change is None else change(receipted) or receipted


def kinds_between(receipted: bytes, answered: bytes) -> list[FormKind]:
    """Return every form that turns the receipt's id into the response's, [] when none does."""
    wanted = trimmed(answered)
    return [kind for kind, form in forms_of(receipted) if form == wanted]


def shape_of(raw: bytes) -> str:
    """Describe an id for logs: ``decimal 10``, ``hex 8``, ``uuid``, ``dashless uuid``, ``0x hex 8``,
    ``alnum 12``, ``alnum 12+suffix`` (cut at its last separator), ``other 7``, ``empty``; sizes are octets."""
    text = trimmed(raw)
    whole = _whole_shape(text)
    if whole:
        return whole
    head = _without_suffix(text)
    return f"{_whole_shape(head) or f'other {len(head)}'}+suffix" if head else f"other {len(text)}"


def normalise_id(raw: bytes, form: IdForm) -> bytes:
    """Return the key under which receipts will look for a message id from submit_sm_resp or data_sm_resp.

    ``form`` says how the response's id becomes the receipts': hexadecimal to decimal or decimal to hexadecimal (lower
    case, no leading zeros either way); any other only trims it.
    """
    if form == "hex-to-dec":
        key = _canonical(trimmed(raw))
        return _to_decimal(key) or key
    if form == "dec-to-hex":
        key = _canonical(trimmed(raw))
        return _to_hex(key) or key
    return trimmed(raw)


def receipted_id(raw: bytes, form: IdForm) -> bytes:
    """Return the id of a receipt as ``normalise_id`` with the same ``form`` left it in the id map."""
    return _canonical(trimmed(raw)) if form in _CONVERTED else trimmed(raw)


_CONVERTED = frozenset({"hex-to-dec", "dec-to-hex"})
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEX = re.compile(rb"[0-9a-fA-F]+")
_HEX_WITH_0X = re.compile(rb"0[xX][0-9a-fA-F]+")
_SEPARATORS = re.compile(rb"[-_.:/@#|]")


def _whole_shape(text: bytes) -> str:
    """Describe digits, hexadecimal, a UUID or alphanumerics as ``shape_of`` does; "" for anything else."""
    if not text:
        return "empty"
    if text.isdigit():
        return f"decimal {len(text)}"
    if _HEX_WITH_0X.fullmatch(text):
        return f"0x hex {len(text) - 2}"
    if _UUID.fullmatch(text):
        return "uuid"
    if _HEX.fullmatch(text):
        return "dashless uuid" if len(text) == 32 else f"hex {len(text)}"
    return f"alnum {len(text)}" if text.isalnum() else ""


def _canonical(key: bytes) -> bytes:
    """Return ``key`` in lower case without leading zeros; zeros alone become one."""
    return key.lower().lstrip(b"0") or key[-1:]


def _bare_hex(key: bytes) -> bytes:
    """Return hexadecimal digits of up to 64 bits without ``0x`` and leading zeros, b"" for anything else."""
    digits = key[2:] if _HEX_WITH_0X.fullmatch(key) else key
    digits = digits.lstrip(b"0") or digits[-1:]
    return digits if len(digits) <= 16 and _HEX.fullmatch(digits) else b""


def _to_decimal(key: bytes) -> bytes:
    digits = _bare_hex(key)
    return b"%d" % int(digits, 16) if digits else b""


def _to_hex(key: bytes) -> bytes:
    """Return the hexadecimal digits of a decimal id of up to 64 bits, b"" for anything else."""
    digits = key.lstrip(b"0") or key[-1:]
    return b"%x" % int(digits) if len(digits) <= 20 and digits.isdigit() else b""


def _stripped(key: bytes) -> bytes:
    return key.lstrip(b"0") or key[-1:]


def _padded(width: int) -> Callable[[bytes], bytes]:
    def pad(key: bytes) -> bytes:
        """Pad digits alone: only a number can have lost its zeros."""
        return key.rjust(width, b"0") if 0 < len(key) < width and _HEX.fullmatch(key) else b""

    return pad


def _without_0x(key: bytes) -> bytes:
    return key[2:] if _HEX_WITH_0X.fullmatch(key) else b""


def _with_0x(key: bytes) -> bytes:
    return b"0x" + key if len(key) <= 32 and _HEX.fullmatch(key) else b""


def _without_dashes(key: bytes) -> bytes:
    return key.replace(b"-", b"") if _UUID.fullmatch(key) else b""


def _with_dashes(key: bytes) -> bytes:
    if len(key) != 32 or not _HEX.fullmatch(key):
        return b""
    return b"-".join((key[:8], key[8:12], key[12:16], key[16:20], key[20:]))


def _without_suffix(key: bytes) -> bytes:
    cuts = [] if _UUID.fullmatch(key) else [match.start() for match in _SEPARATORS.finditer(key)]
    return key[: cuts[-1]] if cuts else b""


def _without_prefix(key: bytes) -> bytes:
    first = None if _UUID.fullmatch(key) else _SEPARATORS.search(key)
    return key[first.end() :] if first else b""


def _then(first: Callable[[bytes], bytes], second: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda key: second(first(key))


def _digits_upper(key: bytes) -> bytes:
    """Return ``key`` in upper case except the ``x`` of ``0x``."""
    return b"0x" + key[2:].upper() if key[:2] in (b"0x", b"0X") else key.upper()


_CHANGES: dict[FormKind, Callable[[bytes], bytes]] = {
    FormKind.LOWER: bytes.lower,
    FormKind.UPPER: bytes.upper,
    FormKind.STRIPPED: _stripped,
    FormKind.STRIPPED_LOWER: _then(_stripped, bytes.lower),
    FormKind.STRIPPED_UPPER: _then(_stripped, bytes.upper),
    FormKind.DECIMAL: _to_decimal,
    FormKind.HEX: _to_hex,
    FormKind.HEX_UPPER: _then(_to_hex, bytes.upper),
    FormKind.WITHOUT_0X: _without_0x,
    FormKind.WITHOUT_0X_LOWER: _then(_without_0x, bytes.lower),
    FormKind.WITHOUT_0X_UPPER: _then(_without_0x, bytes.upper),
    FormKind.WITHOUT_DASHES: _without_dashes,
    FormKind.WITHOUT_DASHES_LOWER: _then(_without_dashes, bytes.lower),
    FormKind.WITHOUT_DASHES_UPPER: _then(_without_dashes, bytes.upper),
    FormKind.WITH_DASHES: _with_dashes,
    FormKind.WITH_DASHES_LOWER: _then(_with_dashes, bytes.lower),
    FormKind.WITH_DASHES_UPPER: _then(_with_dashes, bytes.upper),
    FormKind.PADDED_8: _padded(8),
    FormKind.PADDED_8_LOWER: _then(_padded(8), bytes.lower),
    FormKind.PADDED_8_UPPER: _then(_padded(8), bytes.upper),
    FormKind.PADDED_10: _padded(10),
    FormKind.PADDED_16: _padded(16),
    FormKind.PADDED_16_LOWER: _then(_padded(16), bytes.lower),
    FormKind.PADDED_16_UPPER: _then(_padded(16), bytes.upper),
    FormKind.PADDED_20: _padded(20),
    FormKind.WITH_0X: _with_0x,
    FormKind.WITH_0X_LOWER: _then(_with_0x, bytes.lower),
    FormKind.WITH_0X_UPPER: _then(_with_0x, _digits_upper),
    FormKind.DECIMAL_10: _then(_to_decimal, _padded(10)),
    FormKind.DECIMAL_20: _then(_to_decimal, _padded(20)),
    FormKind.HEX_8: _then(_to_hex, _padded(8)),
    FormKind.HEX_8_UPPER: _then(_then(_to_hex, bytes.upper), _padded(8)),
    FormKind.HEX_16: _then(_to_hex, _padded(16)),
    FormKind.HEX_16_UPPER: _then(_then(_to_hex, bytes.upper), _padded(16)),
    FormKind.HEX_0X: _then(_to_hex, _with_0x),
    FormKind.HEX_0X_UPPER: _then(_then(_to_hex, bytes.upper), _with_0x),
    FormKind.WITHOUT_SUFFIX: _without_suffix,
    FormKind.WITHOUT_PREFIX: _without_prefix,
}
"""In order of likelihood."""
