from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.smpp.codec import Pdu, encode, encode_body
from gateway.smpp.errors import LocalError
from gateway.smpp.events import (
    Answered,
    BindRefused,
    BindRequested,
    Bound,
    Closed,
    Event,
    MessageReceived,
    OperationAnswered,
    OperationReceived,
    TimedOut,
    Unbinding,
)
from gateway.smpp.operations import BOUND_BY, MATRIX, NEVER_ALLOWED, Role, SessionState
from gateway.smpp.pdu import (
    ALERT_NOTIFICATION,
    BINDS,
    CANCEL_SM,
    CANCEL_SM_RESP,
    DATA_SM,
    DATA_SM_RESP,
    DELIVER_SM,
    DELIVER_SM_RESP,
    ENQUIRE_LINK,
    ENQUIRE_LINK_RESP,
    GENERIC_NACK,
    LAYOUTS,
    MAX_PDU,
    MAX_SEQUENCE,
    OUTBIND,
    QUERY_SM,
    QUERY_SM_RESP,
    REPLACE_SM,
    RESP,
    SUBMIT_MULTI,
    SUBMIT_MULTI_RESP,
    SUBMIT_SM,
    SUBMIT_SM_RESP,
    UNANSWERED,
    UNBIND,
    UNBIND_RESP,
)
from gateway.smpp.session import Session
from gateway.smpp.status import CommandStatus
from gateway.smpp.tlv import CONGESTION_STATE, MESSAGE_PAYLOAD, MESSAGE_STATE, encode_tlv
from tests.short_messages import encode_sm
from tests.smpp.peers import BIND_BODY, RX, TRX, TX, esme, headers, in_state, kinds, pdu, sent, smsc
from tests.smpp.strategies import pdus

BODY = encode_sm(b"SHOP", b"461", b"hi")


def submit(session: Session, context: object = "context", now: float = 0) -> int:
    """A request under a number that the test may know; the output is thrown away."""
    sequence = session.request(SUBMIT_SM, BODY, context, now)
    session.output()
    return sequence


class TestClientBinds:
    @pytest.mark.parametrize("command_id", sorted(BINDS))
    def test_accepted(self, command_id: int) -> None:
        session = Session(Role.ESME)
        session.bind(command_id, b"gw", b"secret", system_type=b"T", ton=1, npi=2, address_range=b"^46", now=5)
        (request,) = sent(session)
        assert (request.command_id, request.sequence) == (command_id, 1)
        assert request.fields == {
            "system_id": b"gw",
            "password": b"secret",
            "system_type": b"T",
            "interface_version": 0x34,
            "addr_ton": 1,
            "addr_npi": 2,
            "address_range": b"^46",
        }
        assert not session.bound
        assert session.receive(pdu(command_id | RESP, 1, b"centre\0\x02\x10\0\x01\x50"), 6) == [
            Bound(command_id, b"centre", 0x50)
        ]
        assert session.bound
        assert session.state is BOUND_BY[command_id]
        assert session.free == (0 if command_id == RX else 100)

    def test_a_centre_that_names_no_version_still_gets_tlvs(self) -> None:
        session = Session(Role.ESME)
        session.bind(TRX, b"gw", b"secret", now=0)
        assert session.receive(pdu(TRX | RESP, 1), 0) == [Bound(TRX, b"", 0)]
        assert session.takes_tlvs

    @pytest.mark.parametrize("answer", [TRX | RESP, GENERIC_NACK])
    def test_refused(self, answer: int) -> None:
        session = Session(Role.ESME)
        session.bind(TRX, b"gw", b"secret", now=0)
        assert session.receive(pdu(answer, 1, b"", CommandStatus.ESME_RINVPASWD), 1) == [
            BindRefused(CommandStatus.ESME_RINVPASWD)
        ]
        assert session.state is SessionState.OPEN
        assert session.tick(1000) == []
        session.bind(TRX, b"gw", b"other", now=1000)

    def test_a_response_of_another_bind_command_is_ignored(self) -> None:
        session = Session(Role.ESME)
        session.bind(TRX, b"gw", b"secret", now=0)
        assert session.receive(pdu(TX | RESP, 1), 1) == []
        assert session.receive(pdu(TRX | RESP, 2), 1) == []
        assert (session.mismatched, session.ignored_answers) == (1, 1)
        assert session.tick(9.9) == []
        assert session.tick(10) == [Closed("no response to the bind in time", [])]

    def test_only_when_open_and_only_a_client(self) -> None:
        for session in (esme(), smsc(), Session(Role.SMSC)):
            with pytest.raises(LocalError):
                session.bind(TRX, b"gw", b"secret", now=0)
        with pytest.raises(LocalError):
            Session(Role.ESME).bind(SUBMIT_SM, b"gw", b"secret", now=0)

    def test_a_system_id_that_is_too_long_is_refused_without_effect(self) -> None:
        session = Session(Role.ESME)
        with pytest.raises(LocalError):
            session.bind(TRX, b"x" * 16, b"secret", now=0)
        assert session.state is SessionState.OPEN
        assert session.output() == b""


