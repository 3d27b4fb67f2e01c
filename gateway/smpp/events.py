"""What a session tells its owner: cheap tuples, in the order in which things happened."""

from __future__ import annotations

from typing import NamedTuple

from gateway.smpp.codec import Pdu
from gateway.smpp.pdu import command_name
from gateway.smpp.short_message import ShortMessage


class Bound(NamedTuple):
    """ESME: our bind was accepted. ``version`` is the peer's sc_interface_version, 0 when it named none."""

    command_id: int
    system_id: bytes
    version: int


class BindRefused(NamedTuple):
    """ESME: our bind was answered with this status; the session is open, not closed."""

    status: int


class BindRequested(NamedTuple):
    """SMSC: decide, then call ``accept_bind`` or ``refuse_bind``. Nothing else is read until then."""

    command_id: int
    sequence: int
    system_id: bytes
    password: bytes
    system_type: bytes
    version: int
    address_range: bytes

    def __repr__(self) -> str:
        return f"BindRequested({command_name(self.command_id)} as {self.system_id!r})"  # a log must not hold passwords


class Answered(NamedTuple):
    """The answer to one of our requests. ``message_id`` is empty when the body has none.

    ``late``: it came after the response timeout, perhaps even after the request was reported as TimedOut.
    """

    context: object
    status: int
    message_id: bytes
    late: bool


class Replied(NamedTuple):
    """The answer to our query_sm or submit_multi, which says more than a status."""

    context: object
    pdu: Pdu
    late: bool


class Requested(NamedTuple):
    """The peer sent submit_sm, deliver_sm or data_sm: somebody must ``respond``."""

    message: ShortMessage


class OperationRequested(NamedTuple):
    """The peer sent query_sm, cancel_sm, replace_sm or submit_multi: somebody must ``respond``.

    alert_notification and outbind come this way too and have no response (outbind was refused with generic_nack).
    """

    pdu: Pdu


class TimedOut(NamedTuple):
    """Requests without an answer when response timeout and grace were over: unknown. Oldest first.

    Their places in the window are free. An answer that comes yet, while the link lives, is a late Answered.
    """

    contexts: list[object]


class Unbinding(NamedTuple):
    """The peer sent unbind, which is answered: take no new work. ``Closed`` follows when nothing is outstanding."""


class Closed(NamedTuple):
    """The session is over. ``contexts`` are the requests still without an answer, oldest first; those that were
    reported as TimedOut are not among them.
    """

    reason: str
    contexts: list[object]


Event = (
    Bound
    | BindRefused
    | BindRequested
    | Answered
    | Replied
    | Requested
    | OperationRequested
    | TimedOut
    | Unbinding
    | Closed
)
