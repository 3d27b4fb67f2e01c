"""Which operation is legal in which state, as data (SMPP 3.4, section 2.3, table 2-1)."""

from __future__ import annotations

from enum import Enum

from gateway.smpp.pdu import (
    ALERT_NOTIFICATION,
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    CANCEL_SM,
    DATA_SM,
    DELIVER_SM,
    ENQUIRE_LINK,
    OUTBIND,
    QUERY_SM,
    REPLACE_SM,
    SUBMIT_MULTI,
    SUBMIT_SM,
    UNBIND,
)


class Role(Enum):
    """Which end of the connection a session is."""

    ESME = "esme"  # the client: it binds and submits
    SMSC = "smsc"  # the message centre: it is bound to and delivers

    @property
    def peer(self) -> Role:
        """The other end."""
        return Role.SMSC if self is Role.ESME else Role.ESME


class SessionState(Enum):
    """The state of a session."""

    OPEN = "open"  # connected, not bound
    BINDING = "binding"  # a bind is sent, or waits for our decision
    BOUND_TX = "bound_tx"
    BOUND_RX = "bound_rx"
    BOUND_TRX = "bound_trx"
    UNBINDING = "unbinding"  # we sent unbind and wait for the response
    UNBOUND = "unbound"  # the peer sent unbind: late responses may still pass in both directions
    CLOSED = "closed"


BOUND_BY: dict[int, SessionState] = {
    BIND_TRANSMITTER: SessionState.BOUND_TX,
    BIND_RECEIVER: SessionState.BOUND_RX,
    BIND_TRANSCEIVER: SessionState.BOUND_TRX,
}
"""The state that an accepted bind leads to."""

BOUND = frozenset(BOUND_BY.values())

_OPEN = frozenset({SessionState.OPEN})
_TX = frozenset({SessionState.BOUND_TX, SessionState.BOUND_TRX})
_RX = frozenset({SessionState.BOUND_RX, SessionState.BOUND_TRX})
_LIVE = frozenset(SessionState) - {SessionState.CLOSED}

MATRIX: dict[int, dict[Role, frozenset[SessionState]]] = {
    BIND_TRANSMITTER: {Role.ESME: _OPEN},
    BIND_RECEIVER: {Role.ESME: _OPEN},
    BIND_TRANSCEIVER: {Role.ESME: _OPEN},
    OUTBIND: {Role.SMSC: _OPEN},
    UNBIND: {Role.ESME: BOUND, Role.SMSC: BOUND},
    SUBMIT_SM: {Role.ESME: _TX},
    SUBMIT_MULTI: {Role.ESME: _TX},
    QUERY_SM: {Role.ESME: _TX},
    CANCEL_SM: {Role.ESME: _TX},
    REPLACE_SM: {Role.ESME: _TX},
    DATA_SM: {Role.ESME: _TX, Role.SMSC: _RX},
    DELIVER_SM: {Role.SMSC: _RX},
    ALERT_NOTIFICATION: {Role.SMSC: _RX},
    ENQUIRE_LINK: {Role.ESME: _LIVE, Role.SMSC: _LIVE},  # 3.4 says bound; 5.0 and practice: always
}
"""Request -> role that may send it -> states in which it may."""

CONTROL = frozenset({BIND_TRANSMITTER, BIND_RECEIVER, BIND_TRANSCEIVER, UNBIND, ENQUIRE_LINK})
"""Requests that the session sends itself, outside the window."""

NEVER_ALLOWED: dict[Role, frozenset[int]] = {
    role: frozenset(command_id for command_id, senders in MATRIX.items() if role not in senders) for role in Role
}
"""Requests that a role may send in no state."""


def allowed(sender: Role, state: SessionState) -> frozenset[int]:
    """Return the requests that ``sender`` may send in ``state``."""
    return _ALLOWED[sender, state]


_ALLOWED: dict[tuple[Role, SessionState], frozenset[int]] = {
    (role, state): frozenset(
        command_id for command_id, senders in MATRIX.items() if state in senders.get(role, frozenset())
    )
    for role in Role
    for state in SessionState
}
