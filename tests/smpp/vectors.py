"""The conformance vectors, and our decoder in their words: a dict of SMPP field names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.smpp.codec import decode
from gateway.smpp.pdu import MAX_PDU, DistributionList, Sme, Unsuccess

DATA = Path(__file__).parent / "data" / "vectors.json"


def load(section: str) -> list[dict[str, Any]]:
    """One section of the file: "pdu", "receipts" or "text"."""
    entries: list[dict[str, Any]] = json.loads(DATA.read_text())[section]
    return entries


def decode_fields(data: bytes) -> dict[str, Any] | None:
    """Field names to values; None when more octets are needed; PeerError for what is refused."""
    length = int.from_bytes(data[:4])
    if len(data) < 4 or (16 <= length <= MAX_PDU and len(data) < length):
        return None
    pdu = decode(data)
    if pdu.error:
        raise pdu.error
    found: dict[str, Any] = {
        "command": pdu.name,
        "command_length": length,
        "command_id": pdu.command_id,
        "command_status": pdu.status,
        "sequence_number": pdu.sequence,
    }
    for name, value in pdu.fields.items():
        found |= _in_words(name, value)
    if pdu.tlvs:
        found["tlvs"] = [[f"{tag:04x}", value.hex()] for tag, value in pdu.tlvs]
    return found


def _in_words(name: str, value: Any) -> dict[str, Any]:
    if name == "short_message":
        return {"sm_length": len(value), "short_message_hex": value.hex()}
    if name == "dest_addresses":
        return {"number_of_dests": len(value), "dests": [_destination(item) for item in value]}
    if name == "unsuccess_smes":
        return {"no_unsuccess": len(value), "unsuccess_smes": [_unsuccess(item) for item in value]}
    return {name: value.decode("latin-1") if isinstance(value, bytes) else value}


def _destination(item: Sme | DistributionList) -> list[Any]:
    if isinstance(item, Sme):
        return ["sme", item.ton, item.npi, item.address.decode("latin-1")]
    return ["dl", item.name.decode("latin-1")]


def _unsuccess(item: Unsuccess) -> list[Any]:
    return [item.ton, item.npi, item.address.decode("latin-1"), item.status]
