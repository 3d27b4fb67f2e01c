"""The configuration: every key, every fault at once, no secret shown."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config import (
    Account,
    AdminConfig,
    Carrier,
    Config,
    ConfigError,
    HttpConfig,
    LogConfig,
    PolicyConfig,
    PrivacyConfig,
    RetentionConfig,
    Route,
    SmppConfig,
    StoreConfig,
    WebhookConfig,
    load,
    load_text,
    read,
    route_table,
    rulebook,
)
from gateway.config.load import from_tables
from gateway.config.read import duration
from gateway.config.rulebook import jurisdictions_folder
from gateway.model import Category
from gateway.policy.velocity import VelocityLimit
from gateway.smpp.status import RetryClass

CONFIG = Path(__file__).parents[2] / "config"
CARRIER = '[[carrier]]\nname = "north"\nhosts = ["127.0.0.1:2775"]\nsystem_id = "gw"\npassword = "pass"\n'


def problems(text: str, env: dict[str, str] | None = None) -> dict[str, str]:
    """Path -> the line shown, of a text that must be refused."""
    with pytest.raises(ConfigError) as caught:
        load_text(text, "gw.toml", env or {})
    return {problem.path: str(problem) for problem in caught.value.problems}


def warnings(text: str, env: dict[str, str] | None = None) -> dict[str, str]:
    return {warning.path: str(warning) for warning in load_text(text, "gw.toml", env or {}).warnings}


# ── defaults and files ───────────────────────────────────────────────────────────────────────────────────────────


def test_gateway_toml_holds_every_key_at_its_default():
    assert load(CONFIG / "gateway.toml", {}) == Config() == load(None, {})
    text = (CONFIG / "gateway.toml").read_text()
    for section in ("store", "http", "admin", "smpp", "webhooks", "policy", "retention", "privacy", "log"):
        body = text.split(f"[{section}]")[1].split("\n[")[0]
        assert keys_of(body) == list(keys(type(getattr(Config(), section)))), section


@pytest.mark.parametrize(("table", "kind"), [("account", Account), ("carrier", Carrier), ("route", Route)])
def test_gateway_toml_documents_the_tables_that_repeat(table: str, kind: type[msgspec.Struct]):
    block = (CONFIG / "gateway.toml").read_text().split(f"#[[{table}]]\n")[1].split("\n\n")[0]
    text = re.sub(r"(?m)^#", "", block)
    assert set(keys_of(text)) == set(keys(kind))
    env = {"NORTH_PASSWORD": "pw"}
    extra = "" if table == "carrier" else CARRIER
    made = getattr(load_text(f"[[{table}]]\n{text}\n{extra}", "x", env).config, table + "s")[0]
    for field in msgspec.structs.fields(kind):
        if not field.required:
            default = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
            assert getattr(made, field.name) == default, field.name


def keys(kind: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(kind)]


def keys_of(body: str) -> list[str]:
    return re.findall(r"(?m)^(\w+) =", body)


def test_demo_toml_takes_its_ports_from_the_environment():
    config = load(CONFIG / "demo.toml", {"NORTH_PORT": "4001", "SOUTH_PORT": "4002", "HTTP_PORT": "0"})
    assert [carrier.addresses for carrier in config.carriers] == [(("127.0.0.1", 4001),), (("127.0.0.1", 4002),)]
    assert config.http.listen == "127.0.0.1:0"
    assert [account.name for account in config.accounts] == ["shop", "airline"]
    assert [(route.lane, route.carriers) for route in config.routes] == [
        ("+86", ("south", "north")),
        ("*", ("north", "south")),
    ]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot read: No such file"):
        load(tmp_path / "nowhere.toml")
    (tmp_path / "latin.toml").write_bytes(b'node = "\xe9"')
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.toml")
    (tmp_path / "broken.toml").write_text("[store\n")
    with pytest.raises(ConfigError, match=r"broken\.toml: invalid TOML: .*line 1, column \d+\)\. Fix line 1$"):
        load(tmp_path / "broken.toml")


# ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_problems_are_reported_at_once_with_key_value_and_remedy():
    found = problems(
        """
        nod = "x"
        [store]
        partitons = 9
        durability = "sometimes"
        [[carrier]]
        name = "north"
        hosts = ["127.0.0.1:2775"]
        system_id = "gw"
        password = "pw"
        [[carrier]]
        name = "south"
        hosts = ["127.0.0.1:2775"]
        system_id = "gw"
        password = "pw"
        window = "ten"
        """
    )
    assert set(found) == {"nod", "store.partitons", "store.durability", "carrier[1].window"}
    assert found["nod"] == 'gw.toml: nod: unknown key. Did you mean "node"?'
    assert 'Did you mean "partitions"?' in found["store.partitons"]
    assert 'invalid value "sometimes"' in found["store.durability"]
    assert '"everysec"' in found["store.durability"]
    assert found["carrier[1].window"] == (
        'gw.toml: carrier[1].window (of "south"): invalid value "ten". Write a whole number from 1 to 10000'
    )


def test_missing_keys_are_reported():
    found = problems('[[carrier]]\nname = "north"\n')
    assert set(found) == {"carrier[0].hosts", "carrier[0].system_id", "carrier[0].password"}
    assert "missing. Write" in found["carrier[0].hosts"]


def test_a_single_table_in_place_of_a_list_is_reported():
    assert "Write it as [[account]]" in problems('[account]\nname = "shop"\n')["account"]
    assert "Write it as [store]" in problems("store = 5")["store"]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('http.listen = "8080"', "http.listen"),
        ('http.listen = "127.0.0.1:99999"', "http.listen"),
        ('http.listen = ""', "http.listen"),
        ('http.listen = "127.0.0.1:8081"', "admin.listen"),
        ('smpp.tls_listen = "127.0.0.1:2777"', "smpp.cert"),
        ('smpp.cert = "/nowhere.pem"', "smpp.cert"),
        ('webhooks.allow_networks = ["10.0.0.0/33"]', "webhooks.allow_networks[0]"),
        ('store.url = "mysql://x"', "store.url"),
        ('store.url = "redis://"', "store.url"),
        ('store.durability = "replicated"', "store.durability"),
        ("store.partitions = 0", "store.partitions"),
        ('store.data_dir = "/dev/null"', "store.data_dir"),
        ('node = "a b"', "node"),
        ('policy.default_zone = "Mars/Olympus"', "policy.default_zone"),
        ('policy.default_profile = "atlantis"', "policy.default_profile"),
        ('policy.hours = "9-20"', "policy.hours"),
        ('policy.hours = "20:00-09:00"', "policy.hours"),
        ('policy.jurisdictions = "/nowhere"', "policy.jurisdictions"),
        ('policy.otp_caps = ["5/1h", "lots"]', "policy.otp_caps[1]"),
        ('policy.marketing_caps = ["0/1d"]', "policy.marketing_caps[0]"),
        ('policy.otp_expiry = "soon"', "policy.otp_expiry"),
        ('privacy.hashing_secret = "c2hvcnQ="', "privacy.hashing_secret"),
        ('privacy.current_key = "3"', "privacy.current_key"),
        (CARRIER + CARRIER, "carrier[1].name"),
        (CARRIER.replace("2775", "0"), "carrier[0].hosts[0]"),
        (CARRIER.replace('"127.0.0.1:2775"', ""), "carrier[0].hosts"),
        (CARRIER + 'cert = "/nowhere.pem"', "carrier[0].cert"),
        (CARRIER + 'status_table = { "0xzz" = "retry" }', "carrier[0].status_table.0xzz"),
        (CARRIER + 'status_table = { "0x411" = "again" }', "carrier[0].status_table.0x411"),
        (CARRIER + '[[route]]\ncarriers = ["norht"]', "route[0].carriers[0]"),
        (CARRIER + '[[route]]\ncarriers = ["north", "north"]', "route[0].carriers[1]"),
        (CARRIER + '[[route]]\ncarriers = ["north"]\nweights = [1, 2]', "route[0].weights"),
        (CARRIER + '[[route]]\ncarriers = ["north"]\nweights = [0]', "route[0].weights"),
        (CARRIER + '[[route]]\ncarriers = ["north"]\naccount = "shop"', "route[0].account"),
        (CARRIER + '[[route]]\ncarriers = ["north"]\n[[route]]\ncarriers = ["north"]', "route[1]"),
        (CARRIER + '[[route]]\nto = "china"\ncarriers = ["north"]', "route[0].to"),
        (CARRIER + '[[route]]\nsender = "%s"\ncarriers = ["north"]' % ("x" * 201), "route[0].name"),
        (CARRIER + '[[route]]\nname = "%s"\ncarriers = ["north"]' % ("\U0001f600" * 64), "route[0].name"),
        ('[[account]]\nname = "a"\n[[account]]\nname = "a"', "account[1].name"),
        ('[[account]]\nname = "a b"', "account[0].name"),
        ('[[account]]\nname = "a"\nsystem_id = "x"', "account[0].password"),
        (
            '[[account]]\nname = "a"\ncategories = ["otp"]\ndefault_category = "marketing"',
            "account[0].default_category",
        ),
        ('[[account]]\nname = "a"\napi_keys = ["md5:x"]', "account[0].api_keys[0]"),
        ('[[account]]\nname = "a"\nallow_ips = ["x"]', "account[0].allow_ips[0]"),
        ('[[account]]\nname = "a"\ncallback_url = "http://hooks.example"', "account[0].callback_url"),
        ('[[account]]\nname = "a"\nwebhook_secret = "x"', "account[0].webhook_secret"),
        ('[[account]]\nname = "a"\nsenders = []', "account[0].senders"),
    ],
)
def test_an_invalid_value_is_reported_at_its_path(text: str, path: str):
    found = problems(text)
    assert path in found
    assert re.search(r": .+\. [A-Z]", found[path]), "a fault and a remedy"


def test_two_accounts_cannot_share_a_key_or_a_system_id():
    account = '[[account]]\nname = "{}"\napi_keys = ["sha256:{}"]\nsystem_id = "x"\npassword = "pw"\n'
    found = problems(account.format("a", "0" * 64) + account.format("b", "0" * 64))
    assert set(found) == {"account[1].api_keys[0]", "account[1].system_id"}


def test_a_key_is_the_same_however_it_is_written():
    digest = sha256(b"abc").hexdigest()
    text = f'[[account]]\nname = "a"\napi_keys = ["plain:abc"]\n[[account]]\nname = "b"\napi_keys = ["sha256:{digest}"]'
    assert 'also a key of "a"' in problems(text)["account[1].api_keys[0]"]
    token = sha256(b"0123456789abcdef").hexdigest()
    admin = f'[admin]\ntoken = "0123456789abcdef"\nread_token = "sha256:{token}"'
    assert "same as admin.token" in problems(admin)["admin.read_token"]


@pytest.mark.parametrize("key", ["plain:a b", "plain:abc\\n", "plain:", "plain:\u00e9"])
def test_a_key_that_no_header_can_hold_is_refused(key: str):
    text = f'[[account]]\nname = "a"\napi_keys = ["{key}"]'
    assert "invalid key" in problems(text)["account[0].api_keys[0]"]


def test_a_nul_in_a_carriers_texts_is_refused():
    assert "NUL" in problems(CARRIER.replace('"pass"', '"pa\\u0000ss"'))["carrier[0].password"]


GOOD = {"name": "n", "hosts": ["h:1"], "system_id": "s", "password": "p"}
KEYS = st.sampled_from(
    sorted(
        {
            key
            for kind in (Config, Account, Carrier, Route, PolicyConfig, SmppConfig, PrivacyConfig, StoreConfig)
            for key in keys(kind)
        }
    )
)
SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(
        ["${X}", "${", "$$", ":", "[", "[::1", "a:1", "sha256:", "plain:", "1/", "5/1h", "08:00-25:00", "\0"]
    ),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=4)
)


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(KEYS | st.text(max_size=5), VALUES, max_size=5),
    st.dictionaries(KEYS, VALUES),
    st.dictionaries(KEYS, VALUES),
)
def test_any_content_raises_nothing_but_config_error(raw: dict, account: dict, carrier: dict):
    for tables in (
        raw,
        {**raw, "account": [account], "carrier": [{**GOOD, **carrier}], "route": [{"carriers": ["n"], **carrier}]},
    ):
        with suppress(ConfigError):
            from_tables(tables, "x", {})


ODD = [
    *(
        "\0",
        "/",
        "x" * 5000,
        "[",
        "[::1",
        "[::1]:",
        ":0",
        "http://[",
        "é",
        "24:00-24:00",
        "9" * 20 + "/1d",
        "1/" + "9" * 20 + "h",
    ),
    *(True, 0, -1, 1.5, float("nan"), [], ["\0"], [[]], {}, {"\0": "\0"}, {"9" * 20: "retry"}, None),
]


@pytest.mark.parametrize(
    "kind",
    [
        StoreConfig,
        HttpConfig,
        AdminConfig,
        SmppConfig,
        WebhookConfig,
        PolicyConfig,
        RetentionConfig,
        PrivacyConfig,
        LogConfig,
        Account,
        Carrier,
        Route,
    ],
)
def test_odd_values_of_every_key_raise_nothing_but_config_error(kind: type[msgspec.Struct]):
    tables = {type(getattr(Config(), field.name)): field.encode_name for field in msgspec.structs.fields(Config)}
    table = tables.get(kind, kind.__name__.lower())
    good = {"account": {"name": "n"}, "carrier": GOOD, "route": {"carriers": ["n"]}}.get(table)
    for key in [*keys(kind), "password_file", "api_keys_file", "hashing_secret_file"]:
        for value in ODD:
            with suppress(ConfigError):
                from_tables({table: {key: value} if good is None else [{**good, key: value}]}, "x", {})


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_problem_shows_a_secret():
    found = problems(
        """
        [store]
        url = "mysql://user:hunter2@host"
        [privacy]
        hashing_secret = "hunter2"
        encryption_keys = { 1 = "hunter2" }
        [[account]]
        name = "a"
        api_keys = ["hunter2"]
        webhook_secret = "hunter2"
        password = ["hunter2"]
        """
    )
    assert len(found) == 6
    assert not any("hunter2" in line for line in found.values())
    assert "invalid value (not shown). Write text in quotes" in found["account[0].password"]


def test_repr_hides_secrets():
    secret = ("aHVudGVyMg" * 5)[:43] + "="
    text = CARRIER.replace('"pass"', '"hunter2"')
    text += f'[privacy]\nencryption_keys = {{ 1 = "{secret}" }}\nhashing_secret = "{secret}"'
    shown = repr(load_text(text, "x", {}).config)
    assert "hunter2" not in shown
    assert secret not in shown
    assert "Carrier(name='north', hosts=('127.0.0.1:2775',), system_id='gw', password=…)" in shown


def test_values_come_from_the_environment():
    text = CARRIER.replace('"pass"', '"${PW}"') + 'rate = "${RATE:-250}"\ntls = "${TLS}"\nsystem_type = "a$$b"'
    carrier = load_text(text, "x", {"PW": "p$w", "TLS": "true"}).config.carriers[0]
    assert (carrier.password, carrier.rate, carrier.tls, carrier.system_type) == ("p$w", 250, True, "a$b")
    found = problems(text, {"TLS": "perhaps"})
    assert found["carrier[0].password"].endswith("${PW} is not set in the environment. Set PW, or write ${PW:-default}")
    assert "perhaps" not in found["carrier[0].tls"]


def test_a_byte_order_mark_is_ignored(tmp_path: Path):
    (tmp_path / "marked.toml").write_bytes(b'\xef\xbb\xbfnode = "a"\n')
    assert load(tmp_path / "marked.toml").node == "a"
    (tmp_path / "pw").write_bytes(b"\xef\xbb\xbfpass\n")
    text = CARRIER.replace('password = "pass"', f'password_file = "{tmp_path}/pw"')
    assert load_text(text, "x", {}).config.carriers[0].password == "pass"


def test_secrets_come_from_files(tmp_path: Path):
    (tmp_path / "pw").write_text("p${w}$\n")
    (tmp_path / "keys").write_text(f"sha256:{'1' * 64}\nsha256:{'2' * 64}\n")
    text = CARRIER.replace('password = "pass"', f'password_file = "{tmp_path}/pw"')
    text += f'[[account]]\nname = "a"\napi_keys_file = "{tmp_path}/keys"\n'
    config = load_text(text, "x", {}).config
    assert config.carriers[0].password == "p${w}$"
    assert config.accounts[0].api_keys == (f"sha256:{'1' * 64}", f"sha256:{'2' * 64}")
    (tmp_path / "void").write_text("\n")
    assert "is empty" in problems(text.replace("/pw", "/void"))["carrier[0].password_file"]
    assert "cannot read" in problems(text.replace("/pw", "/nothing"))["carrier[0].password_file"]
    both = problems(text.replace("password_file", 'password = "x"\npassword_file'))
    assert "Remove one" in both["carrier[0].password_file"]
    assert "unknown key" in problems(CARRIER + 'bind_file = "x"')["carrier[0].bind_file"]


def test_plain_keys_and_example_secrets_stay_on_loopback():
    account = '[[account]]\nname = "shop"\napi_keys = ["plain:x"]\nsystem_id = "shop"\npassword = "demo"\n'
    assert "a key in plain text" in warnings(account)["account[0].api_keys[0]"]
    for listen in ("0.0.0.0:8080", ":8080", "gw.example:8080", "[::]:8080"):
        assert set(problems(f'http.listen = "{listen}"\n' + account)) == {
            "account[0].api_keys[0]",
            "account[0].password",
        }
    assert set(problems('smpp.listen = "10.0.0.1:2775"\n' + account)) == {"account[0].password"}
    for listen in ("localhost:8080", "[::1]:8080", "127.9.9.9:8080"):
        assert load_text(f'http.listen = "{listen}"\n' + account, "x", {})


def test_risky_settings_are_warned_of():
    assert set(warnings(CARRIER)) == {"route"}
    assert set(warnings('admin.listen = "0.0.0.0:1"\nsmpp.listen = "0.0.0.0:2"')) == {
        "admin.listen",
        "smpp.listen",
        "smpp",
    }
    assert set(warnings('store.url = "redis://h"')) == {"privacy.hashing_secret"}
    assert set(warnings('[[account]]\nname = "a"\ncategories = ["otp"]')) == {
        "account[0]",
        "account[0].default_category",
    }
    spare = CARRIER + CARRIER.replace("north", "south") + '[[route]]\ncarriers = ["north"]\n'
    assert set(warnings(spare.replace('"pass"', '"longer than 8"'))) == {
        "carrier[0].password",
        "carrier[1].password",
        "carrier[1]",
    }


# ── what others read from it ─────────────────────────────────────────────────────────────────────────────────────


def test_derived_values():
    text = CARRIER + 'status_table = { "0x0411" = "retry", "1042" = "queue_full" }\n'
    text += '[[route]]\nto = "+861"\ncarriers = ["north"]\ncategory = "otp"\n'
    text += '[[route]]\nname = "rest"\ncarriers = ["north"]\n'
    config = load_text(text + '[[account]]\nname = "shop"\n', "x", {}).config
    assert config.carriers[0].overrides == {0x411: RetryClass.RETRY, 1042: RetryClass.QUEUE_FULL}
    assert [(route.lane, route.prefix) for route in config.routes] == [("+861/otp", "861"), ("rest", "")]
    assert (config.accounts[0].category, config.accounts[0].brand) == ("marketing", "shop")
    table = route_table(config)
    assert repr(table) == "<RouteTable +861/otp rest>"
    found = table.match("8613800138000", "CN", "", Category.OTP, "shop")
    assert found is not None
    assert found.lane == "+861/otp"


@pytest.mark.parametrize(("text", "minutes"), [('"+03:00"', 180), ('"-0330"', -210), ("480", 480)])
def test_offsets(text: str, minutes: int):
    config = load_text(CARRIER + f"utc_offset = {text}\n", "gw.toml", {}).config
    assert config.carriers[0].utc_offset == minutes


@pytest.mark.parametrize("value", ['"+3"', '"03:00"', '"+20:00"', '"Moscow"', "3.5"])
def test_an_invalid_offset_is_refused(value: str):
    line = problems(f"{CARRIER}utc_offset = {value}")["carrier[0].utc_offset"]
    assert line.endswith('Write minutes from -1080 to 1080, text like "+03:00", or an IANA zone')


def test_receipt_dates_are_in_the_time_zone_of_the_carrier_unless_utc_offset_is_set():
    def clock(text: str) -> int | str:
        return load_text(CARRIER + text, "gw.toml", {"AHEAD": "-90"}).config.carriers[0].clock

    assert clock("") == 0
    assert clock('time_zone = "Asia/Kolkata"\n') == "Asia/Kolkata"
    assert clock('time_zone = "Asia/Kolkata"\nutc_offset = 0\n') == 0
    assert clock('utc_offset = "Europe/Berlin"\n') == "Europe/Berlin"
    assert clock('utc_offset = "${AHEAD}"\n') == -90
    assert "carrier[0].time_zone" in problems(f'{CARRIER}time_zone = "Mars"')


def test_tlvs_of_a_carrier():
    text = (
        CARRIER + 'tlvs = [{ tag = 0x1400, value = "77", type = "int16" }, { tag = 0x1401, metadata = "template_id" }]'
    )
    one, two = load_text(text, "gw.toml", {}).config.carriers[0].tlvs
    assert (one.tag, one.type, one.value, one.required) == (0x1400, "int16", "77", False)
    assert (two.tag, two.metadata) == (0x1401, "template_id")


@pytest.mark.parametrize(
    ("tlv", "key", "words"),
    [
        ('{ tag = 0x1400, value = "70000", type = "int16" }', ".value", "whole number from 0 to 65535"),
        ('{ tag = 0x1400, value = "xyz", type = "hex" }', ".value", "pairs of hexadecimal digits"),
        ('{ tag = 0x1400, templates = { a = "x" }, type = "int8" }', ".templates.a", "whole number from 0 to 255"),
        ("{ tag = 0x1400 }", "", "no source of a value"),
        ('{ tag = 0x0424, value = "x" }', ".tag", "written by the gateway"),
        ('{ tag = 70000, value = "x" }', ".tag", "invalid value 70000"),
        ('{ value = "x" }', ".tag", "missing. Write"),
        ('{ tag = 0x1400, from = "x" }', ".from", "unknown key"),
    ],
)
def test_invalid_tlvs_are_refused(tlv: str, key: str, words: str):
    assert words in problems(f"{CARRIER}tlvs = [{tlv}]")[f"carrier[0].tlvs[0]{key}"]
    twice = problems(f'{CARRIER}tlvs = [{{ tag = 1, value = "x" }}, {{ tag = 1, value = "y" }}]')
    assert "is repeated" in twice["carrier[0].tlvs[1].tag"]


def test_tlvs_without_a_tag_are_reported_and_not_compared():
    missing = problems(f'{CARRIER}tlvs = [{{ value = "x" }}, {{ value = "y" }}]')
    assert {path for path in missing if path.endswith(".tag")} == {"carrier[0].tlvs[0].tag", "carrier[0].tlvs[1].tag"}


def test_tlvs_to_a_carrier_of_an_old_version_are_warned_of():
    old = CARRIER + 'interface_version = "3.3"\nlong_messages = "sar"\n'
    assert any("has no TLVs" in str(warning) for warning in load_text(old, "x", {}).warnings)
    plain = old.replace("sar", "udh8")
    assert not any("has no TLVs" in str(warning) for warning in load_text(plain, "x", {}).warnings)


def test_a_carrier_without_validity_is_warned_of():
    (warning,) = [w for w in load_text(CARRIER + 'validity = "none"\n', "x", {}).warnings if "validity" in str(w)]
    assert "marketing after the permitted hours" in str(warning)


@pytest.mark.parametrize(("text", "seconds"), [("250ms", 0.25), ("30s", 30), ("10m", 600), ("0.5h", 1800)])
def test_durations(text: str, seconds: float):
    assert duration(text) == seconds
    assert load_text(f'{CARRIER}response_timeout = "{text}"', "x", {}).config.carriers[0].response_timeout == seconds


def test_enquire_interval_is_at_most_30_seconds_so_that_a_dead_link_is_found_within_45():
    line = problems(f'{CARRIER}enquire_interval = "60s"')["carrier[0].enquire_interval"]
    assert "0.1 to 30" in line


@pytest.mark.parametrize("value", ['"0s"', "inf", "nan", "-1", "true", '"soon"', "[1]"])
def test_an_invalid_duration_is_refused(value: str):
    line = problems(f"retention.finished = {value}")["retention.finished"]
    assert line.endswith('Write a number from 1 to 31622400 (seconds), or like "30s", "10m", "6h", "3d"')
    assert "carrier[0].rate" in problems(f"{CARRIER}rate = {value}")


def test_rulebook_of_the_defaults():
    rules = rulebook(Config())
    assert rules.caps == (((1, 60), (5, 3600), (10, 86400)), (), (), ())
    assert rules.expiry == (600_000, 86_400_000, 259_200_000, 86_400_000)
    assert {"CN", "US", "FR"} <= set(rules.countries)
    monday = date(2026, 11, 23)
    assert rules.profile("13055550100", "US").on(monday) == ((480, 1200),)
    assert rules.profile("12125550100", "US").on(monday) == ((480, 1260),)
    assert rules.profile("12125550100", "US") is rules.profile("12125550199", "US")
    assert rules.profile("46701740605", "SE").name == "default"
    assert re.fullmatch(r"\d+-[0-9a-f]{8}-tz\d{4}[a-z]", rules.version)
    assert rules.version == rulebook(Config()).version


def test_rulebook_follows_the_settings_and_the_calendar():
    config = load_text(
        '[policy]\nhours = "10:00-22:30"\nmarketing_caps = ["1/7d"]\ndefault_profile = "us"\n', "x", {}
    ).config
    rules, monday = rulebook(config), date(2026, 11, 23)
    assert rules.version != rulebook(Config()).version
    assert rules.profile("8613800138000", "CN").on(monday) == ((600, 1350),)
    assert rules.default.on(monday) == ((600, 1260),)
    assert rules.caps[Category.MARKETING] == ((1, 7 * 86400),)
    florida = rules.profile("13055550100", "US")
    assert florida.on(date(2021, 6, 30)) == ((600, 1260),)
    assert florida.on(date(2021, 7, 1)) == ((600, 1200),)


def test_velocity_limits_and_allowed_premium_prefixes():
    config = load_text(
        '[policy]\nallow_prefixes = ["+8816"]\nvelocity = { "+225" = "100/1m", "*" = "5000/1h" }\n'
        '[[account]]\nname = "shop"\napi_keys = ["plain:12345678901234567890"]\ndefault_country = "SE"\n'
        'velocity = { "+225" = "5/1m" }\n',
        "x",
        {},
    ).config
    rules = rulebook(config)
    assert rules.allow_prefixes == ("8816",)
    assert rules.velocity.of("2250712345678") == VelocityLimit("225", 100, 60_000)
    assert rules.velocity.of("46701740605") == VelocityLimit("", 5000, 3_600_000)


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        ('policy.velocity = { "225" = "1/1m" }', "policy.velocity.225", "invalid prefix"),
        ('policy.velocity = { "+225" = "1 a minute" }', "policy.velocity.+225", 'invalid limit "1 a minute"'),
        ('policy.allow_prefixes = ["881"]', "policy.allow_prefixes[0]", 'invalid value "881"'),
        ('[[account]]\nname = "a"\nvelocity = { "+1" = "0/1m" }', "account[0].velocity.+1", "invalid limit"),
        ('[[account]]\nname = "a"\ndefault_country = "XX"', "account[0].default_country", "unknown country"),
    ],
)
def test_an_invalid_limit_prefix_or_country_is_refused(text: str, place: str, fault: str):
    assert fault in problems(text)[place]


def test_a_folder_of_own_jurisdictions(tmp_path: Path):
    law = 'name = "se"\ntitle = "t"\nsource = "s"\nchecked = 2026-01-01\nvalid_from = 2020-01-01\ncountries = ["SE"]\n'
    (tmp_path / "se.toml").write_text(
        law + 'holidays = [2026-12-24]\n[hours]\ndaily = "09:00-12:00, 13:00-18:00"\nsunday = ""'
    )
    config = load_text(f'policy.jurisdictions = "{tmp_path}"', "x", {}).config
    profile = rulebook(config).profile("46701740605", "SE")
    assert profile.on(date(2026, 11, 23)) == ((540, 720), (780, 1080))
    assert profile.on(date(2026, 11, 22)) == profile.on(date(2026, 12, 24)) == ()

    (tmp_path / "se.toml").write_text(law.replace("checked", "cheked") + '[hours]\ndaily = "9-5"')
    (tmp_path / "no.toml").write_text(law.replace('"se"', '"no"') + 'within = "eu"\n[hours]\ndaily = "18:00-09:00"')
    (tmp_path / "xx.toml").write_text("]")
    with pytest.raises(ConfigError) as caught:
        load_text(f'policy.jurisdictions = "{tmp_path}"', "x", {})
    lines = sorted((Path(problem.file).name, problem.path) for problem in caught.value.problems)
    assert lines == [("no.toml", "hours.daily"), ("se.toml", "checked"), ("se.toml", "cheked"), ("xx.toml", "")]


def test_a_law_is_followed_by_its_next_version_on_its_day_and_never_in_force_twice(tmp_path: Path):
    law = 'name = "se"\ntitle = "t"\nsource = "s"\nchecked = 2026-01-01\ncountries = ["SE"]\n'
    old = law + 'valid_from = 2020-01-01\nvalid_until = 2027-01-01\n[hours]\ndaily = "09:00-21:00"'
    new = law + 'valid_from = 2027-01-01\n[hours]\ndaily = "10:00-18:00"'
    (tmp_path / "se-2020.toml").write_text(old)
    (tmp_path / "se-2027.toml").write_text(new)
    profile = rulebook(load_text(f'policy.jurisdictions = "{tmp_path}"', "x", {}).config).profile("46701740605", "SE")
    assert profile.on(date(2026, 12, 31)) == ((540, 1260),)
    assert profile.on(date(2027, 1, 1)) == ((600, 1080),)
    assert profile.on(date(2019, 1, 1)) == ((480, 1380),)  # no law yet: the default

    (tmp_path / "se-2027.toml").write_text(new.replace("2027-01-01", "2026-12-31"))
    with pytest.raises(ConfigError, match="in force twice"):
        load_text(f'policy.jurisdictions = "{tmp_path}"', "x", {})


def test_every_shipped_jurisdiction_has_a_date_and_a_source():
    files = sorted(jurisdictions_folder().glob("*.toml"))
    assert {file.stem for file in files} >= {"cn", "us", "us-fl", "us-ok", "us-tx", "fr"}
    for file in files:
        text = file.read_text()
        assert f'name = "{file.stem}"' in text
        assert re.search(r"(?m)^source = \".{10,}\"$", text)
        assert re.search(r"(?m)^valid_from = \d{4}-\d\d-\d\d$", text)


def test_warnings_come_with_the_configuration():
    loaded = read(CONFIG / "demo.toml", {"NORTH_PORT": "1", "SOUTH_PORT": "2"})
    assert {warning.path for warning in loaded.warnings} == {
        "account[0].api_keys[0]",
        "account[1].api_keys[0]",
        "smpp",
    }
