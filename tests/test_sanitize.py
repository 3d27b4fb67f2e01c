from __future__ import annotations

import io
import json

from gateway.client import Answer
from gateway.commands.output import SafeConsole, show, timeline
from gateway.sanitize import visible, visible_json

HOSTILE = "a\x1b[2Jb\x07\x9bc\u202ed\u2066\re\ud83d"
RAW = set("\x1b\x07\x9b\u202e\u2066\r\ud83d")


def test_control_characters_and_direction_marks_are_escaped() -> None:
    assert visible(HOSTILE) == "a\\x1b[2Jb\\x07\\x9bc\\u202ed\\u2066\\re\\ud83d"
    assert visible("Åsa 您好 👋🏽\tשלום\n") == "Åsa 您好 👋🏽\tשלום\n"
    assert visible("a\nb", one_line=True) == "a\\nb"


def test_escaped_json_parses_to_the_same_values() -> None:
    text = json.dumps({"a": "x\x9by\u202ez"}, ensure_ascii=False)
    shown = visible_json(text)
    assert RAW.isdisjoint(shown)
    assert json.loads(shown) == json.loads(text)


def test_answers_tables_and_timelines_leave_the_terminal_alone() -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, force_terminal=True, width=200, color_system=None)
    show(Answer(200, {"id": "m1", "carrier": HOSTILE, "status": HOSTILE}), console)
    show(Answer(400, {"title": HOSTILE, "detail": HOSTILE, "code": "malformed", "status": 400}), console)
    console.print(timeline([{"status": HOSTILE, "error": HOSTILE}]))
    assert RAW.isdisjoint(out.getvalue())
    assert out.getvalue().count("\\x1b[2J") >= 5