class TestServerBinds:
    @pytest.mark.parametrize("command_id", sorted(BINDS))
    def test_accepted(self, command_id: int) -> None:
        session = Session(Role.SMSC)
        assert session.receive(pdu(command_id, 7, BIND_BODY), 0) == [
            BindRequested(command_id, 7, b"shop", b"secret", b"", 0x34, b"")
        ]
        assert session.output() == b""
        assert session.accept_bind(b"centre", now=0) == []
        assert session.output() == pdu(command_id | RESP, 7, b"centre\0\x02\x10\0\x01\x34")
        assert session.state is BOUND_BY[command_id]
        assert session.free == (0 if command_id == TX else 100)

    def test_a_log_line_of_it_shows_no_password(self) -> None:
        (event,) = Session(Role.SMSC).receive(pdu(TRX, 7, BIND_BODY), 0)
        assert repr(event) == "BindRequested(bind_transceiver as b'shop')"

    @pytest.mark.parametrize(("version", "takes"), [(0, False), (0x33, False), (0x34, True), (0x50, True)])
    def test_a_client_below_34_gets_no_tlvs(self, version: int, takes: bool) -> None:
        session = Session(Role.SMSC)
        session.receive(pdu(TRX, 1, b"shop\0secret\0\0" + bytes((version, 0, 0, 0))), 0)
        session.accept_bind(b"centre", now=0)
        (answer,) = sent(session)
        assert [tag for tag, _ in answer.tlvs] == [0x0210] * takes
        assert (session.peer_version, session.takes_tlvs) == (version, takes)
        session.request(DELIVER_SM, encode_sm(b"1", b"2", b"hi", tlvs=encode_tlv(MESSAGE_STATE, b"\2")), 1, 0)
        (request,) = sent(session)
        assert [tag for tag, _ in request.tlvs] == [MESSAGE_STATE] * takes

    def test_refused_and_tried_again(self) -> None:
        session = Session(Role.SMSC)
        session.receive(pdu(TRX, 1, BIND_BODY), 0)
        assert session.refuse_bind(CommandStatus.ESME_RBINDFAIL, now=1) == []
        assert session.output() == pdu(TRX | RESP, 1, status=CommandStatus.ESME_RBINDFAIL)
        assert kinds(session.receive(pdu(TRX, 2, BIND_BODY), 2)) == ["BindRequested"]
        session.accept_bind(now=2)
        assert session.bound
        assert session.tick(10) == []

    def test_pdus_before_the_bind_decision_are_parsed_after_it(self) -> None:
        stream = pdu(TRX, 1, BIND_BODY) + pdu(SUBMIT_SM, 2, BODY) + pdu(ENQUIRE_LINK, 3)
        for cut in range(len(stream) + 1):
            session = Session(Role.SMSC)
            events = session.receive(stream[:cut], 0) + session.receive(stream[cut:], 0)
            assert kinds(events) == ["BindRequested"]
            assert kinds(session.accept_bind(now=1)) == ["MessageReceived"]
            assert headers(session) == [(TRX | RESP, 0, 1), (ENQUIRE_LINK_RESP, 0, 3)]

    def test_pdus_before_a_refused_bind_are_refused(self) -> None:
        session = Session(Role.SMSC)
        session.receive(pdu(TRX, 1, BIND_BODY) + pdu(SUBMIT_SM, 2, BODY), 0)
        assert session.refuse_bind(CommandStatus.ESME_RINVPASWD, now=0) == []
        assert headers(session) == [
            (TRX | RESP, CommandStatus.ESME_RINVPASWD, 1),
            (SUBMIT_SM_RESP, CommandStatus.ESME_RINVBNDSTS, 2),
        ]

    def test_octets_before_the_bind_decision_are_bounded(self) -> None:
        session = Session(Role.SMSC, max_pdu=1024)
        session.receive(pdu(TRX, 1, BIND_BODY), 0)
        assert session.receive(bytes(4096), 0) == []
        assert kinds(session.receive(b"\0", 0)) == ["Closed"]

    def test_a_decision_without_a_bind_raises_local_error(self) -> None:
        for session in (Session(Role.SMSC), smsc(), in_state(Role.ESME, SessionState.BINDING)):
            with pytest.raises(LocalError):
                session.accept_bind(now=0)
            with pytest.raises(LocalError):
                session.refuse_bind(CommandStatus.ESME_RBINDFAIL, now=0)

    @pytest.mark.parametrize("data", [b"", pdu(TRX, 1, BIND_BODY)[:10], pdu(ENQUIRE_LINK), pdu(TRX, 1, b"x" * 40)])
    def test_a_session_without_a_bind_is_closed(self, data: bytes) -> None:
        session = Session(Role.SMSC, bind_timeout=10)
        assert session.tick(100) == []
        assert session.receive(data, 105) == []
        assert session.tick(109.9) == []
        assert session.tick(110) == [Closed("no bind in time", [])]

    def test_a_malformed_bind(self) -> None:
        session = Session(Role.SMSC)
        assert session.receive(pdu(TRX, 9, b"shop\0secret"), 0) == []
        assert headers(session) == [(TRX | RESP, CommandStatus.ESME_RINVCMDLEN, 9)]

    def test_a_second_bind(self) -> None:
        session = smsc()
        assert session.receive(pdu(TX, 2, BIND_BODY), 0) == []
        assert headers(session) == [(TX | RESP, CommandStatus.ESME_RALYBND, 2)]
        assert session.bound

    def test_a_bind_response_from_a_client_is_ignored(self) -> None:
        session = Session(Role.SMSC)
        assert session.receive(pdu(TRX | RESP, 1, b"x\0") + pdu(SUBMIT_SM, 6, BODY), 0) == []
        assert headers(session) == [(SUBMIT_SM_RESP, CommandStatus.ESME_RINVBNDSTS, 6)]
        assert session.ignored_answers == 1


READING_STATES = [
    (role, state)
    for role in Role
    for state in SessionState
    if state is not SessionState.CLOSED and (role, state) != (Role.SMSC, SessionState.BINDING)
]


class TestMatrix:
    """What each end may send in each state, both as a sender and as a receiver."""

    @pytest.mark.parametrize("command_id", sorted(MATRIX))
    @pytest.mark.parametrize(("role", "state"), READING_STATES)
    def test_requests_of_the_peer(self, role: Role, state: SessionState, command_id: int) -> None:
        session = in_state(role, state)
        before = session.unanswered
        events = session.receive(encode(Pdu(command_id, 0, 55)), 1)
        legal_in = MATRIX[command_id].get(role.peer, frozenset())
        if state is SessionState.UNBINDING:
            state = SessionState.BOUND_TRX  # what crosses our unbind is still legal
        answers = headers(session)
        if state in legal_in:
            assert session.wrong_state == 0
            assert events or answers == [(command_id | RESP, 0, 55)]
            assert all(status == 0 for _, status, _ in answers) or command_id == OUTBIND
            return
        assert events == []
        assert session.wrong_state == 1
        assert session.unanswered == before
        if command_id in UNANSWERED:
            assert answers == []
        elif command_id in NEVER_ALLOWED[role.peer]:
            assert answers == [(GENERIC_NACK, CommandStatus.ESME_RINVCMDID, 55)]
        elif command_id in BINDS and session.bound:
            assert answers == [(command_id | RESP, CommandStatus.ESME_RALYBND, 55)]
        else:
            assert answers == [(command_id | RESP, CommandStatus.ESME_RINVBNDSTS, 55)]

    @pytest.mark.parametrize("command_id", sorted(set(MATRIX) - BINDS - {UNBIND, ENQUIRE_LINK}))
    @pytest.mark.parametrize("state", SessionState)
    @pytest.mark.parametrize("role", Role)
    def test_requests_of_ours(self, role: Role, state: SessionState, command_id: int) -> None:
        session = in_state(role, state)
        if state in MATRIX[command_id].get(role, frozenset()):
            sequence = session.request(command_id, encode_body(command_id, {}), "context", 1)
            assert headers(session) == [(command_id, 0, sequence)]
            assert session.outstanding == (command_id not in UNANSWERED)
        else:
            with pytest.raises(LocalError):
                session.request(command_id, encode_body(command_id, {}), "context", 1)

    @pytest.mark.parametrize("command_id", [*BINDS, UNBIND, ENQUIRE_LINK, SUBMIT_SM_RESP, GENERIC_NACK, 0x110])
    def test_the_owner_may_not_send_session_requests(self, command_id: int) -> None:
        for session in (esme(), smsc(), Session(Role.ESME)):
            with pytest.raises(LocalError):
                session.request(command_id, b"", "context", 1)

    @pytest.mark.parametrize("role", Role)
    def test_free_is_0_in_states_without_messages(self, role: Role) -> None:
        flowing = {SessionState.BOUND_TRX, SessionState.BOUND_TX if role is Role.ESME else SessionState.BOUND_RX}
        assert {state for state in SessionState if in_state(role, state).free} == flowing


