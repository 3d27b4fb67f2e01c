"""Reading a request: headers, a bounded body, JSON, and faults that name their field (``messages[3].to``)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from gateway.api.duplicate_keys import duplicate_in_json, duplicate_in_messages
from gateway.api.field_help import allowed_fields, explain, split_error
from gateway.api.listener import Receive
from gateway.api.problems import FieldProblem, HttpProblem, refuse
from gateway.intake.submission import Submission
from gateway.policy.dialling import InvalidNumber, parse_e164

MAX_SINGLE = 64 * 1024
MAX_BATCH = 8 * 1024 * 1024
MAX_MESSAGES = 5000
MAX_FAULTS = 20
MAX_KEY = 255
_DRAIN = 32 * 1024 * 1024  # a body up to this size is read and dropped before 413, so that the client gets the response
_CLOSE = (b"connection", b"close")

Decoded = TypeVar("Decoded")


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a batch."""

    messages: list[Submission]


class _Loose(msgspec.Struct, forbid_unknown_fields=True):
    """A batch whose messages are decoded one by one, to name every faulty one."""

    messages: list[msgspec.Raw]


_SINGLE = msgspec.json.Decoder(Submission)
_BATCH = msgspec.json.Decoder(BatchRequest)
_LOOSE = msgspec.json.Decoder(_Loose)


