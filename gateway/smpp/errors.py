"""Whose fault it is stands in the name.

SmppError
├── PeerError    the peer's octets break the protocol; carries the status to answer with
└── LocalError   we asked for something the protocol, the state or the window does not allow: our bug
"""

from __future__ import annotations


class SmppError(Exception):
    """Root of what this package raises."""


class PeerError(SmppError):
    """The peer sent something malformed.

    ``status`` is the command_status to answer with, ``sequence`` the sequence number to echo (0 when the header could
    not be trusted).
    """

    def __init__(self, status: int, sequence: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.sequence = sequence


class LocalError(SmppError):
    """A value that cannot be encoded, an operation that the state forbids, or a full window."""