class TestWindow:
    def test_it_bounds_what_is_outstanding(self) -> None:
        session = esme(window=3)
        numbers = [submit(session, n) for n in range(3)]
        assert numbers == [2, 3, 4]
        assert (session.free, session.outstanding) == (0, 3)
        with pytest.raises(LocalError):
            session.request(SUBMIT_SM, BODY, 3, 0)
        session.receive(pdu(SUBMIT_SM_RESP, 3, b"id\0"), 0)
        assert (session.free, session.outstanding) == (1, 2)
        assert submit(session) == 5

    def test_a_request_that_is_too_long(self) -> None:
        session = esme(max_pdu=100)
        with pytest.raises(LocalError):
            session.request(SUBMIT_SM, b"x" * 85, 1, 0)
        assert session.outstanding == 0

    def test_sequence_numbers_wrap_and_skip_outstanding_ones(self) -> None:
        session = esme(first_sequence=MAX_SEQUENCE - 2)
        assert [submit(session, n) for n in range(3)] == [MAX_SEQUENCE - 1, MAX_SEQUENCE, 1]
        session._next = MAX_SEQUENCE - 1
        assert submit(session) == 2
        session.tick(30)
        (enquire,) = sent(session)
        assert enquire.sequence == 3
        session._next = 1
        assert submit(session) == 4
        session._next = 3
        assert submit(session) == 5

    def test_an_enquire_link_may_have_the_last_number(self) -> None:
        session = esme(first_sequence=MAX_SEQUENCE - 1)
        session.tick(30)
        assert headers(session) == [(ENQUIRE_LINK, 0, MAX_SEQUENCE)]
        assert submit(session) == 1

    @pytest.mark.parametrize("first", [0, -1, MAX_SEQUENCE + 1])
    def test_the_first_number_must_be_one(self, first: int) -> None:
        with pytest.raises(LocalError):
            Session(Role.ESME, first_sequence=first)

    def test_any_sequence_number_of_the_peer_is_echoed(self) -> None:
        session = esme()
        session.request(SUBMIT_SM, BODY, 1, 0)
        session.output()
        for sequence in (0, 2, MAX_SEQUENCE, 0x80000000, 0xFFFFFFFF):
            (event,) = session.receive(pdu(DELIVER_SM, sequence, BODY), 0)
            assert isinstance(event, MessageReceived)
            session.respond(DELIVER_SM, event.message.sequence, 0)
            assert session.output() == pdu(DELIVER_SM_RESP, sequence, b"\0")
        assert session.outstanding == 1


class TestAnswers:
    @pytest.mark.parametrize(
        ("status", "body", "message_id"),
        [(0, b"a1\0", b"a1"), (0, b"\0", b""), (0, b"", b""), (8, b"", b""), (8, b"a1\0", b"a1"), (0xFFFF, b"", b"")],
    )
    def test_with_or_without_a_body(self, status: int, body: bytes, message_id: bytes) -> None:
        session = esme()
        context = object()
        sequence = submit(session, context)
        assert session.receive(pdu(SUBMIT_SM_RESP, sequence, body, status), 1) == [
            Answered(context, status, message_id, False)
        ]
        assert session.salvaged == 0

    def test_responses_match_their_requests_in_any_order(self) -> None:
        session = esme()
        numbers = [submit(session, n) for n in range(3)]
        stream = b"".join(pdu(SUBMIT_SM_RESP, number, b"%d\0" % number) for number in reversed(numbers))
        assert [event.context for event in session.receive(stream, 1) if isinstance(event, Answered)] == [2, 1, 0]

    def test_an_unknown_sequence_number_is_ignored(self) -> None:
        session = esme()
        sequence = submit(session)
        for stray in (sequence + 1, 0, 0xFFFFFFFF):
            assert session.receive(pdu(SUBMIT_SM_RESP, stray, b"a\0"), 1) == []
        assert kinds(session.receive(pdu(SUBMIT_SM_RESP, sequence, b"a\0") * 2, 1)) == ["Answered"]
        assert session.ignored_answers == 4
        assert session.output() == b""

    def test_a_response_of_another_command_is_ignored(self) -> None:
        session = esme()
        sequence = submit(session)
        stream = pdu(DATA_SM_RESP, sequence, b"a\0") + pdu(UNBIND_RESP, sequence) + pdu(QUERY_SM_RESP, sequence)
        assert session.receive(stream, 1) == []
        assert session.mismatched == 3
        assert session.outstanding == 1
        assert kinds(session.receive(pdu(SUBMIT_SM_RESP, sequence), 1)) == ["Answered"]

    @pytest.mark.parametrize(("status", "reported"), [(3, 3), (0, CommandStatus.ESME_RUNKNOWNERR)])
    def test_generic_nack_answers_the_request_of_its_number(self, status: int, reported: int) -> None:
        session = esme()
        sequence = submit(session)
        assert session.receive(pdu(GENERIC_NACK, sequence, b"", status), 1) == [
            Answered("context", reported, b"", False)
        ]
        assert session.receive(pdu(GENERIC_NACK, sequence, b"", status), 1) == []
        assert session.ignored_answers == 1
        assert session.bound

    def test_generic_nack_without_a_number_means_that_framing_is_lost(self) -> None:
        session = esme()
        submit(session, "a")
        assert session.receive(pdu(GENERIC_NACK, 0, b"", 2), 1) == [
            Closed("generic_nack ESME_RINVCMDLEN without a sequence number", ["a"])
        ]
        assert session.framing_faults == 1
        assert session.output() == b""

    def test_query_sm_and_submit_multi_responses_are_reported_whole(self) -> None:
        session = esme()
        query = session.request(QUERY_SM, b"", "q", 0)
        multi = session.request(SUBMIT_MULTI, b"", "m", 0)
        cancel = session.request(CANCEL_SM, b"", "c", 0)
        replace = session.request(REPLACE_SM, b"", "r", 0)
        session.output()
        (reply,) = session.receive(pdu(QUERY_SM_RESP, query, b"id\0\0\x02\x00"), 31)
        assert isinstance(reply, OperationAnswered)
        assert (reply.context, reply.late, reply.pdu.fields["message_state"]) == ("q", True, 2)
        (reply,) = session.receive(pdu(SUBMIT_MULTI_RESP, multi, b"id\0\x01broken"), 1)
        assert isinstance(reply, OperationAnswered)
        assert (reply.context, reply.late, reply.pdu.fields) == ("m", False, {"message_id": b"id"})
        assert session.salvaged == 1
        assert session.receive(pdu(CANCEL_SM_RESP, cancel, b"", 0x11), 1) == [Answered("c", 0x11, b"", False)]
        assert session.receive(pdu(GENERIC_NACK, replace, b"", 3), 1) == [Answered("r", 3, b"", False)]
        assert session.receive(pdu(CANCEL_SM_RESP, cancel), 1) == []
        assert session.ignored_answers == 1

    def test_tlvs_after_the_id(self) -> None:
        session = esme()
        sequence = submit(session)
        body = b"a1\0" + encode_tlv(0x1400, b"?") + encode_tlv(CONGESTION_STATE, b"\x50")
        assert session.congestion is None
        assert session.receive(pdu(SUBMIT_SM_RESP, sequence, body), 1) == [Answered("context", 0, b"a1", False)]
        assert session.congestion == 80
        assert session.salvaged == 0
        sequence = submit(session)
        assert session.receive(pdu(SUBMIT_SM_RESP, sequence, body[:-1]), 1) == [Answered("context", 0, b"a1", False)]
        assert session.salvaged == 1

    @pytest.mark.parametrize("end", [b"\0", b"", b"\0" + encode_tlv(0x1400, b"?")])
    def test_an_id_longer_than_its_field_is_cut_marked_and_still_one_id(self, end: bytes) -> None:
        session = esme()
        found = []
        for long in (b"A" * 300, b"A" * 300, b"A" * 299 + b"B", b"A" * 65):
            (answer,) = session.receive(pdu(SUBMIT_SM_RESP, submit(session), long + end), 1)
            assert isinstance(answer, Answered)
            found.append(answer.message_id)
        assert session.salvaged == 4
        assert {len(one) for one in found} == {64}
        assert all(one.startswith(b"A" * 47 + b"~") for one in found)
        assert found[0] == found[1]
        assert len(set(found)) == 3

    def test_an_id_of_the_size_of_its_field_is_kept_whole(self) -> None:
        session = esme()
        (answer,) = session.receive(pdu(SUBMIT_SM_RESP, submit(session), b"A" * 64 + b"\0"), 1)
        assert answer == Answered("context", 0, b"A" * 64, False)
        assert session.salvaged == 0

    @pytest.mark.parametrize(
        "body",
        [
            encode_tlv(CONGESTION_STATE, b"\x05"),
            encode_tlv(CONGESTION_STATE, b"\x05") + encode_tlv(0x1400, b"abc\0"),
            encode_tlv(0x001D, b"text\0") + encode_tlv(CONGESTION_STATE, b"\x05"),
            encode_tlv(0x1401, b"x" * 300) + encode_tlv(CONGESTION_STATE, b"\x05"),
        ],
    )
    def test_tlvs_alone_are_no_id(self, body: bytes) -> None:
        session = esme()
        sequence = submit(session)
        assert session.receive(pdu(SUBMIT_SM_RESP, sequence, body), 1) == [Answered("context", 0, b"", False)]
        assert session.congestion == 5

    def test_a_truncated_tlv_is_no_id(self) -> None:
        session = esme()
        assert session.receive(pdu(SUBMIT_SM_RESP, submit(session), b"\x04\x28\0\x01"), 1) == [
            Answered("context", 0, b"", False)
        ]
        assert session.salvaged == 1

    @pytest.mark.parametrize("body", [b"a1", b"a1\0\0", b"a1\0x"])
    def test_an_id_without_its_end_or_with_a_stray_octet_behind_it_is_read(self, body: bytes) -> None:
        session = esme()
        next_one = pdu(ENQUIRE_LINK, 0)  # octets with NULs right behind it
        assert session.receive(pdu(SUBMIT_SM_RESP, submit(session), body) + next_one, 1) == [
            Answered("context", 0, b"a1", False)
        ]
        assert session.salvaged == 1


