"""command_status: the names of SMPP 3.4 (section 5.1.3) and 5.0, and the retry class of each.

The classes follow the specification and what Kannel, Jasmin, NowSMS and Vonage do with each code. A carrier may have
its own table (``overrides``), above all for the vendor range 0x400 to 0x4FF.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum


class RetryClass(Enum):
    """What the response to a submit means for the message, the bind and the carrier."""

    OK = "ok"  # accepted, even with an empty message_id: never resend
    THROTTLE = "throttle"  # slow the carrier down, all its binds; the message stays first, no attempt counted
    QUEUE_FULL = "queue_full"  # delay the message (30 s to 5 min); a throttle when it becomes frequent
    RETRY = "retry"  # the same carrier later, then another one
    SESSION = "session"  # the bind is at fault: rebind; the message goes back unchanged
    OTHER = "other"  # this carrier refuses it: another route once, else permanent
    PERMANENT = "permanent"  # final
    NOT_APPLICABLE = "not_applicable"  # responses to query, cancel or replace only; on a submit it is final


OK, THROTTLE, QUEUE_FULL, RETRY = RetryClass.OK, RetryClass.THROTTLE, RetryClass.QUEUE_FULL, RetryClass.RETRY
SESSION, OTHER, PERMANENT = RetryClass.SESSION, RetryClass.OTHER, RetryClass.PERMANENT
NOT_APPLICABLE = RetryClass.NOT_APPLICABLE


class CommandStatus(IntEnum):
    """Known values of command_status with their retry class. A peer may send any other 32-bit value."""

    retry: RetryClass

    def __new__(cls, code: int, retry: RetryClass = RetryClass.RETRY) -> CommandStatus:
        """Make a member of (code, class)."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.retry = retry
        return member

    ESME_ROK = 0x00, OK
    ESME_RINVMSGLEN = 0x01, PERMANENT  # our splitting, or a limit of the carrier: alert
    ESME_RINVCMDLEN = 0x02, SESSION  # framing is lost
    ESME_RINVCMDID = 0x03, OTHER  # the carrier lacks the operation, data_sm for instance
    ESME_RINVBNDSTS = 0x04, SESSION
    ESME_RALYBND = 0x05, SESSION  # too many binds: back off, not a failed password
    ESME_RINVPRTFLG = 0x06, OTHER
    ESME_RINVREGDLVFLG = 0x07, OTHER
    ESME_RSYSERR = 0x08, RETRY
    ESME_RINVSRCADR = 0x0A, OTHER  # the sender is not allowed at this carrier
    ESME_RINVDSTADR = 0x0B, PERMANENT
    ESME_RINVMSGID = 0x0C, NOT_APPLICABLE
    ESME_RBINDFAIL = 0x0D, SESSION
    ESME_RINVPASWD = 0x0E, SESSION  # and 0F: no fast retry of the bind
    ESME_RINVSYSID = 0x0F, SESSION
    ESME_RCANCELFAIL = 0x11, NOT_APPLICABLE
    ESME_RREPLACEFAIL = 0x13, NOT_APPLICABLE
    ESME_RMSGQFUL = 0x14, QUEUE_FULL  # one destination, or the whole message centre
    ESME_RINVSERTYP = 0x15, OTHER
    ESME_RINVNUMDESTS = 0x33, PERMANENT  # 33, 34, 40, 44: submit_multi only
    ESME_RINVDLNAME = 0x34, PERMANENT
    ESME_RINVDESTFLAG = 0x40, PERMANENT
    ESME_RINVSUBREP = 0x42, PERMANENT
    ESME_RINVESMCLASS = 0x43, OTHER
    ESME_RCNTSUBDL = 0x44, PERMANENT
    ESME_RSUBMITFAIL = 0x45, RETRY  # vendors use it for everything
    ESME_RINVSRCTON = 0x48, OTHER  # 48 to 51: our configuration is wrong, alert
    ESME_RINVSRCNPI = 0x49, OTHER
    ESME_RINVDSTTON = 0x50, OTHER
    ESME_RINVDSTNPI = 0x51, OTHER
    ESME_RINVSYSTYP = 0x53, SESSION
    ESME_RINVREPFLAG = 0x54, PERMANENT
    ESME_RINVNUMMSGS = 0x55, PERMANENT
    ESME_RTHROTTLED = 0x58, THROTTLE
    ESME_RINVSCHED = 0x61, OTHER
    ESME_RINVEXPIRY = 0x62, OTHER
    ESME_RINVDFTMSGID = 0x63, PERMANENT
    ESME_RX_T_APPN = 0x64, RETRY
    ESME_RX_P_APPN = 0x65, PERMANENT
    ESME_RX_R_APPN = 0x66, PERMANENT
    ESME_RQUERYFAIL = 0x67, NOT_APPLICABLE
    ESME_RINVTLVSTREAM = 0xC0, OTHER  # 3.4: RINVOPTPARSTREAM
    ESME_RTLVNOTALLWD = 0xC1, OTHER  # 3.4: ROPTPARNOTALLWD
    ESME_RINVTLVLEN = 0xC2, OTHER  # 3.4: RINVPARLEN
    ESME_RMISSINGTLV = 0xC3, OTHER  # 3.4: RMISSINGOPTPARAM
    ESME_RINVTLVVAL = 0xC4, OTHER  # 3.4: RINVOPTPARAMVAL
    ESME_RDELIVERYFAILURE = 0xFE, RETRY  # transaction mode
    ESME_RUNKNOWNERR = 0xFF, RETRY
    # SMPP 5.0
    ESME_RSERTYPUNAUTH = 0x100, OTHER
    ESME_RPROHIBITED = 0x101, OTHER
    ESME_RSERTYPUNAVAIL = 0x102, RETRY
    ESME_RSERTYPDENIED = 0x103, OTHER
    ESME_RINVDCS = 0x104, OTHER
    ESME_RINVSRCADDRSUBUNIT = 0x105, OTHER
    ESME_RINVDSTADDRSUBUNIT = 0x106, OTHER
    ESME_RINVBCASTFREQINT = 0x107, OTHER
    ESME_RINVBCASTALIAS_NAME = 0x108, OTHER
    ESME_RINVBCASTAREAFMT = 0x109, OTHER
    ESME_RINVNUMBCAST_AREAS = 0x10A, OTHER
    ESME_RINVBCASTCNTTYPE = 0x10B, OTHER
    ESME_RINVBCASTMSGCLASS = 0x10C, OTHER
    ESME_RBCASTFAIL = 0x10D, OTHER
    ESME_RBCASTQUERYFAIL = 0x10E, OTHER
    ESME_RBCASTCANCELFAIL = 0x10F, OTHER
    ESME_RINVBCAST_REP = 0x110, OTHER
    ESME_RINVBCASTSRVGRP = 0x111, OTHER
    ESME_RINVBCASTCHANIND = 0x112, OTHER


VENDOR = range(0x400, 0x500)
"""Reserved for message centre vendors (3.4 section 5.1.3); their meaning belongs into a carrier's own table."""

_CLASSES: dict[int, RetryClass] = {int(member): member.retry for member in CommandStatus}
_NAMES: dict[int, str] = {int(member): member.name for member in CommandStatus}


def classify(status: int, overrides: Mapping[int, RetryClass] | None = None) -> RetryClass:
    """Return the class of any value: from the carrier's table, else ours, else RETRY (as for RUNKNOWNERR)."""
    if overrides is not None:
        own = overrides.get(status)
        if own is not None:
            return own
    return _CLASSES.get(status, RetryClass.RETRY)


def name(status: int) -> str:
    """Return ``"ESME_RTHROTTLED"``, or ``"0x00000411"`` for a value without a name."""
    return _NAMES.get(status) or f"0x{status & 0xFFFFFFFF:08X}"
