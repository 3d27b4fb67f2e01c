"""What an app submits and what intake answers: the types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from gateway.model import State, Verdict

MAX_INT = 2**63 - 1

Name = Annotated[str, Meta(max_length=64)]


class Submission(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True, rename={"sender": "from"}):
    """One message as an app submits it; the field names are those of the HTTP contract."""

    to: Annotated[str, Meta(max_length=32)]
    text: Annotated[str, Meta(min_length=1, max_length=39_015)] | None = None  # either this or template
    sender: Annotated[str, Meta(max_length=20)] | None = None
    category: Literal["otp", "transactional", "marketing", "emergency"] | None = None
    brand: Name | None = None
    client_ref: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    callback_url: Annotated[str, Meta(max_length=2048)] | None = None
    send_at: Annotated[datetime, Meta(tz=True)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    time_zone: Name | None = None
    residence: Literal["attested"] | None = None  # the app vouches that the recipient lives in ``time_zone``
    on_quiet: Literal["defer", "reject"] | None = None
    priority: Annotated[int, Meta(ge=0, le=3)] | None = None  # SMPP priority_flag
    encoding: Literal["auto", "smart", "gsm7", "latin1", "ucs2"] | None = None
    metadata: dict[str, Any] | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=500)] | None = None  # of an emergency
    template: Name | None = None
    vars: dict[str, Annotated[str, Meta(max_length=1000)] | Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)]] | None = None


class SubmissionProblem(NamedTuple):
    """Why a submission was not accepted."""

    code: str  # of the HTTP contract (``api.problems.KINDS``)
    detail: str
    field: str = ""  # the field at fault; "" = none in particular
    id: bytes = b""  # set when the message may have been accepted all the same, or was before
    retry_at: int = 0  # ms UTC: when the same submission may be accepted; 0 = not known, or never
    wait: float = 0.0  # seconds from now until ``retry_at``


class SubmissionResult(msgspec.Struct, gc=False):
    """What became of a submission: stored under ``id``, also when policy refused it (REJECTED)."""

    id: bytes
    state: State
    to: str  # E.164 digits without +
    segments: int
    encoding: str
    client_ref: str | None
    verdict: Verdict
    replaced: dict[str, str] | None = None  # characters of the text -> their replacements (``smart``)
    duplicate: bool = False  # the reference was used before: id and state are those of the first message