class TestTimeouts:
    def test_a_late_response_is_reported(self) -> None:
        session = esme(response_timeout=30, late_grace=5, enquire_interval=0)
        sequence = submit(session, now=100)
        assert session.tick(130.1) == []
        assert session.receive(pdu(SUBMIT_SM_RESP, sequence, b"a\0"), 134) == [Answered("context", 0, b"a", True)]
        assert session.late_answers == 1
        assert session.tick(200) == []

    def test_after_the_grace_it_is_unknown_oldest_first(self) -> None:
        session = esme(response_timeout=30, late_grace=5, enquire_interval=0)
        numbers = [submit(session, n, now=100 + n) for n in range(4)]
        session.receive(pdu(SUBMIT_SM_RESP, numbers[1]), 110)
        assert session.tick(134.9) == []
        assert session.tick(137) == [TimedOut([0, 2])]
        assert (session.outstanding, session.timed_out) == (1, 2)
        assert session.tick(138) == [TimedOut([3])]
        assert session.ignored_answers == 0

    @pytest.mark.parametrize(
        ("answer", "status", "body", "message_id"),
        [(SUBMIT_SM_RESP, 0, b"a\0", b"a"), (SUBMIT_SM_RESP, 8, b"", b""), (GENERIC_NACK, 3, b"", b"")],
    )
    def test_an_answer_after_giving_up_is_a_late_one(
        self, answer: int, status: int, body: bytes, message_id: bytes
    ) -> None:
        session = esme(response_timeout=2, late_grace=5, enquire_interval=0)
        sequence = submit(session, "a", now=100)
        assert session.tick(107) == [TimedOut(["a"])]
        assert (session.free, session.given_up) == (100, 1)
        late = Answered("a", status, message_id, True)
        assert session.receive(pdu(answer, sequence, body, status), 109) == [late]
        assert session.receive(pdu(answer, sequence, body, status), 110) == []
        assert (session.late_answers, session.timed_out, session.ignored_answers, session.given_up) == (1, 1, 1, 0)

    def test_a_response_of_another_command_after_the_timeout_is_ignored(self) -> None:
        session = esme(response_timeout=2, enquire_interval=0)
        query = session.request(QUERY_SM, b"", "q", 0)
        sequence = submit(session, "a", now=0)
        session.tick(7)
        assert session.receive(pdu(DATA_SM_RESP, sequence) + pdu(CANCEL_SM_RESP, sequence), 8) == []
        assert session.mismatched == 2
        assert kinds(session.receive(pdu(QUERY_SM_RESP, query, b"id\0\0\x02\x00"), 9)) == ["OperationAnswered"]

    def test_at_most_a_window_of_timed_out_requests_is_kept(self) -> None:
        session = esme(window=3, response_timeout=2, enquire_interval=0)
        numbers = []
        for now in (0, 10, 20):
            numbers += [submit(session, (now, n), now=now) for n in range(2)]
            session.tick(now + 9)
        assert session.given_up == 3
        stream = b"".join(pdu(SUBMIT_SM_RESP, number, b"a\0") for number in numbers)
        found = [event.context for event in session.receive(stream, 30) if isinstance(event, Answered)]
        assert found == [(10, 1), (20, 0), (20, 1)]
        assert session.ignored_answers == 3

    def test_sequence_numbers_of_timed_out_requests_are_not_reused(self) -> None:
        session = esme(response_timeout=2, enquire_interval=0)
        sequence = submit(session, "a", now=0)
        session.tick(7)
        session._next = sequence
        assert submit(session, "b", now=8) == sequence + 1
        session._next = sequence
        session.unbind(9)
        assert headers(session) == [(UNBIND, 0, sequence + 2)]

    def test_timed_out_requests_are_not_reported_again_at_the_end(self) -> None:
        session = esme(response_timeout=2, enquire_interval=0)
        submit(session, "a", now=0)
        session.tick(7)
        submit(session, "b", now=7)
        assert session.close("lost") == [Closed("lost", ["b"])]
        assert session.given_up == 0

    def test_a_slow_peer_gets_a_longer_timeout(self) -> None:
        session = esme(response_timeout=2, late_grace=5, enquire_interval=0)
        sequence = submit(session, "a", now=100)
        session.tick(107)
        session.receive(pdu(SUBMIT_SM_RESP, sequence), 109)
        submit(session, "b", now=110)
        assert 13.5 <= session.times.timeout(110) <= 13.5 * 1.15
        assert session.tick(110 + 18) == []
        assert session.tick(110 + 21) == [TimedOut(["b"])]

    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_every_request_ends_once(self, data: st.DataObject) -> None:
        session = esme(window=5, first_sequence=MAX_SEQUENCE - 3, enquire_interval=7, enquire_timeout=1000)
        made, now = 0, 0.0
        ended: list[object] = []
        awaited: list[int] = []
        for _ in range(data.draw(st.integers(0, 40))):
            now += data.draw(st.sampled_from((0, 0, 1, 20)))
            events: list[Event] = []
            step = data.draw(st.sampled_from(("submit", "submit", "answer", "nack", "tick")))
            if step == "submit" and session.free:
                number = submit(session, made, now)
                assert number not in session._control
                awaited.append(number)
                made += 1
            elif step == "tick":
                events = session.tick(now)
                session.output()
            elif awaited:
                number = data.draw(st.sampled_from(awaited))
                events = session.receive(
                    pdu(SUBMIT_SM_RESP if step == "answer" else GENERIC_NACK, number, status=8), now
                )
            late = [event for event in events if isinstance(event, Answered) and event.context in ended]
            assert all(event.late for event in late)
            ended += ends([event for event in events if event not in late])
            assert session.outstanding == made - len(ended)
        ended += ends(session.close("over"))
        assert len(ended) == made
        assert set(ended) == set(range(made))

    def test_a_closed_session_reports_its_outstanding_requests(self) -> None:
        session = esme()
        for n in range(3):
            submit(session, n)
        assert session.close("connection lost") == [Closed("connection lost", [0, 1, 2])]
        assert session.close("again") == []
        assert session.outstanding == 0


