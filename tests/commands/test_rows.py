from __future__ import annotations

import io
from pathlib import Path

import pytest

from gateway.commands.rows import BadFile, Failures, Row, count, read


def rows(content: str, name: str = "x.csv", prefix: str = "", **usual: str) -> list[Row]:
    return list(read(io.StringIO(content, newline=""), name, usual, prefix))


def test_a_csv_with_a_header() -> None:
    text = '\ufeffto,text,from,priority\n+46701740605,"Hello, you",Shop,2\n\n+46701740606,"two\nlines",,\n'
    first, second = (row.message for row in rows(text))
    assert first is not None
    assert second is not None
    assert (first.to, first.text, first.sender, first.priority) == ("+46701740605", "Hello, you", "Shop", 2)
    assert (second.text, second.sender, second.priority) == ("two\nlines", None, None)


def test_ndjson_with_metadata_and_blank_lines() -> None:
    text = '{"to": "+46701740605", "text": "Hi", "metadata": {"order": 7}}\n\n{"to": "+46701740606", "text": "Ho"}\n'
    first, second = rows(text, "x.ndjson")
    assert first.message is not None
    assert (first.message.metadata, first.line, second.line) == ({"order": 7}, 1, 3)


def test_a_template_with_its_variables() -> None:
    (one,) = rows('to,template,vars\n+46701740605,parcel,"{""n"": 2}"\n')
    assert one.message is not None
    assert (one.message.text, one.message.template, one.message.vars) == (None, "parcel", {"n": 2})


def test_what_the_row_does_not_say_is_as_usual() -> None:
    (one,) = rows("to\n+46701740605\n", text="Hi", category="otp")
    assert one.message is not None
    assert (one.message.text, one.message.category) == ("Hi", "otp")


def test_a_reference_says_the_same_for_the_same_row_in_the_same_place() -> None:
    text = "to,text\n+46701740605,Hi\n+46701740605,Hi\n"
    first, second = (row.message.client_ref for row in rows(text) if row.message is not None)
    again, _ = (row.message.client_ref for row in rows(text) if row.message is not None)
    other, _ = (row.message.client_ref for row in rows(text.replace("Hi", "Ho")) if row.message is not None)
    assert first == again
    assert len({first, second, other}) == 3
    assert [row.message.client_ref for row in rows(text, prefix="sale") if row.message] == ["sale:2", "sale:3"]
    (own,) = rows("to,text,client_ref\n+46701740605,Hi,order-1\n", prefix="sale")
    assert own.message is not None
    assert own.message.client_ref == "order-1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("to,txt\n1,x\n", "column 'txt' is not a field"),
        ("text\nx\n", "no column named to"),
        ("", "no column named to"),
        ('to,text\n1,"open\n', "unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(BadFile, match=said):
        rows(text)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"to": "1", "text": "x", "colour": "red"}', "colour: there is no such field"),
        ('{"text": "x"}', "to"),
        ('{"to": "1", "text": "x", "category": "spam"}', "category"),
        ('{"to": "1", "text": "x", "send_at": "soon"}', "send_at"),
        ('{"to": "1", "text": "x", "metadata": "{"}', "metadata and vars must be JSON"),
    ],
)
def test_a_row_that_cannot_be_read_is_one_failure(line: str, said: str) -> None:
    bad, good = rows(f'{line}\n{{"to": "1", "text": "x"}}\n', "x.ndjson")
    assert bad.message is None
    assert said in bad.fault
    assert good.message is not None


def test_a_csv_row_that_is_too_long() -> None:
    (bad,) = rows("to,text\n1,x,y\n")
    assert bad.fault == "3 cells, but the header has 2"


@pytest.mark.parametrize("name", ["f.csv", "f.ndjson", "f.tsv"])
def test_failures_can_be_handed_in_again(tmp_path: Path, name: str) -> None:
    failures = Failures(tmp_path / name)
    failures.add({"to": "+46701740605", "text": 'He said "hi",\nthen left'}, "invalid_number", "line 2: no")
    failures.add({"to": "+46701740606", "text": "x"}, "opted_out", "line 3: no")
    failures.close()
    text = (tmp_path / name).read_text()
    assert "invalid_number" in text
    again = rows(text, name)
    assert [row.message.text for row in again if row.message] == ['He said "hi",\nthen left', "x"]
    assert failures.count == 2


def test_no_failure_makes_no_file(tmp_path: Path) -> None:
    Failures(tmp_path / "f.csv").close()
    assert not (tmp_path / "f.csv").exists()


def test_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("to,text\n1,x\n2,y\n")
    (tmp_path / "f.ndjson").write_text("{}\n{}\n")
    assert (count(tmp_path / "f.csv"), count(tmp_path / "f.ndjson")) == (2, 2)
