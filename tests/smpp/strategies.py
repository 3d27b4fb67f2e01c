"""PDUs as hypothesis draws them, from the same tables that encode them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from gateway.smpp.codec import Pdu
from gateway.smpp.pdu import LAYOUTS, RESP, DistributionList, FieldKind, PduField, PduLayout, Sme, Unsuccess

OCTET = st.integers(0, 255)
UINT32 = st.integers(0, 2**32 - 1)
TAG = st.integers(0, 0xFFFF)
TLVS = st.lists(st.tuples(TAG, st.binary(max_size=12)), max_size=4)


def text(size: int) -> st.SearchStrategy[bytes]:
    """A C-octet string of a field of ``size`` octets, without its NUL."""
    return st.lists(st.integers(1, 255), max_size=min(size - 1, 24)).map(bytes)


DESTINATIONS = st.lists(
    st.one_of(st.builds(Sme, OCTET, OCTET, text(21)), st.builds(DistributionList, text(21))), max_size=4
)
UNSUCCESSFUL = st.lists(st.builds(Unsuccess, OCTET, OCTET, text(21), UINT32), max_size=4)


def value(field: PduField) -> st.SearchStrategy[Any]:
    return {
        FieldKind.OCTET: OCTET,
        FieldKind.CSTRING: text(field.size),
        FieldKind.SIZED: st.binary(max_size=field.size),
        FieldKind.DESTINATIONS: DESTINATIONS,
        FieldKind.UNSUCCESSFUL: UNSUCCESSFUL,
    }[field.kind]


def of_layout(command_id: int, layout: PduLayout) -> st.SearchStrategy[Pdu]:
    fields = st.fixed_dictionaries({field.name: value(field) for field in layout.fields})
    status = UINT32 if command_id & RESP else st.just(0)
    return st.builds(Pdu, st.just(command_id), status, UINT32, fields, TLVS if layout.fields else st.just([]))


def pdus(*command_ids: int) -> st.SearchStrategy[Pdu]:
    """Any PDU, or any of these."""
    return st.one_of([of_layout(command_id, LAYOUTS[command_id]) for command_id in command_ids or LAYOUTS])
