"""Logs: one JSON object per line on standard error (readable form on a terminal); numbers masked, texts withheld.

Other modules only call ``structlog.get_logger()``; the program calls ``configure`` once. Records of the standard
library's ``logging`` (uvicorn, asyncio, aiohttp) are forwarded. The masking here is the last line of defence: modules
must not log texts or passwords in the first place.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import orjson
import structlog

from gateway.sanitize import visible, visible_json

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "console"]

NEVER = frozenset(
    [
        "text",
        "content",
        "short_message",
        "payload",
        "body",
        "message_payload",
        "password",
        "api_key",
        "secret",
        "token",
        "authorization",
    ]
)
"""Fields whose value is never written."""

NUMBER_FIELDS = frozenset(["to", "recipient", "number", "digits", "source", "dest", "destination", "sender", "msisdn"])
"""Fields in which an integer is a telephone number as well."""

ID_FIELDS = frozenset(
    [
        "id",
        "message_id",
        "carrier_id",
        "carrier_message_id",
        "pid",
        "at",
        "timestamp",
        "policy",  # a version, as in decisions
        "node",
        "worker",
        "dead",  # a worker: node/incarnation
    ]
)
"""Fields with long runs of digits that are not telephone numbers."""

_UUID = r"(?<![0-9a-f])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9a-f])"
_DIGEST = r"(?<![0-9a-z])(?=(?:[0-9]*[a-f]){3})(?:[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?![0-9a-z])"
# Whatever precedes or follows: to46701234123, n_46701234123, %2B46701234123; with spaces only after a +.
_NUMBER = r"\+\d(?:[ ().-]{0,2}\d){6,16}(?!\d)|(?<![\d.])\d{7,17}(?!\d)"
_LOOKED_FOR = re.compile(f"(?P<kept>{_UUID}|{_DIGEST})|{_NUMBER}", re.IGNORECASE)
_URL = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<user>[^\s/?#@\"'<>]*@)?(?P<rest>[^\s?#\"'<>]*)(?P<query>[?#][^\s\"'<>]*)?",
    re.IGNORECASE,
)
_DEPTH = 4  # deeper nested values are cut


def mask(text: str) -> str:
    """Return ``text`` with everything that looks like a telephone number as ``+4670****123``; ids and digests stay.

    User, password and query of URLs are withheld: they may contain secrets.
    """
    if "://" in text:
        text = _URL.sub(_bare, text)
    return _LOOKED_FOR.sub(_mask_match, text)


def _bare(found: re.Match[str]) -> str:
    user = "…@" if found["user"] else ""
    query = f"{found['query'][0]}…" if found["query"] else ""
    return f"{found['scheme']}{user}{found['rest']}{query}"


def _mask_match(found: re.Match[str]) -> str:
    whole = found.group()
    if found["kept"]:
        return whole
    plus, digits = ("+", re.sub(r"\D", "", whole)) if whole[0] == "+" else ("", whole)
    head, tail = (4, 3) if len(digits) >= 10 else (2, 2)
    return f"{plus}{digits[:head]}****{digits[-tail:]}"


def _clean(value: Any, depth: int = _DEPTH) -> Any:
    """Return ``value`` with every string masked, in types that JSON supports."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode("latin-1")
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {mask(str(key)): _clean_field(str(key), item, depth - 1) for key, item in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [_clean(item, depth - 1) for item in value]
    return mask(str(value))


def _clean_field(name: str, value: Any, depth: int = _DEPTH) -> Any:
    if name in NEVER:
        return "(not logged)"
    if name in ID_FIELDS and isinstance(value, str | int):
        return value
    if name in NUMBER_FIELDS and isinstance(value, int):
        value = str(value)
    return _clean(value, depth)


def mask_numbers(_logger: object, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """structlog processor: mask numbers and withhold texts and secrets in every field."""
    return {name: value if name == "exc_info" else _clean_field(name, value) for name, value in line.items()}


def _stringify(value: object) -> str:
    return str(value)


def _to_json(_logger: object, _method: str, line: Mapping[str, Any]) -> str:
    try:
        return visible_json(orjson.dumps(line, default=_stringify, option=orjson.OPT_NON_STR_KEYS).decode())
    except orjson.JSONEncodeError:  # a surrogate, or an integer beyond 64 bits
        return json.dumps(line, default=_stringify)


def _escape_for_terminal(_logger: object, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """structlog processor for a terminal: escape control characters; a traceback keeps its lines."""
    return {name: _terminal_safe(value, name != "exception") for name, value in line.items()}


def _terminal_safe(value: Any, one_line: bool = True) -> Any:
    if isinstance(value, str):
        return visible(value, one_line=one_line)
    if isinstance(value, dict):
        return {visible(str(name), one_line=True): _terminal_safe(item) for name, item in value.items()}
    return [_terminal_safe(item) for item in value] if isinstance(value, list) else value


class _Forward(logging.Handler):
    """Forwards records of the standard library's ``logging`` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger().bind(logger=record.name)
        level = min(record.levelno, logging.ERROR)
        logger.log(level, record.getMessage(), exc_info=record.exc_info or None)


def configure(level: Level = "info", form: Form = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the process; may be called again, for instance after a reload."""
    out = stream or sys.stderr
    threshold = getattr(logging, level.upper())
    console = form == "console" or (form == "auto" and out.isatty())
    renderer = structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=28)
    tail: list[Any] = [_escape_for_terminal, renderer] if console else [_to_json]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            mask_numbers,
            *tail,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(threshold, logging.WARNING))  # libraries log only problems
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of every bad request, which clients can flood
