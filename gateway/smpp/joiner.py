"""Joining inbound parts to whole messages: user data headers of both widths and SAR TLVs, in any order.

Nothing is lost in silence: what never becomes whole comes out of ``sweep`` as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

from gateway.smpp.segments import UDHI, TextError, concatenation, split_header

SAR_REFERENCE = 0x020C
SAR_TOTAL = 0x020E
SAR_NUMBER = 0x020F

_SAR_SPACE = 0x20000  # keeps SAR references apart from those of user data headers (see segments.concatenation)


class Joined(NamedTuple):
    """A message put together, or what there was of it.

    ``payload`` has no user data header; ``elements`` are the header elements beside the concatenation, of part 1
    (ports, for instance). ``missing`` counts the parts that never came: 0 for a whole message.
    """

    source: bytes
    dest: bytes
    data_coding: int
    payload: bytes
    elements: bytes = b""
    parts: int = 1
    missing: int = 0


class _Part(NamedTuple):
    payload: bytes
    elements: bytes
    data_coding: int


class _Partial:
    """The parts of one message that have come so far, or (``whole``) a memory of it that makes duplicates harmless."""

    __slots__ = ("parts", "since", "total", "whole")

    def __init__(self, total: int, now: float) -> None:
        self.total = total
        self.since = now
        self.parts: dict[int, _Part] = {}
        self.whole = False


_Key = tuple[bytes, bytes, int, int]


class Joiner:
    """Bounded memory of incomplete messages.

    ``wait`` seconds after its first part an incomplete message is given up. A whole one is remembered for ``remember``
    seconds, so that a repeated part is known; later the same parts are a new message (some phones never change their
    reference). ``limit`` parts in all are kept, and the oldest message goes when there are more.
    """

    def __init__(self, wait: float = 300.0, remember: float = 60.0, limit: int = 10_000) -> None:
        self.wait = wait
        self.remember = remember
        self.limit = limit
        self._partials: dict[_Key, _Partial] = {}  # oldest first
        self._held = 0  # parts in _partials
        self._given_up: deque[Joined] = deque(maxlen=limit)

    def __repr__(self) -> str:
        return f"<Joiner {len(self._partials)} messages, {self._held} parts>"

    def add(  # noqa: PLR0917 - the fields of one message, in the order of the PDU
        self,
        source: bytes,
        dest: bytes,
        esm_class: int,
        data_coding: int,
        payload: bytes,
        tlvs: Mapping[int, bytes] | None,
        now: float,
    ) -> Joined | None:
        """The whole message when this was its last missing part or when it is no part at all, else None.

        A part that came before changes nothing, not even after the message was whole. Another text under the same
        reference and number starts a new message (references wrap around), and the old one comes out of ``sweep``.
        """
        elements = b""
        place = None
        if esm_class & UDHI:
            try:
                elements, payload = split_header(payload)
            except TextError:
                return Joined(source, dest, data_coding, payload)  # handed on as it came
            place = concatenation(elements)
        if place is None and tlvs:
            place = _sar_place(tlvs)
        if place is None:
            return Joined(source, dest, data_coding, payload, elements)
        reference, total, number = place
        if total == 1:
            return Joined(source, dest, data_coding, payload, _without_concatenation(elements))
        return self._add_part((source, dest, reference, total), number, _Part(payload, elements, data_coding), now)

    def sweep(self, now: float) -> list[Joined]:
        """What will never be whole: too old, crowded out, or overtaken by another message of the same reference."""
        too_old = now - self.wait
        for key, partial in list(self._partials.items()):
            if partial.since > too_old:
                break
            self._give_up(key)
        found = list(self._given_up)
        self._given_up.clear()
        return found

    def _add_part(self, key: _Key, number: int, part: _Part, now: float) -> Joined | None:
        partial = self._partials.get(key)
        if partial is not None and partial.whole and now - partial.since > self.remember:
            self._give_up(key)
            partial = None
        if partial is not None:
            before = partial.parts.get(number)
            if before == part:
                return None
            if before is not None or partial.whole:
                self._give_up(key)
                partial = None
        if partial is None:
            partial = self._partials[key] = _Partial(key[3], now)
        partial.parts[number] = part
        self._held += 1
        while self._held > self.limit and len(self._partials) > 1:
            self._give_up(next(iter(self._partials)))
        if len(partial.parts) < partial.total:
            return None
        partial.whole = True
        partial.since = now
        self._partials[key] = self._partials.pop(key)  # to the end: the youngest
        return _join(key, partial)

    def _give_up(self, key: _Key) -> None:
        partial = self._partials.pop(key)
        self._held -= len(partial.parts)
        if not partial.whole:
            self._given_up.append(_join(key, partial))


def _sar_place(tlvs: Mapping[int, bytes]) -> tuple[int, int, int] | None:
    reference, total, number = (int.from_bytes(tlvs.get(tag, b"")) for tag in (SAR_REFERENCE, SAR_TOTAL, SAR_NUMBER))
    return (_SAR_SPACE | reference, total, number) if 1 <= number <= total else None


def _join(key: _Key, partial: _Partial) -> Joined:
    source, dest, _, total = key
    ordered = [partial.parts[number] for number in sorted(partial.parts)]
    first = ordered[0]
    return Joined(
        source,
        dest,
        first.data_coding,
        b"".join(part.payload for part in ordered),
        _without_concatenation(first.elements),
        total,
        total - len(ordered),
    )


def _without_concatenation(elements: bytes) -> bytes:
    kept = []
    at = 0
    while at + 2 <= len(elements):
        end = at + 2 + elements[at + 1]
        if elements[at] not in {0x00, 0x08}:
            kept.append(elements[at:end])
        at = end
    return b"".join(kept)
