from __future__ import annotations

import io
from pathlib import Path

import pytest

from gateway.commands.failed_rows import FailedRows
from gateway.commands.message_file import MessageRow, MessageRows, RowDefaults, count
from gateway.commands.phone_cells import NoNumber, plain
from gateway.commands.placeholders import BadPlaceholder, PlaceholderText
from gateway.commands.text_lines import QUOTES, BadFile, open_text


def rows(content: str, name: str = "x.csv", prefix: str = "", country: str = "", **usual: str) -> list[MessageRow]:
    return list(MessageRows(io.StringIO(content, newline=""), name, RowDefaults(usual, None, prefix, country)))


def filled(content: str, text: str) -> list[MessageRow]:
    return list(MessageRows(io.StringIO(content, newline=""), "x.csv", RowDefaults({}, PlaceholderText(text))))


def octets(content: bytes, charset: str = "") -> list[MessageRow]:
    return list(MessageRows(open_text(io.BytesIO(content), charset), "x.csv"))


def texts(found: list[MessageRow]) -> list[str | None]:
    return [row.message and row.message.text for row in found]


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


def test_defaults_apply_to_empty_fields() -> None:
    (one,) = rows("to\n+46701740605\n", text="Hi", category="otp")
    assert one.message is not None
    assert (one.message.text, one.message.category) == ("Hi", "otp")


def references(text: str, prefix: str = "") -> list[str | None]:
    return [row.message.client_ref for row in rows(text, prefix=prefix) if row.message is not None]


def test_client_ref_derives_from_recipient_and_text_alone() -> None:
    first, second = references("to,text,priority\n+46701740605,Hi,1\n+46701740606,Hi,1\n")
    assert references("to,text\n+46701740606,Hi\n") == [second]
    assert references("text;phone\nHi;0046 70-174 06 05\n") == [first]
    assert len({first, second, *references("to,text\n+46701740605,Ho\n")}) == 3
    (named,) = references("to,text\n+46701740605,Hi\n", prefix="sale")
    assert named is not None
    assert named.startswith("sale:")
    assert references("to,text,client_ref\n+46701740605,Hi,order-1\n", prefix="sale") == ["order-1"]


def test_repeated_rows_name_the_line_of_the_first() -> None:
    found = rows("to,text\n+46701740605,Hi\n+46701740605,Ho\n+46701740605,Hi\n")
    assert [(row.line, row.duplicate_of, row.same_recipient_as) for row in found] == [(2, 0, 0), (3, 0, 2), (4, 2, 0)]
    one, two = rows("to,text,ref\n+46701740605,Hi,a\n+46701740605,Ho,a\n")
    assert one.message is not None
    assert two.error == "client_ref and recipient are those of line 2, which has another text"
    assert [row.duplicate_of for row in rows("to,text,ref\n+46701740605,Hi,a\n+46701740605,Hi,b\n")] == [0, 0]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("to,txt\n1,x\n", r"unknown column 'txt'; did you mean text\?"),
        ("to,text,catgory\n1,x,otp\n", r"unknown column 'catgory'; did you mean category\?"),
        ("text\nx\n", "no column is named to"),
        ("Telefon;Text\n1;x\n", "the columns are Telefon, Text; possible columns"),
        ("to\n1\n", "no column is named text, and no --text"),
        ("", "is empty"),
        ("to,text,to\n1,x,2\n", "column 3, 'to', is repeated"),
        ("phone,text,手机号\n1,x,2\n", "column 3, '手机号', is repeated .it is to, like column 1"),
    ],
)
def test_an_unusable_header_is_refused_with_the_reason(text: str, error: str) -> None:
    with pytest.raises(BadFile, match=error):
        rows(text)


@pytest.mark.parametrize(
    "header",
    [
        "to,text",
        "phone;message",
        "手机号\t内容",
        "手机号码，短信内容",
        "Mobile Number|SMS",
        "\ufeffTO, Text",
        "sep=;\nto;text",
    ],
)
def test_column_names_in_english_and_chinese_with_any_delimiter(header: str) -> None:
    delimiter = next(char for char in "sep=;,\t，|" if char in header and char not in "sep=")
    (one,) = rows(f'{header}\n+46701740605{delimiter} "Hello, you"\n')
    assert one.message is not None
    assert (one.message.to, one.message.text) == ("+46701740605", "Hello, you")


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
def test_the_character_set_is_detected(charset: str) -> None:
    found = octets("手机号,内容\r\n13800138000,您的订单已发货。\r\n13800138001,ok\r\n".encode(charset))
    assert texts(found) == ["您的订单已发货。", "ok"]


