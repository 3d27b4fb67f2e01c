"""Reading a request: headers, a bounded body, JSON, and faults that name their place (``messages[3].to``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.api.duplicate_keys import repeated, repeats
from gateway.api.field_help import explained, known, parted
from gateway.api.listener import Receive
from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.intake.submission import Submission
from gateway.policy.dialling import InvalidNumber, parse_e164

MAX_SINGLE = 64 * 1024
MAX_BATCH = 8 * 1024 * 1024
MAX_MESSAGES = 5000
MAX_FAULTS = 20
MAX_KEY = 255
_DRAIN = 32 * 1024 * 1024  # a body up to here is read and forgotten before 413, so that the client hears the answer
_CLOSE = (b"connection", b"close")

Decoded = TypeVar("Decoded")


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch."""

    messages: list[Submission]


class _Loose(msgspec.Struct, forbid_unknown_fields=True):
    """A batch whose messages are looked at one by one, to name every faulty one."""

    messages: list[msgspec.Raw]


_SINGLE = msgspec.json.Decoder(Submission)
_BATCH = msgspec.json.Decoder(BatchRequest)
_LOOSE = msgspec.json.Decoder(_Loose)


_TOO_DEEP = "the JSON is nested too deeply"
_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""Half of a UTF-16 pair as JSON writes it, without the other."""


class RequestHead(NamedTuple):
    """The headers that matter, found in one walk."""

    authorization: bytes
    content_type: bytes
    content_encoding: bytes
    length: int  # -1 = not said
    expects: bool  # 100-continue: the client waits before it sends its body
    idempotency_key: bytes | None  # None = not said


def read_head(headers: Sequence[tuple[bytes, bytes]]) -> RequestHead:
    """Headers of an ASGI scope (names are lower case)."""
    authorization = content_type = content_encoding = b""
    length, expects, key = -1, False, None
    for name, value in headers:
        if name == b"authorization":
            authorization = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = int(value)  # the HTTP parser has made sure that it is digits
        elif name == b"content-encoding":
            content_encoding = value
        elif name == b"expect":
            expects = True
        elif name == b"idempotency-key":
            key = value
    return RequestHead(authorization, content_type, content_encoding, length, expects, key)


def kind_of(head: RequestHead) -> bytes:
    """The media type of the body, b"" when it is not said."""
    return head.content_type.partition(b";")[0].strip().lower()


def check_type(head: RequestHead, *kinds: bytes) -> None:
    """The body must be JSON (or of another of ``kinds``) and say so, if it says anything. Raises HttpProblem (415)."""
    if kind_of(head) not in {b"application/json", b"", *kinds}:
        wanted = b" or ".join((b"application/json", *kinds)).decode()
        raise refuse("unsupported_media_type", f"send Content-Type: {wanted}")
    if head.content_encoding not in {b"", b"identity"}:
        raise refuse("unsupported_media_type", "send the body without Content-Encoding")


def check_key(head: RequestHead) -> str:
    """The ``Idempotency-Key``: 1 to 255 printable ASCII characters. Raises HttpProblem (400)."""
    key = (head.idempotency_key or b"").decode("latin-1")
    if 1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable():
        return key
    found = FieldProblem("Idempotency-Key", "malformed", f"1 to {MAX_KEY} printable ASCII characters")
    raise malformed([found])


async def read_body(head: RequestHead, receive: Receive, limit: int) -> bytes:
    """The whole body, at most ``limit`` octets. Raises HttpProblem (413), or 400 when the client went away."""
    if head.length > limit and (head.expects or head.length > _DRAIN):
        raise _too_large(limit, _CLOSE)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise refuse("malformed", "the client went away")
    body: bytes = message["body"]
    if not message["more_body"] and len(body) <= limit:  # nearly always
        return body
    pieces, size = [body], len(body)
    while message["more_body"]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise refuse("malformed", "the client went away")
        size += len(message["body"])
        if size <= limit:
            pieces.append(message["body"])
        elif size > _DRAIN:
            raise _too_large(limit, _CLOSE)
    if size > limit:
        raise _too_large(limit)
    return b"".join(pieces)


def _too_large(limit: int, *headers: tuple[bytes, bytes]) -> HttpProblem:
    return refuse("too_large", f"the body may have {limit} octets", headers=headers)


def decode_single(body: bytes, name: str = "the body") -> Submission:
    """The body of ``POST /v1/messages``, or what else is called ``name``. Raises HttpProblem (400)."""
    asked = _typed(_SINGLE, body, name)
    _refuse_twice(repeats, body, (asked,), 0)
    return asked


def decode_batch(body: bytes) -> list[Submission]:
    """The body of ``POST /v1/messages/batch``. Raises HttpProblem (400, 413) that names up to 20 faulty messages."""
    try:
        messages = _BATCH.decode(body).messages
    except msgspec.ValidationError as error:
        raise malformed(_faults(body) or [fault(error, BatchRequest)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _faults(body) if _half_in(body) else []
        raise malformed(found or [_fault_of(error, body)]) from None
    if not messages:
        raise malformed([FieldProblem("messages", "malformed", "a batch has at least one message")])
    if len(messages) > MAX_MESSAGES:
        raise refuse("too_large", f"a batch may have {MAX_MESSAGES} messages, this one has {len(messages)}")
    _refuse_twice(repeats, body, messages, 1)
    return messages


def decode(decoder: msgspec.json.Decoder[Decoded], body: bytes) -> Decoded:
    """A typed body. Raises HttpProblem (400)."""
    decoded = _typed(decoder, body)
    _refuse_twice(repeated, body)
    return decoded


def _refuse_twice(look: Callable[..., str], *body: Any) -> None:
    """Raises HttpProblem (400) when ``look`` finds a field that stands twice."""
    try:
        place = look(*body)
    except RecursionError:
        raise malformed([FieldProblem("", "malformed", _TOO_DEEP)]) from None
    if place:
        raise malformed([FieldProblem(place, "malformed", "it stands here twice: send it once")])


def _typed(decoder: msgspec.json.Decoder[Decoded], body: bytes, name: str = "the body") -> Decoded:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed([_fault_of(error, body, kind=decoder.type, name=name)]) from None


def malformed(faults: list[FieldProblem]) -> HttpProblem:
    """400 for these faults; a single unknown field has a code of its own."""
    first = faults[0]
    place = f"{first.field}: " if first.field else ""
    code = first.code if len({fault.code for fault in faults}) == 1 else "malformed"
    return refuse(code, f"{place}{first.detail}", errors=faults)


def fault(error: msgspec.ValidationError, kind: Any, inside: str = "") -> FieldProblem:
    """What is wrong with a body of ``kind``, with msgspec's ``$.messages[3].to`` as our field, in words.

    ``inside`` is what ``$`` stands for.
    """
    text, path = parted(error)
    field = f"{inside}.{path}".strip(".") if path[:1] != "[" else inside + path
    no_such = f"there is no such field{known(kind, '[' in path)}"
    for start, code, detail in (
        ("Object contains unknown field `", "unknown_field", no_such),
        ("Object missing required field `", "malformed", "this field is required"),
    ):
        if text.startswith(start):
            return FieldProblem(f"{field}.{text[len(start) : -1]}".lstrip("."), code, detail)
    return FieldProblem(field, "malformed", explained(text, kind, path))


def _faults(body: bytes) -> list[FieldProblem]:
    """Every faulty message of a batch, up to ``MAX_FAULTS``."""
    readable = _SURROGATE.sub(_whole, body)  # as long as the body: else no message could be told from the others
    try:
        raw = _LOOSE.decode(readable).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [_fault_of(error, body, kind=BatchRequest)]
    found: list[FieldProblem] = []
    at = 0
    for index, message in enumerate(raw):
        octets = bytes(message)
        at = readable.index(octets, at)
        try:
            _SINGLE.decode(body[at : at + len(octets)])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.append(_fault_of(error, body[at : at + len(octets)], f"messages[{index}]"))
        at += len(octets)
        if len(found) == MAX_FAULTS:
            break
    return found


def _half_in(data: bytes) -> re.Match[bytes] | None:
    """The first half of a character; most bodies are not gone through for it, which takes a while of a long one."""
    return _SURROGATE.search(data) if b"\\ud" in data or b"\\uD" in data else None


def _whole(half: re.Match[bytes]) -> bytes:
    return half[0].replace(half[1], b"\\ufffd")


def _fault_of(
    error: Exception, body: bytes, inside: str = "", kind: Any = Submission, name: str = "the body"
) -> FieldProblem:
    if isinstance(error, msgspec.ValidationError):
        return fault(error, kind, inside)
    return FieldProblem(inside, "malformed", _why_not_json(error, body, "the message" if inside else name))


def _why_not_json(error: Exception, data: bytes, name: str) -> str:
    """What is wrong with ``data`` and where. msgspec names the place of most faults; the others are looked up again."""
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if not data.strip():
        return f"{name} is empty: send a JSON object"
    try:
        data.decode()
    except UnicodeDecodeError as place:
        return f"{name} is not UTF-8 (byte {place.start})"
    if half := _half_in(data):
        return f"{name} has half a character ({half[1].decode()} at byte {half.start(1)}), like a cut emoji"
    if str(error) == "Input data was truncated":
        return f"{name} is not JSON: it ends too early (byte {len(data)})"
    return f"{name} is not JSON: {error}"


def destination(text: str, country: str, field: str = "to") -> str:
    """The digits of a number in a path or query, where a ``+`` may have become a space. Raises HttpProblem (400).

    ``country``: the account's ``default_country``.
    """
    plain = text.strip()
    try:
        return parse_e164(f"+{plain}" if text.startswith(" ") and plain[:1] != "+" else plain, country)
    except InvalidNumber as error:
        found = FieldProblem(field, "invalid_number", str(error))
        raise refuse("invalid_number", f"{field}: {error}", errors=[found]) from None


def query(parameters: Mapping[str, str], name: str, limit: int) -> str:
    """A parameter that must be there, with at most ``limit`` characters. Raises HttpProblem (400)."""
    value = parameters.get(name)
    if value and len(value) > limit:
        raise malformed([FieldProblem(name, "malformed", f"at most {limit} characters")])
    if not value:
        raise malformed([FieldProblem(name, "malformed", "this parameter is required")])
    return value
