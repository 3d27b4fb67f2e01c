"""Sessions in the states that tests begin with, and the peer's side of the wire written out by hand."""

from __future__ import annotations

from gateway.smpp.codec import HEADER, Pdu, decode, encode
from gateway.smpp.events import Event
from gateway.smpp.message_id import IdForm, forms_of, receipted_id
from gateway.smpp.operations import BOUND_BY, Role, SessionState
from gateway.smpp.pdu import BIND_RECEIVER, BIND_TRANSCEIVER, BIND_TRANSMITTER, RESP
from gateway.smpp.session import Session

COMMAND_OF = {state: command_id for command_id, state in BOUND_BY.items()}
BIND_BODY = b"shop\0secret\0\0\x34\0\0\0"
TX, RX, TRX = BIND_TRANSMITTER, BIND_RECEIVER, BIND_TRANSCEIVER


def pdu(command_id: int, sequence: int = 1, body: bytes = b"", status: int = 0) -> bytes:
    """Any octets under a right header."""
    return HEADER.pack(16 + len(body), command_id, status, sequence) + body


def sent(session: Session) -> list[Pdu]:
    """What the session wrote, PDU by PDU."""
    data = session.output()
    found = []
    while data:
        length = HEADER.unpack_from(data)[0]
        found.append(decode(data[:length]))
        data = data[length:]
    return found


def headers(session: Session) -> list[tuple[int, int, int]]:
    """(command_id, status, sequence) of what the session wrote."""
    return [(found.command_id, found.status, found.sequence) for found in sent(session)]


def esme(bind: int = TRX, **options: object) -> Session:
    """A client that is bound at the instant 0; its own next number is 2 by default."""
    session = Session(Role.ESME, **options)  # type: ignore[arg-type]
    session.bind(bind, b"gw", b"secret", now=0)
    sequence = sent(session)[0].sequence
    session.receive(pdu(bind | RESP, sequence, b"centre\0\x02\x10\x00\x01\x34"), 0)
    return session


def smsc(bind: int = TRX, version: int = 0x34, **options: object) -> Session:
    """A message centre whose client is bound at the instant 0; its own next number is 1 by default."""
    session = Session(Role.SMSC, **options)  # type: ignore[arg-type]
    session.receive(pdu(bind, 1, BIND_BODY.replace(b"\x34", bytes((version,)))), 0)
    session.accept_bind(b"centre", now=0)
    session.output()
    return session


def in_state(role: Role, state: SessionState) -> Session:
    """A session of this role in any state."""
    make = esme if role is Role.ESME else smsc
    if state in COMMAND_OF:
        return make(COMMAND_OF[state])
    if state is SessionState.OPEN:
        return Session(role)
    if state is SessionState.BINDING:
        session = Session(role)
        if role is Role.ESME:
            session.bind(TRX, b"gw", b"secret", now=0)
        else:
            session.receive(pdu(TRX, 1, BIND_BODY), 0)
    else:
        session = make()
    if state is SessionState.UNBINDING:
        session.unbind(0)
    elif state is SessionState.UNBOUND:
        session.unanswered = 1  # else it would be over at once
        session.receive(encode(Pdu(6, 0, 99)), 0)
    elif state is SessionState.CLOSED:
        session.close("test")
    session.output()
    return session


def kinds(events: list[Event]) -> list[str]:
    """The names of the events."""
    return [type(event).__name__ for event in events]


def id_forms(raw: bytes, form: IdForm) -> tuple[bytes, ...]:
    """Return the distinct keys under which a receipt's id may be found, the most likely first.

    All but the first are guesses, made only with ``auto``.
    """
    if form != "auto":
        return (receipted_id(raw, form),)
    return tuple(dict.fromkeys(form for _, form in forms_of(raw)))