def ends(events: list[Event]) -> list[object]:
    """The contexts of the requests that these events end."""
    found: list[object] = []
    for event in events:
        if isinstance(event, Answered):
            found.append(event.context)
        elif isinstance(event, TimedOut | Closed):
            found += event.contexts
    return found


class TestKeepAlive:
    def test_a_silent_peer_gets_enquire_link(self) -> None:
        session = esme(enquire_interval=30)
        session.tick(0)
        session.receive(pdu(ENQUIRE_LINK), 10)
        session.output()
        assert session.tick(39.9) == []
        assert session.output() == b""
        session.tick(40)
        assert session.output() == pdu(ENQUIRE_LINK, 2)
        session.tick(41)
        assert session.output() == b""
        assert session.receive(pdu(ENQUIRE_LINK_RESP, 2), 42) == []
        session.tick(71)
        assert session.output() == b""
        session.tick(72)
        assert session.output() == pdu(ENQUIRE_LINK, 3)

    def test_a_peer_silent_for_30_seconds_gets_two_enquire_links_before_the_end(self) -> None:
        session = esme(enquire_interval=30, enquire_timeout=10)
        submit(session, "a", now=25)
        assert session.tick(30) == []
        assert session.tick(39) == []
        assert session.tick(40) == []
        assert headers(session) == [(ENQUIRE_LINK, 0, 3), (ENQUIRE_LINK, 0, 4)]
        assert "missed 1" in repr(session)
        assert session.tick(43.9) == []
        assert session.tick(44) == [Closed("nothing heard for 44 s", ["a"])]
        assert session.enquires_missed == 2

    def test_two_misses_are_the_end(self) -> None:
        session = esme(enquire_interval=10, enquire_timeout=10)
        for now in (10, 20, 29.9):
            assert session.tick(now) == []
        assert session.tick(30) == [Closed("no response to enquire_link", [])]
        assert session.enquires_missed == 2

    @given(st.floats(0.1, 30), st.floats(0.1, 1), st.booleans(), st.floats(0.1, 60))
    @settings(deadline=None)
    def test_a_peer_that_falls_silent_is_known_within_45_seconds(
        self, interval: float, step: float, busy: bool, timeout: float
    ) -> None:
        session = esme(enquire_interval=interval, response_timeout=timeout)
        session.receive(pdu(ENQUIRE_LINK), 100)
        if busy:
            submit(session, "a", now=100)
        now = 100.0
        while session.state is not SessionState.CLOSED:
            now += step
            session.tick(now)
        assert now - 100 <= 45

    def test_a_silent_peer_with_a_waiting_submit_gets_enquire_link_at_once(self) -> None:
        session = esme(enquire_interval=30, response_timeout=5)
        session.receive(pdu(ENQUIRE_LINK), 99)
        submit(session, "a", now=100)
        session.tick(104.9)
        assert session.output() == b""
        session.tick(105)
        assert headers(session) == [(ENQUIRE_LINK, 0, 3)]

    def test_a_peer_that_sends_anything_gets_no_enquire_link_for_a_waiting_submit(self) -> None:
        session = esme(enquire_interval=30, response_timeout=5)
        submit(session, "a", now=100)
        session.receive(pdu(ENQUIRE_LINK), 101)
        session.output()
        session.tick(106)
        assert session.output() == b""

    @pytest.mark.parametrize(
        "sign", [pdu(ENQUIRE_LINK_RESP, 2), pdu(DELIVER_SM, 9, BODY), pdu(GENERIC_NACK, 2, status=3)]
    )
    def test_any_whole_pdu_is_a_sign_of_life(self, sign: bytes) -> None:
        session = esme(enquire_interval=30, enquire_timeout=10)
        session.tick(30)
        session.tick(40)
        session.receive(sign[:-1], 45)
        session.receive(sign[-1:], 49)
        assert session.tick(50) == []
        assert session.tick(78) == []
        for now in (79, 89, 92):  # asked, missed and asked again, not yet silent for too long
            assert session.tick(now) == []
        assert kinds(session.tick(93)) == ["Closed"]

    def test_incomplete_pdus_are_no_sign_of_life(self) -> None:
        session = esme(enquire_interval=30, enquire_timeout=10)
        for now in range(44):
            session.receive(b"\0" if now < 2 else b"\1" if now == 2 else b"x", now)
            assert session.tick(now) == []
        assert kinds(session.tick(44)) == ["Closed"]

    def test_never_when_switched_off(self) -> None:
        session = esme(enquire_interval=0)
        assert session.tick(10_000) == []
        assert session.output() == b""

    def test_unanswered_ones_do_not_pile_up(self) -> None:
        session = esme(enquire_interval=1, enquire_timeout=1)
        for now in range(1, 100):
            session.receive(pdu(DELIVER_SM, now, BODY), now - 0.9999)
            session.tick(now + 0.5)
        assert len(session._control) <= 1

    def test_the_peers_is_answered_at_once_even_when_the_window_is_full(self) -> None:
        session = esme(window=1)
        submit(session)
        assert session.receive(pdu(ENQUIRE_LINK, 0xFFFFFFF0), 1) == []
        assert session.output() == pdu(ENQUIRE_LINK_RESP, 0xFFFFFFF0)


