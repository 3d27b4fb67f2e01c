"""Reading a request: headers, a bounded body, JSON, and faults that name their place (``messages[3].to``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from gateway.doors.listener import Receive
from gateway.doors.problems import FieldError, HttpProblem, refuse
from gateway.pipeline.submission import Submission
from gateway.policy.dialling import InvalidNumber, parse_e164

MAX_SINGLE = 64 * 1024
MAX_BATCH = 8 * 1024 * 1024
MAX_MESSAGES = 5000
MAX_FAULTS = 20
MAX_KEY = 255
_DRAIN = 32 * 1024 * 1024  # a body up to here is read and forgotten before 413, so that the client hears the answer
_CLOSE = (b"connection", b"close")

Decoded = TypeVar("Decoded")


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch."""

    messages: list[Submission]


class _Loose(msgspec.Struct, forbid_unknown_fields=True):
    """A batch whose messages are looked at one by one, to name every faulty one."""

    messages: list[msgspec.Raw]


_SINGLE = msgspec.json.Decoder(Submission)
_BATCH = msgspec.json.Decoder(Batch)
_LOOSE = msgspec.json.Decoder(_Loose)


class Head(NamedTuple):
    """The headers that matter, found in one walk."""

    authorization: bytes
    content_type: bytes
    content_encoding: bytes
    length: int  # -1 = not said
    expects: bool  # 100-continue: the client waits before it sends its body
    idempotency_key: bytes | None  # None = not said


def read_head(headers: Sequence[tuple[bytes, bytes]]) -> Head:
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
    return Head(authorization, content_type, content_encoding, length, expects, key)


def kind_of(head: Head) -> bytes:
    """The media type of the body, b"" when it is not said."""
    return head.content_type.partition(b";")[0].strip().lower()


def check_type(head: Head, *kinds: bytes) -> None:
    """The body must be JSON (or of another of ``kinds``) and say so, if it says anything. Raises HttpProblem (415)."""
    if kind_of(head) not in {b"application/json", b"", *kinds}:
        wanted = b" or ".join((b"application/json", *kinds)).decode()
        raise refuse("unsupported_media_type", f"send Content-Type: {wanted}")
    if head.content_encoding not in {b"", b"identity"}:
        raise refuse("unsupported_media_type", "send the body without Content-Encoding")


def check_key(head: Head) -> str:
    """The ``Idempotency-Key``: 1 to 255 printable ASCII characters. Raises HttpProblem (400)."""
    key = (head.idempotency_key or b"").decode("latin-1")
    if 1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable():
        return key
    found = FieldError("Idempotency-Key", "malformed", f"1 to {MAX_KEY} printable ASCII characters")
    raise malformed([found])


async def read_body(head: Head, receive: Receive, limit: int) -> bytes:
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


def decode_single(body: bytes) -> Submission:
    """The body of ``POST /v1/messages``. Raises HttpProblem (400)."""
    return decode(_SINGLE, body)


def decode_batch(body: bytes) -> list[Submission]:
    """The body of ``POST /v1/messages/batch``. Raises HttpProblem (400, 413) that names up to 20 faulty messages."""
    try:
        messages = _BATCH.decode(body).messages
    except msgspec.ValidationError as error:
        raise malformed(_faults(body) or [fault(error)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed([_fault_of(error, body)]) from None
    if not messages:
        raise malformed([FieldError("messages", "malformed", "a batch has at least one message")])
    if len(messages) > MAX_MESSAGES:
        raise refuse("too_large", f"a batch may have {MAX_MESSAGES} messages, this one has {len(messages)}")
    return messages


def decode(decoder: msgspec.json.Decoder[Decoded], body: bytes) -> Decoded:
    """A typed body. Raises HttpProblem (400)."""
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed([_fault_of(error, body)]) from None


def malformed(faults: list[FieldError]) -> HttpProblem:
    """400 for these faults; a single unknown field has a code of its own."""
    first = faults[0]
    place = f"{first.field}: " if first.field else ""
    code = first.code if len({fault.code for fault in faults}) == 1 else "malformed"
    return refuse(code, f"{place}{first.detail}", errors=faults)


def fault(error: msgspec.ValidationError, inside: str = "") -> FieldError:
    """What msgspec says, with its ``$.messages[3].to`` as our field; ``inside`` is what ``$`` stands for."""
    text, _, path = str(error).partition(" - at `$")
    field = (inside + path.rstrip("`")).lstrip(".")
    for start, code, detail in (
        ("Object contains unknown field `", "unknown_field", "there is no such field"),
        ("Object missing required field `", "malformed", "this field is required"),
    ):
        if text.startswith(start):
            return FieldError(f"{field}.{text[len(start) : -1]}".lstrip("."), code, detail)
    return FieldError(field, "malformed", text)


def _faults(body: bytes) -> list[FieldError]:
    """Every faulty message of a batch, up to ``MAX_FAULTS``."""
    try:
        raw = _LOOSE.decode(body).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [_fault_of(error, body)]
    found: list[FieldError] = []
    for index, message in enumerate(raw):
        try:
            _SINGLE.decode(message)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.append(_fault_of(error, bytes(message), f"messages[{index}]"))
        if len(found) == MAX_FAULTS:
            break
    return found


def _fault_of(error: Exception, body: bytes, inside: str = "") -> FieldError:
    if isinstance(error, msgspec.ValidationError):
        return fault(error, inside)
    return FieldError(inside, "malformed", _why_not_json(error, body, "the message" if inside else "the body"))


def _why_not_json(error: Exception, data: bytes, name: str) -> str:
    """What is wrong with ``data`` and where. msgspec names the place of most faults; the others are looked up again."""
    if isinstance(error, RecursionError):
        return "the JSON is nested too deeply"
    if not data.strip():
        return f"{name} is empty"
    try:
        data.decode()
    except UnicodeDecodeError as place:
        return f"{name} is not UTF-8 (byte {place.start})"
    if str(error) == "Input data was truncated":
        return f"{name} is not JSON: it ends too early (byte {len(data)}), or in half a surrogate pair"
    return f"{name} is not JSON: {error}"


def destination(text: str, country: str, field: str = "to") -> str:
    """The digits of a number in a path or query, where a ``+`` may have become a space. Raises HttpProblem (400).

    ``country``: the account's ``default_country``.
    """
    plain = text.strip()
    try:
        return parse_e164(f"+{plain}" if text.startswith(" ") and plain[:1] != "+" else plain, country)
    except InvalidNumber as error:
        found = FieldError(field, "invalid_number", str(error))
        raise refuse("invalid_number", f"{field} {error}", errors=[found]) from None


def query(parameters: Mapping[str, str], name: str, limit: int) -> str:
    """A parameter that must be there, with at most ``limit`` characters. Raises HttpProblem (400)."""
    value = parameters.get(name)
    if value and len(value) > limit:
        raise malformed([FieldError(name, "malformed", f"at most {limit} characters")])
    if not value:
        raise malformed([FieldError(name, "malformed", "this parameter is required")])
    return value
