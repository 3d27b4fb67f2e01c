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
        ("123456", "123456"),
        ("to46701234123", "to4670****123"),
        ("n_46701234123_x", "n_4670****123_x"),
        ("GET /v1/consents/%2B46701234123?brand=a", "GET /v1/consents/%2B4670****123?brand=a"),
        ("+46 70-123 41 23 asked", "+4670****123 asked"),
        ("policy 3f2a9c0d1b7e4412", "policy 3f2a9c0d1b7e4412"),
        ("POST https://user:pw@app.example/in?token=s3cret&to=1: 500", "POST https://…@app.example/in?… 500"),
        ("store redis://:pw@127.0.0.1:6379/0#x", "store redis://…@127.0.0.1:6379/0#…"),
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


def test_versions_and_worker_names_are_not_masked() -> None:
    line = logged(policy="2-21619635-tz2026f", dead="vm/60483602", node="vm-60483602")
    assert (line["policy"], line["dead"], line["node"]) == ("2-21619635-tz2026f", "vm/60483602", "vm-60483602")


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


def test_events_below_the_level_are_dropped() -> None:
    out = io.StringIO()
    logs.configure("error", "json", out)
    structlog.get_logger().warning("not said")
    structlog.get_logger().error("said")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["said"]


def test_records_of_the_logging_module_have_the_same_format() -> None:
    out = io.StringIO()
    logs.configure("info", "json", out)
    logging.getLogger("some.library").warning("peer %s", "+46701234123")
    line = json.loads(out.getvalue())
    assert (line["event"], line["logger"], line["level"]) == ("peer +4670****123", "some.library", "warning")


def test_the_console_format_is_readable() -> None:
    out = io.StringIO()
    logs.configure("info", "console", out)
    structlog.get_logger().info("carrier bound", carrier="north")
    assert "carrier bound" in out.getvalue()
    assert "carrier=north" in out.getvalue()


@pytest.mark.parametrize("form", ["console", "json"])
def test_text_from_outside_cannot_move_the_cursor_of_a_terminal(form: Any) -> None:
    out = io.StringIO()
    logs.configure("info", form, out)
    hostile = "a\x1b[2Jb\x07c\x9bd\u202ee\u2066f\rg\nh\ud83d"
    structlog.get_logger().warning(hostile, system_id=hostile, peers=[hostile], by={hostile: 1})
    output = out.getvalue()
    assert output.count("\n") == 1
    assert [char for char in output if char in "\x1b\x07\x9b\u202e\u2066\r\ud83d"] == []
    assert "c\\x9bd" in output or "c\\u009bd" in output


def test_numbers_in_names_of_fields_are_masked() -> None:
    assert logged(waiting={"+46701234123": 2})["waiting"] == {"+4670****123": 2}
