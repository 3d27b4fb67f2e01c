from __future__ import annotations

import io
from pathlib import Path

import pytest

from gateway.commands.message_file import FailedRows, MessageRow, MessageRows, RowDefaults, count
from gateway.commands.phone_cells import NoNumber, plain
from gateway.commands.placeholders import BadPlaceholder, PlaceholderText
from gateway.commands.text_lines import QUOTES, BadFile, opened


def rows(content: str, name: str = "x.csv", prefix: str = "", country: str = "", **usual: str) -> list[MessageRow]:
    return list(MessageRows(io.StringIO(content, newline=""), name, RowDefaults(usual, None, prefix, country)))


def filled(content: str, text: str) -> list[MessageRow]:
    return list(MessageRows(io.StringIO(content, newline=""), "x.csv", RowDefaults({}, PlaceholderText(text))))


def octets(content: bytes, charset: str = "") -> list[MessageRow]:
    return list(MessageRows(opened(io.BytesIO(content), charset), "x.csv"))


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


def test_what_the_row_does_not_say_is_as_usual() -> None:
    (one,) = rows("to\n+46701740605\n", text="Hi", category="otp")
    assert one.message is not None
    assert (one.message.text, one.message.category) == ("Hi", "otp")


def references(text: str, prefix: str = "") -> list[str | None]:
    return [row.message.client_ref for row in rows(text, prefix=prefix) if row.message is not None]


def test_a_row_is_known_by_recipient_and_text_whatever_its_line_and_what_else_it_holds() -> None:
    first, second = references("to,text,priority\n+46701740605,Hi,1\n+46701740606,Hi,1\n")
    assert references("to,text\n+46701740606,Hi\n") == [second]
    assert references("text;phone\nHi;0046 70-174 06 05\n") == [first]
    assert len({first, second, *references("to,text\n+46701740605,Ho\n")}) == 3
    (named,) = references("to,text\n+46701740605,Hi\n", prefix="sale")
    assert named is not None
    assert named.startswith("sale:")
    assert references("to,text,client_ref\n+46701740605,Hi,order-1\n", prefix="sale") == ["order-1"]


def test_a_row_that_says_the_same_again_is_told() -> None:
    found = rows("to,text\n+46701740605,Hi\n+46701740605,Ho\n+46701740605,Hi\n")
    assert [(row.line, row.same, row.again) for row in found] == [(2, 0, 0), (3, 0, 2), (4, 2, 0)]
    one, two = rows("to,text,ref\n+46701740605,Hi,a\n+46701740605,Ho,a\n")
    assert one.message is not None
    assert two.fault == "client_ref and recipient are those of line 2, which says something else"
    assert [row.same for row in rows("to,text,ref\n+46701740605,Hi,a\n+46701740605,Hi,b\n")] == [0, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("to,txt\n1,x\n", "column 'txt' is not a field; is it text?"),
        ("to,text,catgory\n1,x,otp\n", "column 'catgory' is not a field; is it category?"),
        ("text\nx\n", "no column named to"),
        ("Telefon;Text\n1;x\n", "only Telefon, Text; the first line names"),
        ("to\n1\n", "no column named text, and no --text"),
        ("", "is empty"),
        ("to,text,to\n1,x,2\n", "column 3, 'to', is there twice"),
        ("phone,text,手机号\n1,x,2\n", "column 3, '手机号', is there twice .it is to, as column 1 is"),
    ],
)
def test_a_file_whose_header_cannot_be_meant(text: str, said: str) -> None:
    with pytest.raises(BadFile, match=said):
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
def test_columns_are_known_in_english_and_chinese_with_any_delimiter(header: str) -> None:
    delimiter = next(char for char in "sep=;,\t，|" if char in header and char not in "sep=")
    (one,) = rows(f'{header}\n+46701740605{delimiter} "Hello, you"\n')
    assert one.message is not None
    assert (one.message.to, one.message.text) == ("+46701740605", "Hello, you")