def test_latin1_is_not_mistaken_for_gb18030() -> None:
    content = "to,text\n+46701740605,Grüße\n+46701740606,Hi\n".encode("latin-1")
    bad, good = octets(content)
    assert bad.error.startswith("text: octet 0xfc is not in the file's character set; save it as UTF-8")
    assert good.message is not None
    assert texts(octets(content, "latin-1")) == ["Grüße", "Hi"]
    with pytest.raises(BadFile, match="unknown --charset"):
        octets(content, "latin-99")
    with pytest.raises(BadFile, match="save it as CSV"):
        octets(b"PK\x03\x04...")


def test_an_invalid_octet_affects_only_its_own_row() -> None:
    content = "to,text\n+46701740605,åäö\n+46701740606,å\n+46701740607,Hi\n".encode().replace(b"6,\xc3", b"6,")
    found = octets(content)
    assert [row.line for row in found if row.error] == [3]
    assert texts(found) == ["åäö", None, "Hi"]


def test_an_unclosed_quote_affects_only_its_own_row() -> None:
    found = rows('to,text\n1,a\n2,"open\n3,"b, c"\n4,"d\ne"\n5,"open too\n')
    assert [(row.line, row.error) for row in found if row.error] == [(3, QUOTES), (7, QUOTES)]
    assert texts(found) == ["a", None, "b, c", "d\ne", None]
    assert [row.given for row in found if row.error] == [{"to": "2", "text": "open"}, {"to": "5", "text": "open too"}]
    long = "".join(f"{n},x\n" for n in range(1000, 3000))
    assert [row.line for row in rows(f'to,text\n1,"open\n{long}') if row.error] == [2]


def test_empty_columns_at_the_end_are_ignored() -> None:
    found = rows("to,text,,\n1,x,,\n2,y\n3,z,,more\n")
    assert texts(found) == ["x", "y", None]
    assert "4 cells, but the header has 2" in found[2].error


def test_columns_fill_the_placeholders_of_the_text() -> None:
    (one,) = filled("phone,Name,city\n+46701740605, Åsa ,Lund\n", "Hello {name} in {{{city}}}, {to}")
    assert one.message is not None
    assert one.message.text == "Hello Åsa in {Lund}, +46701740605"


def test_a_row_with_an_empty_placeholder_is_refused() -> None:
    empty, good = filled("to,name\n1, \n2,Bo\n", "Hello {name}")
    assert (empty.message, empty.error) == (None, "{name} is empty in this row")
    assert good.message is not None
    with pytest.raises(BadFile, match=r"the text has \{name\}, but the columns are: to"):
        filled("to\n1\n", "Hello {name}")
    for text in ("Hello {}", "Hello {name", "a } b"):
        with pytest.raises(BadPlaceholder):
            PlaceholderText(text)
    (own,) = rows("to,text,name\n1,Hello {name},Bo\n")
    assert own.message is None
    assert "{name} in the row's own text is not replaced" in own.error


def test_unused_columns_are_listed() -> None:
    found = MessageRows(
        io.StringIO("to,name,city,_note\n1,Bo,Lund,x\n"), "x.csv", RowDefaults({}, PlaceholderText("Hello {name}"))
    )
    assert found.unused == ["city"]


@pytest.mark.parametrize(
    ("written", "country", "number"),
    [
        (" +46 (0)70-174 06 05", "", "+460701740605"),
        ("0046701740605", "", "+46701740605"),
        ("070-174 06 05", "SE", "+46701740605"),
        ("+8613800138000", "SE", "+8613800138000"),
        ("13800138000", "CN", "+8613800138000"),
        ("4915112345678", "DE", "+4915112345678"),
        ("447911 123456", "SE", "+447911123456"),  # no number of Sweden's: as the gateway reads it
        ("13800138000.0", "CN", "+8613800138000"),
        ("\u202a+46701740605\u202c", "", "+46701740605"),
        ("13800138000", "", "13800138000"),
    ],
)
def test_numbers_are_normalised(written: str, country: str, number: str) -> None:
    assert plain(written, country) == number