class TestSilence:
    """When a peer that lives does not answer what it is asked to do."""

    def test_nothing_out_is_no_silence(self) -> None:
        session = esme()
        assert session.silent_since() is None

    def test_it_begins_with_the_first_request_that_no_answer_followed(self) -> None:
        session = esme()
        lost, answered = submit(session, now=10), submit(session, now=11)
        assert session.silent_since() == 10
        session.receive(pdu(SUBMIT_SM_RESP, answered), 13)
        assert session.silent_since() is None  # one answer that is lost is no silence
        submit(session, now=20)
        submit(session, now=21)
        assert session.silent_since() == 20
        session.receive(pdu(SUBMIT_SM_RESP, lost), 23)
        assert session.silent_since() is None

    @pytest.mark.parametrize("sign", [pdu(ENQUIRE_LINK), pdu(DELIVER_SM, 9, BODY), pdu(SUBMIT_SM_RESP, 77)])
    def test_other_pdus_do_not_end_the_silence(self, sign: bytes) -> None:
        session = esme()
        submit(session, now=10)
        session.receive(sign, 13)
        assert session.silent_since() == 10

    def test_an_answer_after_giving_up_ends_it(self) -> None:
        session = esme(response_timeout=2, enquire_interval=0)
        sequence = submit(session, now=10)
        session.tick(17)
        submit(session, now=17)
        assert session.silent_since() == 17
        session.receive(pdu(SUBMIT_SM_RESP, sequence), 19)
        assert session.silent_since() is None


class TestTurns:
    """One call reads no more than ``turn`` allows."""

    def test_the_rest_waits_for_the_next_call(self) -> None:
        session = esme(turn=64)
        stream = b"".join(pdu(ENQUIRE_LINK, n) for n in range(10))
        assert session.receive(stream, 1) == []
        assert len(headers(session)) == 4
        assert session.more
        session.receive(stream[:20], 1)
        assert len(headers(session)) == 4
        session.receive(b"", 1)
        assert len(headers(session)) == 3
        assert not session.more
        session.receive(stream[20:], 1)
        session.receive(b"", 1)
        session.receive(b"", 1)
        assert len(headers(session)) == 9
        assert not session.more

    def test_a_long_pdu_is_read_whole(self) -> None:
        session = esme(turn=64)
        session.receive(pdu(DELIVER_SM, 1, BODY + encode_tlv(MESSAGE_PAYLOAD, b"x" * 60_000)) + pdu(ENQUIRE_LINK), 1)
        assert (session.unanswered, session.more) == (1, True)

    def test_what_is_buffered_has_been_heard(self) -> None:
        session = esme(turn=16, enquire_interval=10)
        session.receive(pdu(ENQUIRE_LINK) * 3, 1)
        session.receive(b"", 11)
        session.output()
        session.tick(12)
        assert session.output() == b""

    @given(st.lists(pdus(), max_size=8), st.integers(1, 200), st.data())
    @settings(max_examples=100, deadline=None)
    def test_any_turn_gives_the_same_events(self, found: list[Pdu], turn: int, data: st.DataObject) -> None:
        stream = b"".join(encode(one) for one in found) + data.draw(st.binary(max_size=20))
        at = data.draw(st.integers(0, len(stream)))
        expected = feed(esme(), [stream])
        assert feed(esme(turn=turn), [stream[:at], stream[at:]]) == expected

    def test_after_the_end_nothing_more_is_read(self) -> None:
        session = esme(turn=16)
        assert kinds(session.receive(pdu(ENQUIRE_LINK) + b"\xff" * 4 + pdu(ENQUIRE_LINK), 1)) == ["Closed"]
        assert session.receive(b"", 1) == []
        assert not session.more
        assert session.state is SessionState.CLOSED


