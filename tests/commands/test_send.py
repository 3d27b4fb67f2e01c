from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit
from tests.client.canned_gateway import NO_RESPONSE, CannedGateway

runner = CliRunner()


def invoke(server: CannedGateway, *arguments: str, text: str | None = None) -> tuple[int, str]:
    done = runner.invoke(app, [*arguments, "--url", server.url, "--key", "k"], input=text)
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


def test_a_file_is_sent_with_a_summary(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    file.write_text("to,client_ref\n+46701740605,a\n+46701740606,b\nnobody,c\n")
    server.reply(202, answer("queued", "deferred", ("invalid_number", "messages[2].to: is not a number")))
    code, output = invoke(server, "send", "--file", str(file), "--text", "Hi", "--category", "marketing")
    assert code == Exit.REFUSED
    assert "2 accepted (1 queued, 1 deferred)" in output
    assert "1 invalid_number" in output
    (request,) = server.requests
    assert request.path == "/v1/messages/batch"
    assert request.body["messages"][0] == {
        "to": "+46701740605",
        "text": "Hi",
        "category": "marketing",
        "client_ref": "a",
    }
    failed = (tmp_path / "parcels.failed.csv").read_text()
    assert failed == "to,client_ref,_code,_detail\nnobody,c,invalid_number,line 4: to: is not a number\n"


def test_all_accepted_is_exit_code_0_and_no_file(server: CannedGateway, tmp_path: Path) -> None:
    server.reply(202, answer("queued"))
    target = tmp_path / "f.ndjson"
    line = '{"to": "+46701740605", "text": "Hi"}\n'
    code, output = invoke(server, "send", "--file", "-", "--json", "--failures", str(target), text=line)
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


def test_a_request_refused_for_some_rows_is_repeated_without_them(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text("".join(f'{{"to": "{index}", "text": "x"}}\n' for index in range(3)))
    errors = [{"field": "messages[1].to", "code": "malformed", "detail": "too long"}]
    server.reply(400, {"status": 400, "title": "T", "code": "malformed", "detail": "d", "errors": errors})
    server.reply(202, answer("queued", "queued"))
    code, output = invoke(server, "send", "--file", str(file))
    assert code == Exit.REFUSED
    assert "2 accepted" in output
    assert [message["to"] for message in server.requests[1].body["messages"]] == ["0", "2"]
    failed = json.loads((tmp_path / "f.failed.ndjson").read_text())
    assert failed == {"to": "1", "text": "x", "_code": "malformed", "_detail": "line 2: to: too long"}


def test_messages_accepted_earlier_are_counted(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text('{"to": "+46701740605", "text": "x"}\n')
    repeated = answer("delivered")
    repeated["results"][0]["duplicate"] = True
    server.reply(202, repeated)
    code, output = invoke(server, "send", "--file", str(file))
    assert code == Exit.OK
    assert "0 accepted" in output
    assert "1 accepted earlier and not sent again" in output


def test_an_unknown_key_stops_sending(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "f.ndjson"
    file.write_text('{"to": "+46701740605", "text": "x"}\n')
    server.reply(401, {"status": 401, "title": "T", "code": "unauthorized", "detail": "no such key"})
    code, output = invoke(server, "send", "--file", str(file))
    assert code == Exit.REFUSED
    assert "Stopped after 0 rows: the API key is missing or unknown." in output
    assert "Fix this, then run the same command again" in output


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
def test_options_that_exclude_each_other(server: CannedGateway, arguments: tuple[str, ...]) -> None:
    code, output = invoke(server, "send", *arguments)
    assert (code, server.requests) == (Exit.USAGE, [])
    assert output


def test_an_invalid_value_names_the_valid_ones(server: CannedGateway) -> None:
    _, output = invoke(server, "send", "--to", "+46701740605", "--text", "Hi", "--category", "spam")
    assert "category: expected one of " in output
    assert "got 'spam'" in output


def test_a_folder_is_refused(server: CannedGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (".", "..", "/"):
        code, output = invoke(server, "send", "--file", folder, "--text", "Hi")
        assert (code, output) == (Exit.USAGE, f"{folder}: Is a directory\n")


def test_a_dry_run_refuses_a_row_without_a_text_as_sending_it_would(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(b"\xef\xbb\xbfto,text\n+46701740605,Hi\n+46701740606,\n")
    code, output = invoke(server, "send", "--file", str(file), "--dry-run")
    assert code == Exit.REFUSED
    assert "1 message in 1 segment; nothing was sent" in output
    assert "line 3: text: missing, and no template" in output
    assert "by a template" not in output
    assert "Read as" not in output  # marked UTF-8 is UTF-8
    server.reply(202, answer("queued"))
    invoke(server, "send", "--file", str(file))
    assert len(server.requests[0].body["messages"]) == 1


def test_failures_never_replace_the_file(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("to,text\n1,x\n")
    assert invoke(server, "send", "--file", str(file), "--failures", str(file))[0] == Exit.USAGE
    assert file.read_text() == "to,text\n1,x\n"


def test_a_lost_response_is_retried_under_the_same_key(server: CannedGateway) -> None:
    server.replies = [NO_RESPONSE, (202, {"id": "1", "status": "queued"}, {})]
    assert invoke(server, "send", "--to", "+46701740605", "--text", "Hi")[0] == Exit.OK
    assert len(set(server.keys())) == 1
    assert len(server.requests) == 2


def test_a_template_with_its_variables(server: CannedGateway) -> None:
    server.reply(202, {"id": "1", "status": "queued"})
    words = ("--template", "parcel", "--var", "n=2", "--var", "shop=A=B")
    assert invoke(server, "send", "--to", "+46701740605", *words)[0] == Exit.OK
    assert server.requests[0].body == {
        "to": "+46701740605",
        "template": "parcel",
        "vars": {"n": "2", "shop": "A=B"},
    }


def test_columns_fill_the_text_and_empty_ones_refuse_the_row(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    file.write_bytes("手机号;姓名;城市\n070-174 06 05;Åsa;Lund\n0701740606;;Lund\n".encode("utf-16"))
    server.reply(202, answer("queued"))
    text = "Hello {姓名}, your parcel is here"
    code, output = invoke(server, "send", "--file", str(file), "--text", text, "--country", "se")
    assert code == Exit.REFUSED
    (message,) = server.requests[0].body["messages"]
    assert (message["to"], message["text"]) == ("+46701740605", "Hello Åsa, your parcel is here")
    assert "1 accepted" in output
    assert "Unused columns: 城市." in output
    failed = (tmp_path / "parcels.failed.csv").read_text("utf-8-sig").splitlines()
    assert failed[0] == "手机号;姓名;城市;_code;_detail"
    assert failed[1] == "0701740606;;Lund;malformed;line 3: {姓名} is empty in this row"


def test_an_error_late_in_a_file_keeps_the_summary(server: CannedGateway, tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(b'to,text\n1,a\n2,b\n1,a\n3,"open\n4,\xff\n5,c\n')
    server.reply(202, answer("queued", "queued", "queued"))
    code, output = invoke(server, "send", "--file", str(file))
    assert code == Exit.REFUSED
    assert [message["to"] for message in server.requests[0].body["messages"]] == ["1", "2", "5"]
    assert "3 accepted" in output
    assert "2 malformed" in output
    assert "and text of an earlier row: 1 (first: line 4, like line 2)" in output
    failed = (tmp_path / "f.failed.csv").read_bytes().splitlines()
    assert failed[1].startswith(b"3,open,malformed,")
    assert b"line 5: unbalanced quotes" in failed[1]
    assert failed[2].startswith(b"4,\xff,malformed,")


def test_a_dry_run_counts_messages_and_segments_and_sends_nothing(server: CannedGateway, tmp_path: Path) -> None:
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
    code, output = invoke(server, "send", "--file", str(file), "--text", "Hello", "--dry-run")
    assert (code, server.requests) == (Exit.REFUSED, [])
    assert "4 messages in 5 segments; nothing was sent" in output
    assert "2 × 1 segment (gsm7)" in output
    assert "1 × 2 segments (gsm7)" in output
    assert "line 5: to: contains 'n'" in output
    assert "Rows with the recipient of an earlier row but another text: 1 (first: line 6, like line 2)" in output
    code, output = invoke(server, "send", "--file", str(file), "--dry-run", "--text", "Hello", "--json")
    told = json.loads(output)
    assert (told["messages"], told["segments"], [one["line"] for one in told["faults"]]) == (4, 5, [5])
    assert list(tmp_path.iterdir()) == [file]


def test_waiting_prints_the_id_first_and_a_timeout_is_exit_code_5(server: CannedGateway) -> None:
    server.reply(202, {"id": "m1", "status": "queued"})
    server.replies += [(200, {"id": "m1", "to": "+1", "status": "sent", "final": False}, {}) for _ in range(40)]
    words = ("send", "--to", "+46701740605", "--text", "Hi", "--wait", "0.1")
    code, output = invoke(server, *words)
    assert code == Exit.TIMED_OUT == 5
    assert output.startswith("accepted as m1\n")
    assert "not final after 0.1 s (sent); check again with smpp-gateway status m1" in output


def test_a_lone_surrogate_refuses_the_message(server: CannedGateway, tmp_path: Path) -> None:
    code, output = invoke(server, "send", "--to", "+46701740605", "--text", "half \ud83d")
    assert (code, server.requests) == (Exit.REFUSED, [])
    assert "text: contains half a character" in output