def test_an_invalid_number_is_refused_with_the_reason() -> None:
    with pytest.raises(NoNumber, match="rounded by a spreadsheet"):
        plain("4,67017E+10")
    with pytest.raises(NoNumber, match="not a number in SE"):
        plain("12", "SE")
    (row,) = rows("to,text\n1.38E+10,Hi\n")
    assert "rounded" in row.error


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"to": "1", "text": "x", "colour": "red"}', "colour: unknown field"),
        ('{"text": "x"}', "to"),
        ('{"to": "1", "text": "x", "category": "spam"}', 'category: expected one of "emergency", "marketing"'),
        ('{"to": "1"}', "text: missing, and no template"),
        ('{"to": "1", "text": "x", "send_at": "soon"}', "send_at: expected a date-time with a UTC offset"),
        ('{"to": "1", "text": "x", "metadata": "{"}', "metadata and vars must be JSON"),
        ('{"to": "1", "text": "half \\ud83d"}', "text: contains half a character"),
        ('{"to": "1", "text": "x", "metadata": {"a": "\\udc00"}}', "metadata: contains half a character"),
    ],
)
def test_an_invalid_row_does_not_affect_the_next(line: str, error: str) -> None:
    bad, good = rows(f'{line}\n{{"to": "1", "text": "x"}}\n', "x.ndjson")
    assert bad.message is None
    assert error in bad.error
    assert good.message is not None


def test_a_csv_row_with_too_many_cells_is_refused() -> None:
    (bad,) = rows("to,text\n1,x,y\n")
    assert bad.error.startswith("3 cells, but the header has 2: a text that contains the separator must be in quotes")


@pytest.mark.parametrize("name", ["f.csv", "f.ndjson", "f.tsv"])
def test_a_file_of_refused_rows_can_be_sent_again(tmp_path: Path, name: str) -> None:
    failures = FailedRows(tmp_path / name)
    failures.add({"to": "+46701740605", "text": 'He said "hi",\nthen left'}, "invalid_number", "line 2: no")
    failures.add({"to": "+46701740606", "text": "x"}, "opted_out", "line 3: no")
    failures.close()
    text = (tmp_path / name).read_text()
    assert "invalid_number" in text
    assert texts(rows(text, name)) == ['He said "hi",\nthen left', "x"]
    assert failures.count == 2


FAULTY = 'phone,text,name\n1,"open\n2,a,b,c\n+46701740605,Grüße,Bo\n'.replace("ü", "\udcfc")


@pytest.mark.parametrize("name", ["f.csv", "f.ndjson"])
def test_refused_rows_keep_every_column(tmp_path: Path, name: str) -> None:
    lines = ("[1", '{"to": "1", "text": "x", "colour": "red"}', '{"to": "2", "text": "\\ud83d"}')
    text = FAULTY if name == "f.csv" else "\n".join(lines)
    source = MessageRows(io.StringIO(text, newline=""), name)
    failures = FailedRows(tmp_path / name, source.columns)
    for row in (before := list(source)):
        failures.add(row.given, "malformed", f"line {row.line}: {row.error}")
    failures.close()
    octets = (tmp_path / name).read_bytes()
    if name == "f.csv":
        assert octets.startswith(b"phone,text,name,_code,_detail\n1,open,,malformed,")
        assert b"+46701740605,Gr\xfc\xc3\x9fe,Bo,malformed," in octets
    again = list(MessageRows(open_text(io.BytesIO(octets)), name))
    assert [row.given.get("phone") for row in again] == [row.given.get("phone") for row in before]
    assert [bool(row.error) for row in again][1:] == [True, True]  # the first has its quotes by now


def test_a_corrected_json_line_is_accepted() -> None:
    bad, good = rows(
        '{"_line": "{", "_code": "malformed"}\n{"_line": "{\\"to\\": 1, \\"text\\": \\"x\\"}"}\n', "x.ndjson"
    )
    assert bad.error.startswith("not JSON")
    assert good.message is not None


def test_no_refused_row_creates_no_file(tmp_path: Path) -> None:
    FailedRows(tmp_path / "f.csv").close()
    assert not (tmp_path / "f.csv").exists()


def test_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("to,text\n1,x\n2,y\n")
    (tmp_path / "f.ndjson").write_text("{}\n{}\n")
    assert (count(tmp_path / "f.csv"), count(tmp_path / "f.ndjson")) == (2, 2)
