"""The events of a session, as tuples, in the order in which they happened."""

from __future__ import annotations

from typing import NamedTuple

from gateway.smpp.codec import Pdu
from gateway.smpp.pdu import command_name
from gateway.smpp.short_message import ShortMessage


class Bound(NamedTuple):
    """ESME: our bind was accepted. ``version`` is the peer's sc_interface_version, 0 when it gave none."""

    command_id: int
    system_id: bytes
    version: int


class BindRefused(NamedTuple):
    """ESME: our bind was refused with this status; the session is open again."""

    status: int


class BindRequested(NamedTuple):
    """SMSC: call ``accept_bind`` or ``refuse_bind``; nothing more is parsed until then."""

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
    """A response to one of our requests. ``message_id`` is empty when the body has none.

    ``late``: it came after the response timeout, possibly after the request was reported as TimedOut.
    """

    context: object
    status: int
    message_id: bytes
    late: bool


class OperationAnswered(NamedTuple):
    """A response to our query_sm or submit_multi, with its body."""

    context: object
    pdu: Pdu
    late: bool


class MessageReceived(NamedTuple):
    """The peer sent submit_sm, deliver_sm or data_sm: the owner must ``respond``."""

    message: ShortMessage


class OperationReceived(NamedTuple):
    """The peer sent query_sm, cancel_sm, replace_sm or submit_multi: the owner must ``respond``.

    Also alert_notification and outbind, which have no response (outbind was refused with generic_nack).
    """

    pdu: Pdu


class TimedOut(NamedTuple):
    """Requests without a response after response timeout and grace: their outcome is unknown. Oldest first.

    Their places in the window are free. A response that still comes on this connection is a late Answered.
    """

    contexts: list[object]


class Unbinding(NamedTuple):
    """The peer sent unbind, which is answered: send nothing new. ``Closed`` follows when nothing is outstanding."""


class Closed(NamedTuple):
    """The session is over. ``contexts``: requests still without a response, oldest first, except those TimedOut."""

    reason: str
    contexts: list[object]


Event = (
    Bound
    | BindRefused
    | BindRequested
    | Answered
    | OperationAnswered
    | MessageReceived
    | OperationReceived
    | TimedOut
    | Unbinding
    | Closed
)
