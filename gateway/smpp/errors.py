"""Errors of this package; the name says which side is at fault.

SmppError
├── PeerError    the peer's octets violate the protocol; carries the status to answer with
└── LocalError   the caller asked for what protocol, state or window do not allow: a bug of ours
"""

from __future__ import annotations


class SmppError(Exception):
    """Base of the errors of this package."""


class PeerError(SmppError):
    """The peer sent malformed octets.

    ``status`` is the command_status to answer with, ``sequence`` the sequence number to echo (0 when the header is not
    reliable).
    """

    def __init__(self, status: int, sequence: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.sequence = sequence


class LocalError(SmppError):
    """A value that cannot be encoded, an operation that the state forbids, or a full window."""