class TestRequestsOfThePeer:
    @pytest.mark.parametrize("make", [esme, smsc])
    def test_data_sm_flows_both_ways(self, make: object) -> None:
        session = make()  # type: ignore[operator]
        body = encode_body(DATA_SM, {"destination_addr": b"461"}, [(MESSAGE_PAYLOAD, b"hi")])
        (event,) = session.receive(pdu(DATA_SM, 5, body), 1)
        assert event.message.payload == b"hi"
        session.respond(DATA_SM, 5, 0, b"id\0")
        assert session.output() == pdu(DATA_SM_RESP, 5, b"id\0")

    def test_answers_wait_as_long_as_they_must(self) -> None:
        session = smsc()
        events = session.receive(pdu(SUBMIT_SM, 5, BODY) + pdu(SUBMIT_SM, 6, BODY), 1)
        assert kinds(events) == ["MessageReceived", "MessageReceived"]
        assert session.output() == b""
        assert session.unanswered == 2
        session.respond(SUBMIT_SM, 6, 0, b"id6\0")
        session.respond(SUBMIT_SM, 5, CommandStatus.ESME_RSYSERR)
        assert session.output() == pdu(SUBMIT_SM_RESP, 6, b"id6\0") + pdu(SUBMIT_SM_RESP, 5, status=8)
        assert session.unanswered == 0

    @pytest.mark.parametrize(
        ("command_id", "status", "body"),
        [
            (DELIVER_SM, 0, b"\0"),
            (DELIVER_SM, 8, b"\0"),
            (DATA_SM, 0, b"\0"),
            (SUBMIT_SM, 0, b"\0"),
            (SUBMIT_SM, 8, b""),
            (CANCEL_SM, 0, b""),
        ],
    )
    def test_an_empty_response_gets_an_empty_message_id(self, command_id: int, status: int, body: bytes) -> None:
        session = esme()
        session.respond(command_id, 5, status)
        assert session.output() == pdu(command_id | RESP, 5, body, status)

    def test_a_body_of_an_answer_is_kept(self) -> None:
        session = esme()
        session.respond(DELIVER_SM, 5, 0, b"id\0")
        assert session.output() == pdu(DELIVER_SM_RESP, 5, b"id\0")

    def test_an_answer_after_the_end_is_counted(self) -> None:
        session = smsc()
        session.receive(pdu(SUBMIT_SM, 5, BODY), 1)
        session.close("lost")
        session.respond(SUBMIT_SM, 5, 0, b"id\0")
        assert session.output() == b""
        assert session.unsent_answers == 1

    def test_operations(self) -> None:
        session = smsc()
        for command_id in (QUERY_SM, CANCEL_SM, REPLACE_SM, SUBMIT_MULTI):
            (event,) = session.receive(encode(Pdu(command_id, 0, 5)), 1)
            assert isinstance(event, OperationReceived)
            assert event.pdu.command_id == command_id
        assert session.unanswered == 4
        assert session.output() == b""

    def test_an_alert_needs_no_answer(self) -> None:
        session = esme()
        assert kinds(session.receive(encode(Pdu(ALERT_NOTIFICATION, 0, 5)), 1)) == ["OperationReceived"]
        assert session.receive(pdu(ALERT_NOTIFICATION, 6, b"x"), 1) == []
        assert (session.unanswered, session.malformed) == (0, 1)
        assert session.output() == b""

    def test_outbind_is_reported_and_refused(self) -> None:
        session = Session(Role.ESME)
        assert kinds(session.receive(encode(Pdu(OUTBIND, 0, 5)), 1)) == ["OperationReceived"]
        assert headers(session) == [(GENERIC_NACK, CommandStatus.ESME_RINVCMDID, 5)]
        assert session.unanswered == 0

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b"A" * 64, CommandStatus.ESME_RINVCMDLEN),
            (b"", CommandStatus.ESME_RINVCMDLEN),
            (BODY[:-2] + b"\xc8", CommandStatus.ESME_RINVMSGLEN),
            (BODY + b"\x04\x24\xff\xffzz", CommandStatus.ESME_RINVTLVSTREAM),
            (BODY + b"\x04", CommandStatus.ESME_RINVTLVSTREAM),
            (BODY + encode_tlv(MESSAGE_PAYLOAD, b"xyz"), CommandStatus.ESME_RTLVNOTALLWD),
            (BODY[:-3] + b"\xff" + b"x" * 255, CommandStatus.ESME_RINVMSGLEN),
        ],
    )
    def test_a_malformed_submit_is_refused_and_the_session_stays(self, body: bytes, status: int) -> None:
        session = smsc()
        assert session.receive(pdu(SUBMIT_SM, 5, body), 1) == []
        assert headers(session) == [(SUBMIT_SM_RESP, status, 5)]
        assert session.bound
        assert (session.malformed, session.unanswered) == (1, 0)

    @pytest.mark.parametrize("body", [BODY + encode_tlv(MESSAGE_PAYLOAD, b"x"), BODY[:-3] + b"\xff" + b"x" * 255])
    def test_a_carrier_may_deliver_what_no_client_may_submit(self, body: bytes) -> None:
        assert kinds(esme().receive(pdu(DELIVER_SM, 5, body), 1)) == ["MessageReceived"]

    def test_unknown_tlvs_pass_through(self) -> None:
        (event,) = smsc().receive(pdu(SUBMIT_SM, 5, BODY + encode_tlv(0x1499, b"abc")), 1)
        assert isinstance(event, MessageReceived)
        assert event.message.tlvs == {0x1499: b"abc"}

    def test_beyond_the_inbound_window_they_are_throttled(self) -> None:
        session = smsc(inbound_window=2)
        assert (
            kinds(session.receive(b"".join(pdu(SUBMIT_SM, n, BODY) for n in (5, 6, 7)), 1)) == ["MessageReceived"] * 2
        )
        assert headers(session) == [(SUBMIT_SM_RESP, CommandStatus.ESME_RTHROTTLED, 7)]
        session.respond(SUBMIT_SM, 5, 0, b"id\0")
        assert kinds(session.receive(pdu(SUBMIT_SM, 8, BODY), 1)) == ["MessageReceived"]
        assert session.throttled == 1

    def test_what_brings_neither_a_message_nor_an_awaited_answer_is_counted_as_idle(self) -> None:
        session = esme()
        sequence = submit(session)
        for octets in (
            pdu(ENQUIRE_LINK, 5),
            pdu(SUBMIT_SM_RESP, 999, b"id\0"),
            pdu(GENERIC_NACK, 998, b"", 3),
            pdu(0x0F0F, 5),
            pdu(0x80000F0F, 5),
            pdu(SUBMIT_SM, 5, BODY),
            pdu(DELIVER_SM, 5, b"\0" * 3),
            pdu(ALERT_NOTIFICATION, 5, b"\0\0\0\0\0\0"),
        ):
            before = session.idle
            session.receive(octets, 1)
            assert session.idle == before + 1, octets
        before = session.idle
        session.receive(pdu(DELIVER_SM, 6, BODY) + pdu(SUBMIT_SM_RESP, sequence, b"id\0"), 1)
        assert session.idle == before

    def test_unknown_commands(self) -> None:
        session = smsc()
        assert session.receive(pdu(0x0F0F, 9, b"abc") + pdu(0x80000F0F, 9, b"abc") + pdu(ENQUIRE_LINK, 10), 1) == []
        assert headers(session) == [(GENERIC_NACK, CommandStatus.ESME_RINVCMDID, 9), (ENQUIRE_LINK_RESP, 0, 10)]
        assert session.unknown_commands == 2


class TestFraming:
    @pytest.mark.parametrize("length", [0, 4, 15, MAX_PDU + 1, 0x80000000, 0xFFFFFFFF])
    def test_a_length_that_no_pdu_has_is_known_by_four_octets(self, length: int) -> None:
        for before in (b"", pdu(ENQUIRE_LINK, 5)):
            session = smsc()
            session.request(DELIVER_SM, BODY, "a", 0)
            session.output()
            data = before + length.to_bytes(4, "big")
            assert session.receive(data[:-1], 1) == []
            assert session.receive(data[-1:], 1) == [Closed(f"command_length {length}", ["a"])]
            assert headers(session)[-1] == (GENERIC_NACK, CommandStatus.ESME_RINVCMDLEN, 0)
            assert session.framing_faults == 1
            assert session.receive(pdu(ENQUIRE_LINK), 1) == []
            assert session.output() == b""

    def test_a_message_payload_of_64_kib_fits(self) -> None:
        session = esme()
        payload = encode_tlv(MESSAGE_PAYLOAD, b"x" * 0xFFFF)
        times = b"261121235959000+"
        full = encode_sm(b"s" * 20, b"d" * 20, b"", service_type=b"12345", schedule=times, validity=times, tlvs=payload)
        others = encode_tlv(0x001E, b"1" * 64 + b"\0") + encode_tlv(0x1400, b"?" * 4000)
        for body in (encode_sm(b"1", b"2", b"", tlvs=payload), full + others):
            (event,) = session.receive(pdu(DELIVER_SM, 5, body), 1)
            assert isinstance(event, MessageReceived)
            assert len(event.message.payload) == 0xFFFF
        assert session.bound

    def test_the_longest_pdu(self) -> None:
        session = smsc(max_pdu=1024)
        assert session.receive(pdu(0x0F0F, 1, bytes(1008)), 1) == []
        assert kinds(session.receive(pdu(0x0F0F, 1, bytes(1009)), 1)) == ["Closed"]

    @given(st.lists(pdus(), max_size=6), st.data())
    @settings(max_examples=150, deadline=None)
    def test_any_chunking_gives_the_same_events(self, found: list[Pdu], data: st.DataObject) -> None:
        stream = b"".join(encode(one) for one in found) + data.draw(st.binary(max_size=20))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
        role, state = data.draw(st.sampled_from(READING_STATES))
        whole, pieces = in_state(role, state), in_state(role, state)
        expected = feed(whole, [stream])
        assert feed(pieces, [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]) == expected
        assert repr(pieces) == repr(whole)
        assert feed(in_state(role, state), [bytes((octet,)) for octet in stream]) == expected

    @given(st.lists(st.one_of(st.binary(max_size=64), pdus().map(encode)), max_size=8), st.sampled_from(READING_STATES))
    @settings(max_examples=150, deadline=None)
    def test_garbage_raises_nothing(self, chunks: list[bytes], where: tuple[Role, SessionState]) -> None:
        session = in_state(*where)
        for now, chunk in enumerate(chunks):
            session.receive(chunk, now)
            session.tick(now)
        assert (session.state is SessionState.CLOSED) == (session.close("over") == [])

    @given(st.sampled_from(sorted(LAYOUTS)), st.binary(max_size=60), st.integers(0, 2**32 - 1), st.integers(0, 9))
    @settings(max_examples=300, deadline=None)
    def test_a_bad_body_never_ends_a_session(self, command_id: int, body: bytes, status: int, sequence: int) -> None:
        for make in (esme, smsc):
            session = make()
            events = session.receive(pdu(command_id, sequence, body, status), 1)
            ends = (command_id, sequence) == (GENERIC_NACK, 0) or command_id == UNBIND
            assert ends or session.bound
            assert all(not isinstance(event, Closed) for event in events) or ends


