from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from gateway import logs


@pytest.fixture(autouse=True)
def unconfigured_afterwards() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(**fields: Any) -> dict[str, Any]:
    out = io.StringIO()
    logs.configure("info", "json", out)
    structlog.get_logger().warning("something", **fields)
    line = json.loads(out.getvalue())
    assert isinstance(line, dict)
    return line


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("+46701234123", "+4670****123"),
        ("to 46701234123, again +8613800138000.", "to 4670****123, again +8613****000."),
        ("1234567", "12****67"),
        ("bound to 127.0.0.1:27750 in 120 ms", "bound to 127.0.0.1:27750 in 120 ms"),
        ("01991234-1234-7123-8123-012345678901", "01991234-1234-7123-8123-012345678901"),
        ("a1234567890b", "a1234567890b"),
        ("123456", "123456"),
    ],
)
def test_numbers_are_masked_and_nothing_else_is(text: str, masked: str) -> None:
    assert logs.mask(text) == masked


def test_masks_in_every_shape_of_value() -> None:
    line = logged(
        reason="refused +46701234123",
        peer={"to": 46701234123, "list": ["46701234123", b"46701234123"]},
        message_id="1234567890123",
        depth=1234567,
    )
    assert line["reason"] == "refused +4670****123"
    assert line["peer"] == {"to": "4670****123", "list": ["4670****123", "4670****123"]}
    assert line["message_id"] == "1234567890123"
    assert line["depth"] == 1234567


@pytest.mark.parametrize("name", sorted(logs.NEVER))
def test_texts_and_secrets_are_withheld(name: str) -> None:
    assert logged(**{name: "hush"})[name] == "(not logged)"


def test_tracebacks_are_masked() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    try:
        raise ValueError("no such number: +46701234123")
    except ValueError:
        structlog.get_logger().exception("failed")
    assert "46701234123" not in out.getvalue()
    assert "no such number: +4670****123" in out.getvalue()


def test_level_holds_back_what_is_below() -> None:
    out = io.StringIO()
    logs.configure("error", "json", out)
    structlog.get_logger().warning("not said")
    structlog.get_logger().error("said")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["said"]


def test_the_standard_library_speaks_the_same_way() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    logging.getLogger("some.library").warning("peer %s", "+46701234123")
    line = json.loads(out.getvalue())
    assert (line["event"], line["logger"], line["level"]) == ("peer +4670****123", "some.library", "warning")


def test_console_form_is_for_people() -> None:
    out = io.StringIO()
    logs.configure("info", "console", out)
    structlog.get_logger().info("carrier bound", carrier="north")
    assert "carrier bound" in out.getvalue()
    assert "carrier=north" in out.getvalue()