_TOO_DEEP = "the JSON is nested too deeply"
_SURROGATE = re.compile(
    rb"(?<!\\)(?:\\\\)*(\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)
"""A surrogate as JSON escapes it, without the other half of its pair."""


class RequestHead(NamedTuple):
    """The headers that matter."""

    authorization: bytes
    content_type: bytes
    content_encoding: bytes
    length: int  # -1 = not given
    expects: bool  # 100-continue: the client waits before it sends its body
    idempotency_key: bytes | None  # None = not given


def read_head(headers: Sequence[tuple[bytes, bytes]]) -> RequestHead:
    """Return what matters of the headers of an ASGI scope (names are lower case)."""
    authorization = content_type = content_encoding = b""
    length, expects, key = -1, False, None
    for name, value in headers:
        if name == b"authorization":
            authorization = value
        elif name == b"content-type":
            content_type = value
        elif name == b"content-length":
            length = int(value)  # the HTTP parser has checked that it is digits
        elif name == b"content-encoding":
            content_encoding = value
        elif name == b"expect":
            expects = True
        elif name == b"idempotency-key":
            key = value
    return RequestHead(authorization, content_type, content_encoding, length, expects, key)


def media_type(head: RequestHead) -> bytes:
    """Return the media type of the body, b"" when it is not given."""
    return head.content_type.partition(b";")[0].strip().lower()


def check_type(head: RequestHead, *media_types: bytes) -> None:
    """Check that the Content-Type, if given, is JSON or one of ``media_types``. Raises HttpProblem (415)."""
    if media_type(head) not in {b"application/json", b"", *media_types}:
        wanted = b" or ".join((b"application/json", *media_types)).decode()
        raise refuse("unsupported_media_type", f"unsupported Content-Type: send {wanted}")
    if head.content_encoding not in {b"", b"identity"}:
        raise refuse("unsupported_media_type", "unsupported Content-Encoding: send the body without one")


def check_key(head: RequestHead) -> str:
    """Return the ``Idempotency-Key``: 1 to 255 printable ASCII characters. Raises HttpProblem (400)."""
    key = (head.idempotency_key or b"").decode("latin-1")
    if 1 <= len(key) <= MAX_KEY and key.isascii() and key.isprintable():
        return key
    found = FieldProblem("Idempotency-Key", "malformed", f"must be 1 to {MAX_KEY} printable ASCII characters")
    raise malformed([found])


async def read_body(head: RequestHead, receive: Receive, limit: int) -> bytes:
    """Return the body, at most ``limit`` octets. Raises HttpProblem: 413, or 400 when the client disconnected."""
    if head.length > limit and (head.expects or head.length > _DRAIN):
        raise _too_large(limit, _CLOSE)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise refuse("malformed", "the client disconnected")
    body: bytes = message["body"]
    if not message["more_body"] and len(body) <= limit:  # nearly always
        return body
    pieces, size = [body], len(body)
    while message["more_body"]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise refuse("malformed", "the client disconnected")
        size += len(message["body"])
        if size <= limit:
            pieces.append(message["body"])
        elif size > _DRAIN:
            raise _too_large(limit, _CLOSE)
    if size > limit:
        raise _too_large(limit)
    return b"".join(pieces)


def _too_large(limit: int, *headers: tuple[bytes, bytes]) -> HttpProblem:
    return refuse("too_large", f"the body may have at most {limit} bytes", headers=headers)


def decode_single(body: bytes, name: str = "the body") -> Submission:
    """Decode the body of ``POST /v1/messages``. ``name``: what errors call it. Raises HttpProblem (400)."""
    submission = _typed(_SINGLE, body, name)
    _refuse_duplicates(duplicate_in_messages, body, (submission,), 0)
    return submission


def decode_batch(body: bytes) -> list[Submission]:
    """Decode the body of ``POST /v1/messages/batch``. Raises HttpProblem (400, 413) that names up to 20 faults."""
    try:
        messages = _BATCH.decode(body).messages
    except msgspec.ValidationError as error:
        raise malformed(_faulty_messages(body) or [field_problem(error, BatchRequest)]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        found = _faulty_messages(body) if _lone_surrogate(body) else []
        raise malformed(found or [_decode_problem(error, body)]) from None
    if not messages:
        raise malformed([FieldProblem("messages", "malformed", "a batch needs at least one message")])
    if len(messages) > MAX_MESSAGES:
        raise refuse("too_large", f"a batch may have at most {MAX_MESSAGES} messages; this one has {len(messages)}")
    _refuse_duplicates(duplicate_in_messages, body, messages, 1)
    return messages


def decode(decoder: msgspec.json.Decoder[Decoded], body: bytes) -> Decoded:
    """Decode a body. Raises HttpProblem (400)."""
    decoded = _typed(decoder, body)
    _refuse_duplicates(duplicate_in_json, body)
    return decoded


def _refuse_duplicates(find: Callable[..., str], *body: Any) -> None:
    """Raise HttpProblem (400) when ``find`` finds a duplicate key."""
    try:
        path = find(*body)
    except RecursionError:
        raise malformed([FieldProblem("", "malformed", _TOO_DEEP)]) from None
    if path:
        raise malformed([FieldProblem(path, "malformed", "duplicate key: send it once")])


def _typed(decoder: msgspec.json.Decoder[Decoded], body: bytes, name: str = "the body") -> Decoded:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed([_decode_problem(error, body, kind=decoder.type, name=name)]) from None


def malformed(faults: list[FieldProblem]) -> HttpProblem:
    """Return 400 for these faults, with their code when all have the same one, else ``malformed``."""
    first = faults[0]
    prefix = f"{first.field}: " if first.field else ""
    code = first.code if len({fault.code for fault in faults}) == 1 else "malformed"
    return refuse(code, f"{prefix}{first.detail}", errors=faults)


def field_problem(error: msgspec.ValidationError, kind: Any, inside: str = "") -> FieldProblem:
    """Return an error of msgspec about a body of ``kind``, in words; its ``$.messages[3].to`` is our field.

    ``inside``: what ``$`` stands for.
    """
    text, path = split_error(error)
    field = f"{inside}.{path}".strip(".") if path[:1] != "[" else inside + path
    unknown = f"unknown field{allowed_fields(kind, '[' in path)}"
    for start, code, detail in (
        ("Object contains unknown field `", "unknown_field", unknown),
        ("Object missing required field `", "malformed", "this field is required"),
    ):
        if text.startswith(start):
            return FieldProblem(f"{field}.{text[len(start) : -1]}".lstrip("."), code, detail)
    return FieldProblem(field, "malformed", explain(text, kind, path))


def _faulty_messages(body: bytes) -> list[FieldProblem]:
    """Return a problem for every faulty message of a batch, up to ``MAX_FAULTS``."""
    readable = _SURROGATE.sub(_replaced, body)  # of the same length, so that each message is found in the body
    try:
        raw = _LOOSE.decode(readable).messages
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return [_decode_problem(error, body, kind=BatchRequest)]
    found: list[FieldProblem] = []
    at = 0
    for index, message in enumerate(raw):
        octets = bytes(message)
        at = readable.index(octets, at)
        try:
            _SINGLE.decode(body[at : at + len(octets)])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            found.append(_decode_problem(error, body[at : at + len(octets)], f"messages[{index}]"))
        at += len(octets)
        if len(found) == MAX_FAULTS:
            break
    return found


def _lone_surrogate(data: bytes) -> re.Match[bytes] | None:
    """Return the first lone surrogate. Most bodies have no surrogates and are not searched, which would be slow."""
    return _SURROGATE.search(data) if b"\\ud" in data or b"\\uD" in data else None


def _replaced(half: re.Match[bytes]) -> bytes:
    return half[0].replace(half[1], b"\\ufffd")


def _decode_problem(
    error: Exception, body: bytes, inside: str = "", kind: Any = Submission, name: str = "the body"
) -> FieldProblem:
    if isinstance(error, msgspec.ValidationError):
        return field_problem(error, kind, inside)
    return FieldProblem(inside, "malformed", _json_detail(error, body, "the message" if inside else name))


def _json_detail(error: Exception, data: bytes, name: str) -> str:
    """Describe what is wrong with ``data`` and where, also where msgspec does not name the place."""
    if isinstance(error, RecursionError):
        return _TOO_DEEP
    if not data.strip():
        return f"{name} is empty: send a JSON object"
    try:
        data.decode()
    except UnicodeDecodeError as utf8:
        return f"{name} is not UTF-8 (byte {utf8.start})"
    if half := _lone_surrogate(data):
        return f"{name} has a lone surrogate ({half[1].decode()} at byte {half.start(1)}), as in a truncated emoji"
    if str(error) == "Input data was truncated":
        return f"{name} is not JSON: it is truncated (byte {len(data)})"
    return f"{name} is not JSON: {str(error).removeprefix('JSON is malformed: ')}"


def destination(text: str, country: str, field: str = "to") -> str:
    """Return the digits of a number in a path or query, where ``+`` may have become a space. Raises HttpProblem (400).

    ``country``: the account's ``default_country``.
    """
    plain = text.strip()
    try:
        return parse_e164(f"+{plain}" if text.startswith(" ") and plain[:1] != "+" else plain, country)
    except InvalidNumber as error:
        found = FieldProblem(field, "invalid_number", str(error))
        raise refuse("invalid_number", f"{field}: {error}", errors=[found]) from None


def query(parameters: Mapping[str, str], name: str, limit: int) -> str:
    """Return a required parameter of at most ``limit`` characters. Raises HttpProblem (400)."""
    value = parameters.get(name)
    if value and len(value) > limit:
        raise malformed([FieldProblem(name, "malformed", f"at most {limit} characters")])
    if not value:
        raise malformed([FieldProblem(name, "malformed", "this parameter is required")])
    return value