def feed(session: Session, chunks: list[bytes]) -> list[str]:
    """The events of these chunks as text, a bind accepted as soon as it is asked for."""
    found = []
    for chunk in chunks:
        events: list[Event] = session.receive(chunk, 1)
        while events or session.more:
            found += [describe(event) for event in events]
            asked = bool(events) and isinstance(events[-1], BindRequested)
            events = session.accept_bind(now=1) if asked else session.receive(b"", 1) if session.more else []
    return found


def describe(event: Event) -> str:
    return repr(event.pdu.fields) if isinstance(event, OperationReceived | OperationAnswered) else repr(event)


class TestUnbind:
    def test_ours(self) -> None:
        session = esme()
        submit(session, "a")
        session.unbind(10)
        assert headers(session) == [(UNBIND, 0, 3)]
        assert (session.bound, session.free) == (False, 0)
        stream = pdu(DELIVER_SM, 9, BODY) + pdu(SUBMIT_SM_RESP, 2, b"id\0") + pdu(UNBIND_RESP, 3)
        assert kinds(session.receive(stream, 11)) == ["MessageReceived", "Answered", "Closed"]

    def test_ours_with_the_window_open(self) -> None:
        session = esme()
        submit(session, "a")
        session.unbind(10)
        assert session.receive(pdu(UNBIND_RESP, 3), 11) == [Closed("unbound", ["a"])]

    def test_ours_without_an_answer(self) -> None:
        session = esme()
        session.unbind(10)
        assert session.tick(14.9) == []
        assert session.tick(15) == [Closed("no response to unbind", [])]

    @pytest.mark.parametrize("state", [state for state in SessionState if not state.value.startswith("bound")])
    def test_ours_when_not_bound_is_nothing(self, state: SessionState) -> None:
        session = in_state(Role.ESME, state)
        session.unbind(1)
        assert session.output() == b""
        assert session.state is state

    def test_the_peers_with_nothing_outstanding(self) -> None:
        session = esme()
        assert session.receive(pdu(UNBIND, 8), 1) == [Unbinding(), Closed("unbound by the peer", [])]
        assert headers(session) == [(UNBIND_RESP, 0, 8)]

    def test_the_peers_waits_for_late_answers(self) -> None:
        session = esme()
        numbers = [submit(session, n) for n in range(2)]
        assert session.receive(pdu(UNBIND, 8), 1) == [Unbinding()]
        assert (session.bound, session.free) == (False, 0)
        assert headers(session) == [(UNBIND_RESP, 0, 8)]
        assert kinds(session.receive(pdu(SUBMIT_SM_RESP, numbers[1], b"id\0"), 2)) == ["Answered"]
        assert kinds(session.receive(pdu(SUBMIT_SM_RESP, numbers[0], b"id\0"), 2)) == ["Answered", "Closed"]

    def test_the_peers_waits_five_seconds_at_most(self) -> None:
        session = esme()
        submit(session, "a")
        session.receive(pdu(UNBIND, 8), 1)
        assert session.tick(5.9) == []
        assert session.tick(6) == [Closed("unbound by the peer", ["a"])]

    def test_the_peers_waits_for_our_answers_too(self) -> None:
        session = smsc()
        session.receive(pdu(SUBMIT_SM, 7, BODY) + pdu(UNBIND, 8) + pdu(SUBMIT_SM, 9, BODY), 1)
        assert headers(session) == [(UNBIND_RESP, 0, 8), (SUBMIT_SM_RESP, CommandStatus.ESME_RINVBNDSTS, 9)]
        assert session.tick(2) == []
        session.respond(SUBMIT_SM, 7, 0, b"id\0")
        assert headers(session) == [(SUBMIT_SM_RESP, 0, 7)]
        assert kinds(session.tick(2)) == ["Closed"]

    def test_crossing_unbinds_end_the_session(self) -> None:
        session = esme()
        session.unbind(1)
        session.output()
        assert session.receive(pdu(UNBIND, 8), 1) == []
        assert headers(session) == [(UNBIND_RESP, 0, 8)]
        assert kinds(session.receive(pdu(UNBIND_RESP, 2), 1)) == ["Closed"]


class TestBothEnds:
    def test_a_whole_life(self) -> None:
        client, server = Session(Role.ESME), Session(Role.SMSC)
        client.bind(TRX, b"gw", b"secret", now=0)
        assert kinds(server.receive(client.output(), 0)) == ["BindRequested"]
        server.accept_bind(b"centre", now=0)
        assert client.receive(server.output(), 0) == [Bound(TRX, b"centre", 0x34)]
        for n in range(100):
            client.request(SUBMIT_SM, BODY, n, 1)
        for event in server.receive(client.output(), 1):
            assert isinstance(event, MessageReceived)
            server.respond(SUBMIT_SM, event.message.sequence, 0, b"id%d\0" % event.message.sequence)
        answers = client.receive(server.output(), 1)
        assert answers == [Answered(n, 0, b"id%d" % (n + 2), False) for n in range(100)]
        server.request(DELIVER_SM, BODY, "receipt", 2)
        assert kinds(client.receive(server.output(), 2)) == ["MessageReceived"]
        client.respond(DELIVER_SM, 1, 0)
        assert server.receive(client.output(), 2) == [Answered("receipt", 0, b"", False)]
        client.unbind(3)
        assert kinds(server.receive(client.output(), 3)) == ["Unbinding", "Closed"]
        assert kinds(client.receive(server.output(), 3)) == ["Closed"]

    @pytest.mark.parametrize("role", Role)
    def test_after_the_end_nothing_happens(self, role: Role) -> None:
        session = in_state(role, SessionState.UNBINDING)
        assert kinds(session.tick(1000)) == ["Closed"]
        assert session.tick(2000) == []
        assert session.receive(pdu(ENQUIRE_LINK), 2000) == []
        assert session.output() == b""

    def test_repr_is_a_status_line(self) -> None:
        session = esme(window=10)
        submit(session)
        session.receive(pdu(DELIVER_SM, 9, BODY), 0)
        assert repr(session) == "<Session esme bound_trx window 1/10 unanswered 1 next 3>"
        assert repr(Session(Role.SMSC)) == "<Session smsc open window 0/100 unanswered 0 next 1>"
