from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit
from tests.client.door import HANG_UP, Door, opened

runner = CliRunner()


@pytest.fixture
def door() -> Iterator[Door]:
    with opened() as door:
        yield door


def invoke(door: Door, *arguments: str, text: str | None = None) -> tuple[int, str]:
    done = runner.invoke(app, [*arguments, "--url", door.url, "--key", "k"], input=text)
    return done.exit_code, done.output


def answer(*rows: Any) -> dict[str, Any]:
    """An answer to a batch: a status is an accepted message, a pair (code, detail) one refused."""
    results = [
        {"index": index, "id": f"id{index}", "status": row, "to": "+1"}
        if isinstance(row, str)
        else {"index": index, "problem": {"status": 400, "title": "T", "code": row[0], "detail": row[1]}}
        for index, row in enumerate(rows)
    ]
    refused = sum(not isinstance(row, str) for row in rows)
    return {"accepted": len(rows) - refused, "refused": refused, "results": results}


def test_a_file_is_sent_and_summed_up(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    file.write_text("to,client_ref\n+46701740605,a\n+46701740606,b\nnobody,c\n")
    door.reply(202, answer("queued", "deferred", ("invalid_number", "messages[2].to: is not a number")))
    code, output = invoke(door, "send", "--file", str(file), "--text", "Hi", "--category", "marketing")
    assert code == Exit.REFUSED
    assert "2 accepted (1 queued, 1 deferred)" in output
    assert "1 invalid_number" in output
    (asked,) = door.asked
    assert asked.path == "/v1/messages/batch"
    assert asked.body["messages"][0] == {
        "to": "+46701740605",
        "text": "Hi",
        "category": "marketing",
        "client_ref": "a",
    }
    failed = (tmp_path / "parcels.failed.csv").read_text()
    assert failed == "to,client_ref,_code,_detail\nnobody,c,invalid_number,line 4: to: is not a number\n"


def test_all_accepted_is_exit_code_0_and_no_file(door: Door, tmp_path: Path) -> None:
    door.reply(202, answer("queued"))
    target = tmp_path / "f.ndjson"
    line = '{"to": "+46701740605", "text": "Hi"}\n'
    code, output = invoke(door, "send", "--file", "-", "--json", "--failures", str(target), text=line)
    assert (code, target.exists()) == (Exit.OK, False)
    assert json.loads(output) == {
        "rows": 1,
        "accepted": 1,
        "already_accepted": 0,
        "same_rows": 0,
        "same_recipient": 0,
        "refused": 0,
        "statuses": {"queued": 1},
        "codes": {},
        "unused_columns": [],
        "stopped": None,
        "failures": None,
    }


def test_a_request_refused_for_some_rows_is_repeated_without_them(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text("".join(f'{{"to": "{index}", "text": "x"}}\n' for index in range(3)))
    errors = [{"field": "messages[1].to", "code": "malformed", "detail": "too long"}]
    door.reply(400, {"status": 400, "title": "T", "code": "malformed", "detail": "d", "errors": errors})
    door.reply(202, answer("queued", "queued"))
    code, output = invoke(door, "send", "--file", str(file))
    assert code == Exit.REFUSED
    assert "2 accepted" in output
    assert [message["to"] for message in door.asked[1].body["messages"]] == ["0", "2"]
    failed = json.loads((tmp_path / "f.failed.ndjson").read_text())
    assert failed == {"to": "1", "text": "x", "_code": "malformed", "_detail": "line 2: to: too long"}


def test_what_was_handed_in_before_is_said(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text('{"to": "+46701740605", "text": "x"}\n')
    repeated = answer("delivered")
    repeated["results"][0]["duplicate"] = True
    door.reply(202, repeated)
    code, output = invoke(door, "send", "--file", str(file))
    assert code == Exit.OK
    assert "0 accepted" in output
    assert "1 handed in before and not sent again" in output


def test_a_key_that_is_not_known_ends_it(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text('{"to": "+46701740605", "text": "x"}\n')
    door.reply(401, {"status": 401, "title": "T", "code": "unauthorized", "detail": "no such key"})
    code, output = invoke(door, "send", "--file", str(file))
    assert code == Exit.REFUSED
    assert "Stopped after 0 rows: the API key is missing or unknown." in output
    assert "Mend that, then run the same command again" in output


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--to", "+46701740605"),
        ("--to", "+46701740605", "--template", "parcel", "--var", "n"),
        ("--file", "none.csv"),
        ("--file", "x.csv", "--to", "+46701740605"),
        ("--file", "x.csv", "--wait", "5"),
        ("--to", "+46701740605", "--text", "Hi", "--category", "spam"),
        ("--to", "+46701740605", "--text", "Hi", "--send-at", "soon"),
    ],
)
def test_what_cannot_be_meant(door: Door, arguments: tuple[str, ...]) -> None:
    code, output = invoke(door, "send", *arguments)
    assert (code, door.asked) == (Exit.USAGE, [])
    assert output


def test_a_wrong_value_is_told_with_what_is_allowed(door: Door) -> None:
    _, output = invoke(door, "send", "--to", "+46701740605", "--text", "Hi", "--category", "spam")
    assert "category: expected one of " in output
    assert "got 'spam'" in output


def test_a_folder_is_no_file_of_messages(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "..", "/"):
        code, output = invoke(door, "send", "--file", folder, "--text", "Hi")
        assert (code, output) == (Exit.USAGE, f"{folder}: Is a directory\n")


def test_a_dry_run_refuses_a_row_without_a_text_as_sending_it_would(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(b"\xef\xbb\xbfto,text\n+46701740605,Hi\n+46701740606,\n")
    code, output = invoke(door, "send", "--file", str(file), "--dry-run")
    assert code == Exit.REFUSED
    assert "1 message in 1 segment; nothing was handed in" in output
    assert "line 3: text: there is none, and no template" in output
    assert "template, whose text" not in output
    assert "Read as" not in output  # marked UTF-8 is UTF-8
    door.reply(202, answer("queued"))
    invoke(door, "send", "--file", str(file))
    assert len(door.asked[0].body["messages"]) == 1


def test_the_failures_never_replace_the_file(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("to,text\n1,x\n")
    assert invoke(door, "send", "--file", str(file), "--failures", str(file))[0] == Exit.USAGE
    assert file.read_text() == "to,text\n1,x\n"


def test_a_lost_answer_is_asked_for_again_under_the_same_key(door: Door) -> None:
    door.replies = [HANG_UP, (202, {"id": "1", "status": "queued"}, {})]
    assert invoke(door, "send", "--to", "+46701740605", "--text", "Hi")[0] == Exit.OK
    assert len(set(door.keys())) == 1
    assert len(door.asked) == 2


def test_a_template_with_its_variables(door: Door) -> None:
    door.reply(202, {"id": "1", "status": "queued"})
    words = ("--template", "parcel", "--var", "n=2", "--var", "shop=A=B")
    assert invoke(door, "send", "--to", "+46701740605", *words)[0] == Exit.OK
    assert door.asked[0].body == {
        "to": "+46701740605",
        "template": "parcel",
        "vars": {"n": "2", "shop": "A=B"},
    }


def test_columns_fill_the_text_and_what_is_left_unfilled_is_refused(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    file.write_bytes("手机号;姓名;城市\n070-174 06 05;Åsa;Lund\n0701740606;;Lund\n".encode("utf-16"))
    door.reply(202, answer("queued"))
    text = "Hello {姓名}, your parcel is here"
    code, output = invoke(door, "send", "--file", str(file), "--text", text, "--country", "se")
    assert code == Exit.REFUSED
    (message,) = door.asked[0].body["messages"]
    assert (message["to"], message["text"]) == ("+46701740605", "Hello Åsa, your parcel is here")
    assert "1 accepted" in output
    assert "Columns that no message uses: 城市." in output
    failed = (tmp_path / "parcels.failed.csv").read_text("utf-8-sig").splitlines()
    assert failed[0] == "手机号;姓名;城市;_code;_detail"
    assert failed[1] == "0701740606;;Lund;malformed;line 3: {姓名} of the text is empty in this row"


def test_what_is_wrong_late_in_a_file_ends_with_the_summary_of_what_was_sent(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(b'to,text\n1,a\n2,b\n1,a\n3,"open\n4,\xff\n5,c\n')
    door.reply(202, answer("queued", "queued", "queued"))
    code, output = invoke(door, "send", "--file", str(file))
    assert code == Exit.REFUSED
    assert [message["to"] for message in door.asked[0].body["messages"]] == ["1", "2", "5"]
    assert "3 accepted" in output
    assert "2 malformed" in output
    assert "1 say the same to the same recipient as an earlier row (first: line 4, as line 2)" in output
    failed = (tmp_path / "f.failed.csv").read_bytes().splitlines()
    assert failed[1].startswith(b"3,open,malformed,")
    assert b"line 5: its quotes do not match" in failed[1]
    assert failed[2].startswith(b"4,\xff,malformed,")


def test_a_dry_run_counts_messages_and_segments_and_sends_nothing(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    rows = [
        "to,text",
        "+46701740605,Hi",
        f"+46701740606,{'x' * 161}",
        "+8613800138000,你好",
        "nobody,Hi",
        "+46701740605",
    ]
    file.write_text("\n".join(rows) + "\n")
    code, output = invoke(door, "send", "--file", str(file), "--text", "Hello", "--dry-run")
    assert (code, door.asked) == (Exit.REFUSED, [])
    assert "4 messages in 5 segments; nothing was handed in" in output
    assert "2 × 1 segment (gsm7)" in output
    assert "1 × 2 segments (gsm7)" in output
    assert "line 5: to: holds 'n'" in output
    assert "1 have the recipient of an earlier row, and say something else (first: line 6, as line 2)" in output
    code, output = invoke(door, "send", "--file", str(file), "--dry-run", "--text", "Hello", "--json")
    told = json.loads(output)
    assert (told["messages"], told["segments"], [one["line"] for one in told["faults"]]) == (4, 5, [5])
    assert list(tmp_path.iterdir()) == [file]


def test_waiting_says_the_id_first_and_tells_a_time_out_from_a_refusal(door: Door) -> None:
    door.reply(202, {"id": "m1", "status": "queued"})
    door.replies += [(200, {"id": "m1", "to": "+1", "status": "sent", "final": False}, {}) for _ in range(40)]
    words = ("send", "--to", "+46701740605", "--text", "Hi", "--wait", "0.1")
    code, output = invoke(door, *words)
    assert code == Exit.TIMED_OUT == 5
    assert output.startswith("accepted as m1\n")
    assert "sent after 0.1 s, which is no end yet; smpp-gateway status m1 asks again" in output


def test_a_half_character_is_that_messages_error_and_no_traceback(door: Door, tmp_path: Path) -> None:
    code, output = invoke(door, "send", "--to", "+46701740605", "--text", "half \ud83d")
    assert (code, door.asked) == (Exit.REFUSED, [])
    assert "text: holds half a character" in output
