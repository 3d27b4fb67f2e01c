"""Bodies of single messages and secrets of webhooks, as tests need them and the gateway does not."""

from __future__ import annotations

import base64
import secrets
from typing import Any

from gateway.signature import PREFIX
from gateway.smpp.short_message import submit_template


def encode_sm(source: bytes, dest: bytes, short_message: bytes, *, tlvs: bytes = b"", **fields: Any) -> bytes:
    """Return one submit_sm or deliver_sm body. ``fields``: those of ``submit_template``."""
    return submit_template(source=source, **fields).encode(dest, short_message, tlvs=tlvs)


def new_secret() -> str:
    """Return a webhook secret of 32 random octets, as written in a configuration."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