@pytest.mark.parametrize("charset", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
def test_character_sets_are_told_by_what_is_in_the_file(charset: str) -> None:
    found = octets("手机号,内容\r\n13800138000,您的订单已发货。\r\n13800138001,ok\r\n".encode(charset))
    assert texts(found) == ["您的订单已发货。", "ok"]


def test_a_file_of_another_charset_is_not_taken_for_chinese() -> None:
    content = "to,text\n+46701740605,Grüße\n+46701740606,Hi\n".encode("latin-1")
    bad, good = octets(content)
    assert bad.fault.startswith("text: octet 0xfc is not of the file's character set; save it as UTF-8")
    assert good.message is not None
    assert texts(octets(content, "latin-1")) == ["Grüße", "Hi"]
    with pytest.raises(BadFile, match="no such character set"):
        octets(content, "latin-99")
    with pytest.raises(BadFile, match="save it as CSV"):
        octets(b"PK\x03\x04...")


def test_a_bad_octet_spoils_its_own_row() -> None:
    content = "to,text\n+46701740605,åäö\n+46701740606,å\n+46701740607,Hi\n".encode().replace(b"6,\xc3", b"6,")
    found = octets(content)
    assert [row.line for row in found if row.fault] == [3]
    assert texts(found) == ["åäö", None, "Hi"]


def test_an_unclosed_quote_spoils_its_own_row_and_names_its_line() -> None:
    found = rows('to,text\n1,a\n2,"open\n3,"b, c"\n4,"d\ne"\n5,"open too\n')
    assert [(row.line, row.fault) for row in found if row.fault] == [(3, QUOTES), (7, QUOTES)]
    assert texts(found) == ["a", None, "b, c", "d\ne", None]
    assert [row.given for row in found if row.fault] == [{"to": "2", "text": "open"}, {"to": "5", "text": "open too"}]
    long = "".join(f"{n},x\n" for n in range(1000, 3000))
    assert [row.line for row in rows(f'to,text\n1,"open\n{long}') if row.fault] == [2]


def test_empty_columns_at_the_end_are_passed_over() -> None:
    found = rows("to,text,,\n1,x,,\n2,y\n3,z,,more\n")
    assert texts(found) == ["x", "y", None]
    assert "4 cells, but the header has 2" in found[2].fault


def test_columns_fill_the_places_of_the_text() -> None:
    (one,) = filled("phone,Name,city\n+46701740605, Åsa ,Lund\n", "Hello {name} in {{{city}}}, {to}")
    assert one.message is not None
    assert one.message.text == "Hello Åsa in {Lund}, +46701740605"


def test_a_place_left_unfilled_is_refused_and_never_sent() -> None:
    empty, good = filled("to,name\n1, \n2,Bo\n", "Hello {name}")
    assert (empty.message, empty.fault) == (None, "{name} of the text is empty in this row")
    assert good.message is not None
    with pytest.raises(BadFile, match=r"the text asks for \{name\}, but the columns are: to"):
        filled("to\n1\n", "Hello {name}")
    for text in ("Hello {}", "Hello {name", "a } b"):
        with pytest.raises(BadPlaceholder):
            PlaceholderText(text)
    (own,) = rows("to,text,name\n1,Hello {name},Bo\n")
    assert own.message is None
    assert "{name} stands in the row's own text" in own.fault


def test_columns_that_no_message_uses_are_named() -> None:
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
def test_numbers_as_people_write_them(written: str, country: str, number: str) -> None:
    assert plain(written, country) == number


def test_numbers_that_are_none_say_why() -> None:
    with pytest.raises(NoNumber, match="rounded by a spreadsheet"):
        plain("4,67017E+10")
    with pytest.raises(NoNumber, match="no number of SE"):
        plain("12", "SE")
    (row,) = rows("to,text\n1.38E+10,Hi\n")
    assert "rounded" in row.fault


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"to": "1", "text": "x", "colour": "red"}', "colour: there is no such field"),
        ('{"text": "x"}', "to"),
        ('{"to": "1", "text": "x", "category": "spam"}', 'category: expected one of "emergency", "marketing"'),
        ('{"to": "1"}', "text: there is none, and no template"),
        ('{"to": "1", "text": "x", "send_at": "soon"}', "send_at: expected a date-time with a UTC offset"),
        ('{"to": "1", "text": "x", "metadata": "{"}', "metadata and vars must be JSON"),
        ('{"to": "1", "text": "half \\ud83d"}', "text: holds half a character"),
        ('{"to": "1", "text": "x", "metadata": {"a": "\\udc00"}}', "metadata: holds half a character"),
    ],
)
def test_a_row_that_cannot_be_read_is_one_failure(line: str, said: str) -> None:
    bad, good = rows(f'{line}\n{{"to": "1", "text": "x"}}\n', "x.ndjson")
    assert bad.message is None
    assert said in bad.fault
    assert good.message is not None


def test_a_csv_row_that_is_too_long() -> None:
    (bad,) = rows("to,text\n1,x,y\n")
    assert bad.fault.startswith("3 cells, but the header has 2: a text with the separator in it needs quotes")


@pytest.mark.parametrize("name", ["f.csv", "f.ndjson", "f.tsv"])
def test_failures_can_be_handed_in_again(tmp_path: Path, name: str) -> None:
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
def test_failures_keep_every_column_of_every_row_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    lines = ("[1", '{"to": "1", "text": "x", "colour": "red"}', '{"to": "2", "text": "\\ud83d"}')
    text = FAULTY if name == "f.csv" else "\n".join(lines)
    source = MessageRows(io.StringIO(text, newline=""), name)
    failures = FailedRows(tmp_path / name, source.columns)
    for row in (before := list(source)):
        failures.add(row.given, "malformed", f"line {row.line}: {row.fault}")
    failures.close()
    octets = (tmp_path / name).read_bytes()
    if name == "f.csv":
        assert octets.startswith(b"phone,text,name,_code,_detail\n1,open,,malformed,")
        assert b"+46701740605,Gr\xfc\xc3\x9fe,Bo,malformed," in octets
    again = list(MessageRows(opened(io.BytesIO(octets)), name))
    assert [row.given.get("phone") for row in again] == [row.given.get("phone") for row in before]
    assert [bool(row.fault) for row in again][1:] == [True, True]  # the first has its quotes by now


def test_a_line_that_was_no_json_is_read_again_once_it_is_mended() -> None:
    bad, good = rows(
        '{"_line": "{", "_code": "malformed"}\n{"_line": "{\\"to\\": 1, \\"text\\": \\"x\\"}"}\n', "x.ndjson"
    )
    assert bad.fault.startswith("not JSON")
    assert good.message is not None


def test_no_failure_makes_no_file(tmp_path: Path) -> None:
    FailedRows(tmp_path / "f.csv").close()
    assert not (tmp_path / "f.csv").exists()


def test_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("to,text\n1,x\n2,y\n")
    (tmp_path / "f.ndjson").write_text("{}\n{}\n")
    assert (count(tmp_path / "f.csv"), count(tmp_path / "f.ndjson")) == (2, 2)
