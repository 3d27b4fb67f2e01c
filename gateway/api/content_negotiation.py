"""The media type of a response, chosen by the request's ``Accept`` header (RFC 9110, 12.5.1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from gateway.api.problems import refuse

JSON = b"application/json"
NDJSON = b"application/x-ndjson"


def negotiate(headers: Iterable[tuple[bytes, bytes]], default: bytes, others: Sequence[bytes]) -> bytes:
    """Return the media type that the client prefers; ``default`` without ``Accept`` or when none is preferred to it.

    Raises HttpProblem (406) when none is acceptable.
    """
    accept = b",".join(value for name, value in headers if name == b"accept")
    if not accept.strip():
        return default
    wanted = _ranges(accept.lower())
    available = (default, *(each for each in others if each != default))
    best = max(available, key=lambda each: _quality(each, wanted))  # the first of equals
    if not _quality(best, wanted):
        names = b" or ".join(available).decode()
        raise refuse("not_acceptable", f"the response can be {names}: accept one of them, or send no Accept header")
    return best


def _ranges(accept: bytes) -> dict[bytes, float]:
    """Return media range -> quality, 0 to 1."""
    found: dict[bytes, float] = {}
    for item in accept.split(b","):
        media_range, *parameters = (word.strip() for word in item.split(b";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                with suppress(ValueError):
                    quality = float(parameter[2:])
        if media_range:
            found[media_range] = quality
    return found


def _quality(media_type: bytes, wanted: Mapping[bytes, float]) -> float:
    """Return the quality of the most specific range that matches, 0.0 when none does."""
    family = media_type.partition(b"/")[0] + b"/*"
    return next((wanted[one] for one in (media_type, family, b"*/*") if one in wanted), 0.0)
