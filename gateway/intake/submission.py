"""What a door hands over, what it gets back, and the checks that go beyond types.

A ``Submission`` is what an app asks for, decoded and typed. ``check`` looks at what types cannot say (is it a number,
may the account send this, do the instants make sense) and answers with what intake needs, or with the first fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Meta

from gateway.config import Account, callbacks
from gateway.config.addresses import AddressGuard
from gateway.config.read import cap
from gateway.intake.carrier_tlvs import ParameterError
from gateway.intake.coding import NO_DEMAND, RouteDemand, count_for
from gateway.model import Category, OnUnknown, State, Verdict
from gateway.policy.dialling import InvalidNumber, number_of
from gateway.policy.numbers import Number
from gateway.policy.quiet_hours import known_zone
from gateway.policy.templates import MessageTemplate
from gateway.policy.velocity import VelocityTable
from gateway.smpp.smart import plain
from gateway.smpp.text import Alphabet, SegmentCount, TextError, count, encode
from gateway.store.keys import Hasher

MAX_METADATA = 2048  # octets, as JSON
_SHOWN = 10  # names in an error
_LOOKED_AT = 64  # characters
MAX_DEPTH = 16  # levels of metadata
MAX_AHEAD = 366 * 86_400_000  # how far send_at may lie ahead
MAX_INT = 2**63 - 1
SKEW = 300_000  # a send_at so little in the past is a clock that is off: it means now

Name = Annotated[str, Meta(max_length=64)]


class Submission(msgspec.Struct, gc=False, forbid_unknown_fields=True, omit_defaults=True, rename={"sender": "from"}):
    """One message as an app asks for it; the field names are those of the HTTP contract."""

    to: Annotated[str, Meta(max_length=32)]
    text: Annotated[str, Meta(min_length=1, max_length=39_015)] | None = None  # this, or template
    sender: Annotated[str, Meta(max_length=20)] | None = None
    category: Literal["otp", "transactional", "marketing", "emergency"] | None = None
    brand: Name | None = None
    client_ref: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    callback_url: Annotated[str, Meta(max_length=2048)] | None = None
    send_at: Annotated[datetime, Meta(tz=True)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    time_zone: Name | None = None
    residence: Literal["attested"] | None = None  # the app knows that the recipient lives in ``time_zone``
    on_quiet: Literal["defer", "reject"] | None = None
    priority: Annotated[int, Meta(ge=0, le=3)] | None = None  # SMPP priority_flag
    encoding: Literal["auto", "smart", "gsm7", "latin1", "ucs2"] | None = None
    metadata: dict[str, Any] | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=500)] | None = None  # of an emergency
    template: Name | None = None
    vars: dict[str, Annotated[str, Meta(max_length=1000)] | Annotated[int, Meta(ge=-MAX_INT, le=MAX_INT)]] | None = None


class SubmissionProblem(NamedTuple):
    """Why a submission was not accepted. ``code`` is public; ``field`` names the place, "" when there is none; ``id``
    when it may have been accepted all the same, or was before."""

    code: str
    detail: str
    field: str = ""
    id: bytes = b""
    retry_at: int = 0  # ms UTC: when the same may be taken; 0 = not known, or never
    wait: float = 0.0  # … and in seconds from now


class SubmissionResult(msgspec.Struct, gc=False):
    """What became of a submission: stored under ``id``. REJECTED is an answer of policy, kept as a record too."""

    id: bytes
    state: State
    to: str  # digits
    segments: int
    encoding: str
    client_ref: str | None
    verdict: Verdict
    replaced: dict[str, str] | None = None  # characters of the text, by what stands for them (``smart``)
    duplicate: bool = False  # the reference was seen before: id and state are those of the first message


_PUBLIC = AddressGuard()


class AccountRights:
    """An account as intake needs it: what it may send, under which names, and its scopes in the store."""

    __slots__ = (
        "account_scope",
        "brand",
        "brand_scopes",
        "categories",
        "category",
        "country",
        "encoding",
        "guard",
        "name",
        "sender",
        "senders",
        "signs",
        "template_scopes",
        "templates",
        "velocity",
        "weight",
    )

    def __init__(self, account: Account, hasher: Hasher, guard: AddressGuard = _PUBLIC) -> None:
        """``guard``: where events may be posted to."""
        self.name = account.name
        self.weight = account.weight
        self.categories = frozenset(Category[name.upper()] for name in account.categories)
        self.category = Category[account.category.upper()]
        self.senders = None if "*" in account.senders else frozenset(account.senders)
        self.sender = next((sender for sender in account.senders if sender != "*"), "")
        self.brand = account.brand
        self.country = account.default_country
        self.velocity = VelocityTable({prefix: cap(text) for prefix, text in account.velocity.items()})
        self.encoding = account.encoding
        self.guard = guard
        self.signs = bool(account.signing)
        self.account_scope = hasher.scope(account.name)
        self.templates = {name: MessageTemplate(text) for name, text in account.templates.items()}
        self.template_scopes = {name: template_scope(hasher, account.name, name) for name in self.templates}
        self.brand_scopes = {brand: hasher.scope(account.name, brand) for brand in {*account.brands, account.brand}}

    def __repr__(self) -> str:
        return f"<AccountRights of {self.name}: {'+'.join(sorted(c.name.lower() for c in self.categories))}>"


class CheckedSubmission(NamedTuple):
    """A submission that may go on to policy, with everything resolved."""

    digits: str
    category: Category
    sender: str
    brand: str
    encoding: str
    segments: int
    send_at: int
    expires_at: int
    text: str
    replaced: dict[str, str] | None  # what was written in other characters
    forced: str  # the alphabet insisted on; "" = what fits
    route: str = ""  # the lane that it takes, "" when there is none


class Routing(Protocol):
    """Where a message goes, and what is asked of it there (``intake.policy_context.PolicyContext``)."""

    def route(self, digits: str, sender: str, category: Category, account: str, region: str) -> str: ...
    def demand(self, lane: str) -> RouteDemand: ...


CATEGORIES: Mapping[str, Category] = {category.name.lower(): category for category in Category}

ON_UNKNOWN = {
    Category.OTP: OnUnknown.RESEND,
    Category.TRANSACTIONAL: OnUnknown.RESEND,
    Category.EMERGENCY: OnUnknown.RESEND,
    Category.MARKETING: OnUnknown.NEVER,
}
"""Whether a submit that was never answered may be sent once more: advertising twice is worse than not at all."""

_new_tuple = tuple.__new__
_NAMES = {alphabet: alphabet.value for alphabet in Alphabet}  # plain text; reading .value costs 0.3 µs


def check(
    asked: Submission,
    rights: AccountRights,
    now: int,
    routing: Routing | None = None,
    allow_prefixes: tuple[str, ...] = (),
) -> CheckedSubmission | SubmissionProblem:
    """Everything that must hold before policy is asked. ``now`` in ms; ``allow_prefixes``: digits, of dear numbers.

    Segments are those of the carrier that the message's route leads to first (``routing``).
    """
    destination = _destination(asked.to, rights.country, allow_prefixes)
    if isinstance(destination, SubmissionProblem):
        return destination
    digits, number = destination
    category = rights.category if asked.category is None else CATEGORIES[asked.category]
    brand = asked.brand or rights.brand
    sender = rights.sender if asked.sender is None else asked.sender
    fault = _check_rights(asked, rights, category, brand, sender) or _check_rest(asked, rights, now)
    if fault is not None:
        return fault
    text = asked.text if asked.template is None and asked.vars is None else _filled(asked, rights)
    if isinstance(text, SubmissionProblem):
        return text
    if not text or (not text.isprintable() and _CONTROL(text)):
        return _textless(text, asked)
    wanted, replaced, forced = asked.encoding or rights.encoding, None, ""
    if wanted == "smart":
        text, replaced = plain(text)
    elif wanted != "auto":
        forced = wanted
    route = "" if routing is None else routing.route(digits, sender, category, rights.name, number.region)
    counted = _counted(text, asked, forced, NO_DEMAND if routing is None else routing.demand(route))
    if isinstance(counted, SubmissionProblem):
        return counted
    send_at, expires_at = _ms(asked.send_at), _ms(asked.expires_at)
    starts = send_at if send_at > now else 0
    alphabet, segments, _ = counted
    who = digits, category, sender, brand
    what = _NAMES[alphabet], segments, starts, expires_at, text, replaced or None, forced, route
    return _new_tuple(CheckedSubmission, who + what)


def _counted(text: str, asked: Submission, forced: str, demand: RouteDemand) -> SegmentCount | SubmissionProblem:
    """What the text costs at the carrier, which has all that it demands. ``forced``: the alphabet insisted on."""
    try:
        if demand is NO_DEMAND and not forced:
            return count(text)
        if demand.parameters is not None:
            demand.parameters.octets(asked.metadata, asked.template or "")
        return count_for(text, forced, demand.coding)
    except TextError as error:
        said = f"{error}{_first_foreign(text, forced)}"
        return SubmissionProblem("encoding_mismatch" if forced else "invalid_value", said, "text")
    except ParameterError as error:
        return SubmissionProblem("invalid_value", str(error), error.field)


def _first_foreign(text: str, alphabet: str) -> str:
    """Which character it is that an alphabet lacks, and where; "" when it is another fault."""
    for start in range(0, len(text) if alphabet else 0, _LOOKED_AT):  # in pieces: a call a character would be slow
        piece = text[start : start + _LOOKED_AT]
        if not _fits(piece, alphabet):
            place = next(place for place, char in enumerate(piece) if not _fits(char, alphabet))
            where = f"U+{ord(piece[place]):04X}, character {start + place + 1}"
            return f": the first is {where}; leave encoding out, or write another"
    return ""


def _fits(text: str, alphabet: str) -> bool:
    try:
        encode(text, Alphabet(alphabet))
    except TextError:
        return False
    return True


def _destination(to: str, country: str, allow_prefixes: tuple[str, ...]) -> tuple[str, Number] | SubmissionProblem:
    """The digits to dial, of a number that may be written to, and what is known of it."""
    try:
        digits, number = found = number_of(to, country)
    except InvalidNumber as error:
        return SubmissionProblem("invalid_number", str(error), "to")
    if number.by_name and not digits.startswith(allow_prefixes):
        detail = f"+{digits[:4]}… is a {number.by_name} number, which [policy] allow_prefixes must name"
        return SubmissionProblem("destination_not_allowed", detail, "to")
    return found


def _textless(text: str | None, asked: Submission) -> SubmissionProblem:
    """What is wrong with a text that is missing or has control characters."""
    if text and (found := _CONTROL(text)):
        return SubmissionProblem("invalid_value", _controls(found), "text" if asked.template is None else "vars")
    return SubmissionProblem("malformed", "this field is required, or template", "text")


def template_scope(hasher: Hasher, account: str, template: str) -> bytes:
    """What names a template in breakers and pulled templates."""
    return hasher.scope(account, "template", template)


def _filled(asked: Submission, rights: AccountRights) -> str | SubmissionProblem:
    """The text of a template with the values of ``vars``, every one of which must have its place."""
    if asked.text is not None:
        field = "vars" if asked.template is None else "text"
        return SubmissionProblem("invalid_value", "give text, or template with vars, not both", field)
    template = rights.templates.get(asked.template or "")
    if template is None:
        return SubmissionProblem(
            "invalid_value", f"this account has no such template{_known(rights.templates)}", "template"
        )
    values = asked.vars or {}
    for name in (*values, *template.names):
        if name not in values:
            return SubmissionProblem("invalid_value", "the template has this place; give it a value", f"vars.{name}")
        if name not in template.names:
            return SubmissionProblem("unknown_field", "the template has no such place", f"vars.{name}")
    return template.fill(values)


def _known(names: Iterable[str]) -> str:
    """What an account has, behind what it has not."""
    shown = sorted(filter(None, names))
    more = ", …" if len(shown) > _SHOWN else ""
    return f"; it has {', '.join(shown[:_SHOWN])}{more}" if shown else ""


def _check_rights(
    asked: Submission, rights: AccountRights, category: Category, brand: str, sender: str
) -> SubmissionProblem | None:
    """What the account may do."""
    if category not in rights.categories:
        granted = _known(Category(one).name.lower() for one in rights.categories)
        detail = f"this account may not send {category.name.lower()} messages{granted}"
        return SubmissionProblem("category_not_granted", detail, "category")
    if brand not in rights.brand_scopes:
        return SubmissionProblem(
            "brand_not_allowed", f"this account does not have this brand{_known(rights.brand_scopes)}", "brand"
        )
    if rights.senders is not None and sender not in rights.senders:
        return SubmissionProblem(
            "sender_not_allowed", f"this account may not use this sender{_known(rights.senders)}", "from"
        )
    if category is Category.EMERGENCY and asked.reason is None:
        return SubmissionProblem("invalid_value", "an emergency needs a reason", "reason")
    return None


def _check_rest(asked: Submission, rights: AccountRights, now: int) -> SubmissionProblem | None:
    """What most submissions do not say at all."""
    if asked.sender is not None and not _is_sender(asked.sender):
        return SubmissionProblem(
            "invalid_value", "a sender is 3 to 15 digits, or 1 to 11 letters, digits and signs", "from"
        )
    if (asked.client_ref is not None and not asked.client_ref.isprintable()) or asked.reason is not None:
        for field, text in (("client_ref", asked.client_ref), ("reason", asked.reason)):
            if found := _ANY_CONTROL(text or ""):
                return SubmissionProblem("invalid_value", _controls(found), field)
    if asked.send_at is not None or asked.expires_at is not None:
        fault = _check_instants(_ms(asked.send_at), _ms(asked.expires_at), now)
        if fault is not None:
            return fault
    if (asked.time_zone is not None or asked.residence is not None) and (fault := _check_zone(asked)):
        return fault
    if asked.callback_url is not None and (said := _check_callback(asked.callback_url, rights)):
        return SubmissionProblem("invalid_value", said, "callback_url")
    return None if asked.metadata is None else _check_metadata(asked.metadata)


def _check_zone(asked: Submission) -> SubmissionProblem | None:
    if asked.time_zone is None:
        return SubmissionProblem("invalid_value", "says where the recipient lives: give time_zone with it", "residence")
    if not known_zone(asked.time_zone):
        return SubmissionProblem(
            "invalid_value", "no such zone in the IANA data, such as Europe/Stockholm", "time_zone"
        )
    return None


def _check_callback(url: str, rights: AccountRights) -> str:
    if not rights.signs:
        return "this account has no webhook_secret, so events could not be signed: have one set, or leave this out"
    return callbacks.fault(url, rights.guard)


def _check_metadata(metadata: dict[str, Any]) -> SubmissionProblem | None:
    """Whether it can be kept with the message and given back."""
    if _too_deep(metadata):
        return SubmissionProblem("too_large", f"it may have {MAX_DEPTH} levels", "metadata")
    if len(packed := msgspec.json.encode(metadata)) > MAX_METADATA:
        return SubmissionProblem("too_large", f"it may have {MAX_METADATA} octets as JSON", "metadata")
    if (_PERHAPS_CONTROL(packed)) and (said := _control_in(metadata)):
        return SubmissionProblem("invalid_value", said, "metadata")
    try:
        msgspec.msgpack.encode(metadata)  # as the store keeps it
    except OverflowError:
        return SubmissionProblem(
            "invalid_value", "a whole number in it needs more than 64 bits; send it as text", "metadata"
        )
    return None


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]").search
_ANY_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]").search
_PERHAPS_CONTROL = re.compile(rb"\\[ubf]|\x7f|\xc2[\x80-\x9f]").search
"""… in metadata as JSON; a backslash of its own looks the same."""


def _controls(found: re.Match[str]) -> str:
    """What is said of a control character; line breaks and tabs are those that a text may have."""
    return f"the control character U+{ord(found[0]):04X} (character {found.start() + 1}) is not allowed"


def _control_in(tree: Any) -> str:
    """What is said of the first one in metadata, names of fields included; "" when there is none."""
    if isinstance(tree, str):
        return _controls(found) if (found := _CONTROL(tree)) else ""
    if isinstance(tree, dict):
        tree = [*tree, *tree.values()]
    return next(filter(None, map(_control_in, tree)), "") if isinstance(tree, list) else ""


def passed(asked: Submission, now: int) -> bool:
    """Whether an instant of it has passed, so that it would be refused now."""
    expires_at, send_at = _ms(asked.expires_at), _ms(asked.send_at)
    return 0 < expires_at <= now or 0 < send_at < now - SKEW


def _check_instants(send_at: int, expires_at: int, now: int) -> SubmissionProblem | None:
    if send_at and send_at < now - SKEW:
        return SubmissionProblem("invalid_value", "lies in the past", "send_at")
    if send_at > now + MAX_AHEAD:
        return SubmissionProblem("invalid_value", "lies more than a year ahead", "send_at")
    if expires_at and expires_at <= max(now, send_at):
        return SubmissionProblem("invalid_value", "must lie ahead, and after send_at", "expires_at")
    return None


def _too_deep(value: Any, levels: int = MAX_DEPTH) -> bool:
    """Looks no further down than allowed, so it cannot run out of stack itself."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return False
    return levels == 0 or any(_too_deep(item, levels - 1) for item in value)


def _ms(instant: datetime | None) -> int:
    return 0 if instant is None else int(instant.timestamp() * 1000)


@lru_cache(maxsize=4096)
def _is_sender(sender: str) -> bool:
    """Digits with or without + (3 to 15), or alphanumeric (1 to 11) as carriers take them: printable ASCII."""
    digits = sender.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        return 3 <= len(digits) <= 15
    return 1 <= len(sender) <= 11 and sender.isascii() and sender.isprintable() and sender.strip() == sender
