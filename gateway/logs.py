"""Logs: one JSON object a line on standard error (a readable form on a terminal), numbers masked, texts never.

Every other module says ``structlog.get_logger()`` and no more; the program calls ``configure`` once. What the standard
library's ``logging`` says (uvicorn, asyncio, aiohttp) takes the same way. The masking here is the last line of defence:
a module still hands over no text and no password in the first place.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal, TextIO

import orjson
import structlog

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
"""Fields whose value is never written, whoever passes it."""

NUMBER_FIELDS = frozenset(["to", "recipient", "number", "digits", "source", "dest", "destination", "sender", "msisdn"])
"""Fields in which even a bare integer is a telephone number."""

ID_FIELDS = frozenset(["id", "message_id", "carrier_id", "carrier_message_id", "pid", "at", "timestamp"])
"""Fields that may hold long runs of digits and are no telephone numbers."""

_UUID_OR_NUMBER = re.compile(
    r"(?P<uuid>\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b)|(?<![\w.])\+?\d{7,15}(?!\w)", re.I
)
_DEPTH = 4  # nested values beyond this are cut: a log line is no dump


def mask(text: str) -> str:
    """Everything in ``text`` that looks like a telephone number, as ``+4670****123``; uuids stay."""
    return _UUID_OR_NUMBER.sub(_mask_match, text)


def _mask_match(found: re.Match[str]) -> str:
    whole = found.group()
    if found["uuid"]:
        return whole
    plus, digits = ("+", whole[1:]) if whole[0] == "+" else ("", whole)
    head, tail = (4, 3) if len(digits) >= 10 else (2, 2)
    return f"{plus}{digits[:head]}****{digits[-tail:]}"


def _clean(value: Any, depth: int = _DEPTH) -> Any:
    """``value`` with every string in it masked, in shapes that JSON knows."""
    if isinstance(value, bytes | bytearray | memoryview):
        value = bytes(value).decode("latin-1")
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth == 0:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): _clean_field(str(key), item, depth - 1) for key, item in value.items()}
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
    """structlog processor: masks numbers and withholds texts and secrets in every field of a line."""
    return {name: value if name == "exc_info" else _clean_field(name, value) for name, value in line.items()}


def _stringify(value: object) -> str:
    return str(value)


def _to_json(_logger: object, _method: str, line: Mapping[str, Any]) -> str:
    return orjson.dumps(line, default=_stringify, option=orjson.OPT_NON_STR_KEYS).decode()


class _Forward(logging.Handler):
    """Hands what the standard library's loggers say to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger().bind(logger=record.name)
        level = min(record.levelno, logging.ERROR)
        logger.log(level, record.getMessage(), exc_info=record.exc_info or None)


def configure(level: Level = "info", form: Form = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for the whole process; may be called again, for instance after a reload."""
    out = stream or sys.stderr
    threshold = getattr(logging, level.upper())
    console = form == "console" or (form == "auto" and out.isatty())
    tail: list[Any] = [structlog.dev.ConsoleRenderer(colors=out.isatty(), pad_event_to=28)] if console else [_to_json]
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
    root.setLevel(max(threshold, logging.WARNING))  # libraries speak when something is wrong
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # it warns of every bad request, at strangers' will
