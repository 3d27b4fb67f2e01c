"""The optional parameters (TLVs) that a carrier requires in every submit_sm: fixed, by template, or from metadata."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gateway.smpp.errors import LocalError
from gateway.smpp.tlv import TlvType, encode_tlv, tlv_value

if TYPE_CHECKING:
    from gateway.config import CarrierTlv


class ParameterError(LocalError):
    """A message lacks a TLV that its carrier requires. ``field``: the field of the submission that has to hold it."""

    def __init__(self, text: str, field: str) -> None:
        super().__init__(text)
        self.field = field


class CarrierTlvs:
    """The TLVs of one carrier."""

    def __init__(self, carrier: str, tlvs: Sequence[CarrierTlv]) -> None:
        self._carrier = carrier
        self._tlvs = tlvs
        fixed = not any(tlv.metadata or tlv.templates for tlv in tlvs)
        self._fixed = self._encode(None, "") if fixed else None

    def __repr__(self) -> str:
        return f"<CarrierTlvs {' '.join(f'0x{tlv.tag:04X}' for tlv in self._tlvs) or 'none'}>"

    def octets(self, metadata: Any, template: str) -> bytes:
        """Return all TLVs of a message, encoded. ``template``: its name, or "". Raises ParameterError."""
        return self._encode(metadata, template) if self._fixed is None else self._fixed

    def _encode(self, metadata: Any, template: str) -> bytes:
        return b"".join([self._encode_one(tlv, metadata, template) for tlv in self._tlvs])

    def _encode_one(self, tlv: CarrierTlv, metadata: Any, template: str) -> bytes:
        text, field = _text(tlv, metadata, template)
        if text is None:
            if not tlv.required:
                return b""
            raise ParameterError(f'carrier "{self._carrier}" requires TLV 0x{tlv.tag:04X}: {_remedy(tlv)}', field)
        try:
            return _tlv_octets(tlv.tag, tlv.type, text)
        except ValueError as error:
            fault = f'carrier "{self._carrier}" requires TLV 0x{tlv.tag:04X} as {tlv.type}: the value {error}'
            raise ParameterError(fault, field) from None


def _text(tlv: CarrierTlv, metadata: Any, template: str) -> tuple[str | None, str]:
    """Return the value as text, None when the message has none, and the field where it is (or should be)."""
    field = f"metadata.{tlv.metadata}" if tlv.metadata else "template"
    if tlv.metadata and isinstance(metadata, dict):
        given = metadata.get(tlv.metadata)
        if isinstance(given, str | int) and not isinstance(given, bool) and given != "":
            return str(given), field
    return tlv.templates.get(template) or tlv.value or None, field


def _remedy(tlv: CarrierTlv) -> str:
    ways = [f"metadata.{tlv.metadata} (text or an integer)"] if tlv.metadata else []
    ways += [f"one of the templates {', '.join(tlv.templates)}"] if tlv.templates else []
    return f"send {' or '.join(ways)}"


@lru_cache(maxsize=4096)
def _tlv_octets(tag: int, kind: TlvType, text: str) -> bytes:
    return encode_tlv(tag, tlv_value(kind, text))
