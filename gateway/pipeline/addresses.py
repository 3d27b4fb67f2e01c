"""Which addresses a webhook may be posted to; the rule is the configuration's, which is checked by it as well."""

from __future__ import annotations

from gateway.config.addresses import Address, Guard, Network, is_public, permits_port

__all__ = ["Address", "Guard", "Network", "is_public", "permits_port"]
