"""Message ids of carriers, within the size of their field."""

from __future__ import annotations

from hashlib import blake2b

from gateway.smpp.pdu import MAX_ID

_KEPT = MAX_ID - 17
_MARK = b"~"


def bounded_id(raw: bytes) -> bytes:
    """``raw`` itself, or of more than 64 octets (section 4.4.2) its beginning, ``~`` and a digest of the whole.

    What is cut is marked and stays one id: two long ids with the same beginning differ, and an answer's and its
    receipt's are the same, in upper or lower case.
    """
    if len(raw) <= MAX_ID:
        return raw
    return b"%b%b%b" % (raw[:_KEPT], _MARK, blake2b(raw.lower(), digest_size=8).hexdigest().encode())
