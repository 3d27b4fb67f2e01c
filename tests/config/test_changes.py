"""What differs between two configurations, what is not available yet, what stands in files: as operators read it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.config import Carrier, Config, ConfigError, Route, compare, load_text, needs_rebind
from gateway.config.changes import ADJUSTABLE
from tests.certificates import Authority

CARRIER = '[[carrier]]\nname = "north"\nhosts = ["127.0.0.1:2775"]\nsystem_id = "gw"\npassword = "pass"\n'
NORTH = Carrier(name="north", hosts=("127.0.0.1:2775",), system_id="gw", password="pass")


def config(text: str = "", env: dict[str, str] | None = None) -> Config:
    return load_text(text, "gw.toml", env or {}).config


def problems(text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "gw.toml", {})
    return {problem.path: str(problem) for problem in caught.value.problems}


def test_nothing_differs() -> None:
    assert not compare(config(CARRIER), config(CARRIER))
    assert compare(Config(), Config()).as_json() == {"changes": [], "needs_restart": []}


def test_secrets_are_never_shown() -> None:
    old, new = config(CARRIER), config(CARRIER.replace('"pass"', '"other"'))
    assert [str(change) for change in compare(old, new).changed] == [
        "carrier north changed: password changed (its binds reconnect)"
    ]


@pytest.mark.parametrize("key", sorted(ADJUSTABLE | {"window", "binds", "tls_name", "receipt_key", "first_sequence"}))
def test_a_change_of_other_than_adjustable_keys_requires_a_rebind(key: str) -> None:
    field = next(field for field in msgspec.structs.fields(Carrier) if field.name == key)
    known = {"status_table": {"0x1": "retry"}, "sender_rates": {"A": 1.0}, "on_unknown": "never", "alphabet": "latin1"}
    known |= {"number_format": "plus", "long_messages": "sar", "id_form": "as-is", "receipt_key": "id", "tls_name": "x"}
    value = known.get(key, 7)
    assert value != field.default
    assert needs_rebind(NORTH, msgspec.structs.replace(NORTH, **{key: value})) is (key not in ADJUSTABLE)


def test_adjustable_keys_exist() -> None:
    assert {field.name for field in msgspec.structs.fields(Carrier)} >= ADJUSTABLE


def test_tables_that_need_a_restart() -> None:
    new = config('workers = 1\n[http]\nlisten = "127.0.0.1:99"\n[log]\nlevel = "debug"\nformat = "json"')
    changes = compare(Config(), new)
    assert [str(change) for change in changes.refused] == [
        "[http] changed: listen 127.0.0.1:8080 → 127.0.0.1:99",
        "[log] changed: format auto → json",
    ]
    assert [str(change) for change in changes.changed] == ["[log] changed: level info → debug"]


def test_only_a_supervisor_changes_the_number_of_workers() -> None:
    old, new = config("workers = 2"), config("workers = 3")
    assert [str(change) for change in compare(old, new).refused] == ["workers changed: 2 → 3"]
    changes = compare(old, new, supervised=True)
    assert ([str(change) for change in changes.changed], changes.refused) == (["workers changed: 2 → 3"], ())


def test_the_order_of_routes_counts() -> None:
    a, b = Route(to="+46", carriers=("x",), name="a"), Route(to="+46", carriers=("x",), name="b")
    changes = compare(Config(routes=(a, b)), Config(routes=(b, a)))
    assert [str(change) for change in changes.changed] == ["routes changed: order changed"]


# ── what is not available yet ────────────────────────────────────────────────────────────────────────────────────


def test_keys_that_are_not_used_yet_are_warned_of() -> None:
    (warned,) = load_text("workers = 4\n[smpp]\nlisten = '127.0.0.1:2777'\n", "gw.toml", {}).warnings
    assert (warned.path, "not available in this version" in warned.fault) == ("smpp", True)
    login = '[[account]]\nname = "shop"\nsystem_id = "shop"\npassword = "pw"\n'
    (warning,) = (one for one in load_text(login, "gw.toml", {}).warnings if one.path == "smpp")
    assert "the system_id of shop is not used" in warning.fault
    door = '[[account]]\nname = "shop"\npassword = "pw"\nallow_ips = ["10.0.0.0/8"]\nmax_binds = 2\n'
    said = [one.path for one in load_text(door, "gw.toml", {}).warnings if "SMPP server" in one.fault]
    assert said == ["account[0].password", "account[0].allow_ips", "account[0].max_binds"]
    assert [one for one in load_text("", "gw.toml", {}).warnings if "available" in one.fault] == []


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_table_of_secrets_comes_from_files(tmp_path: Path) -> None:
    key = "A" * 43 + "="
    (tmp_path / "one").write_text(key + "\n")
    (tmp_path / "hash").write_text(key + "\n")
    text = '[privacy]\nhashing_secret_file = "${DIR}/hash"\nencryption_keys_file = { 1 = "${DIR}/one" }\n'
    loaded = config(text, {"DIR": str(tmp_path)})
    assert (loaded.privacy.hashing_secret, loaded.privacy.encryption_keys) == (key, {"1": key})
    assert "privacy.encryption_keys_file" in problems('[privacy]\nencryption_keys_file = "x"')
    assert "privacy.encryption_keys_file" in problems('[privacy]\nencryption_keys_file = { 1 = "/nowhere" }')


def test_certificates_are_loaded_to_check_them(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    cert, key = ours.issue("gw")
    other, _ = ours.issue("other")
    text = f'{CARRIER}tls = true\nca = "{ours.file}"\ncert = "{cert}"\nkey = "{key}"\n'
    assert config(text).carriers[0].tls
    assert "carrier[0].cert" in problems(text.replace(str(cert), str(other)))
    (tmp_path / "empty").write_text("nothing")
    assert "contains no certificate" in problems(text.replace(str(ours.file), str(tmp_path / "empty")))["carrier[0].ca"]


def test_rates_of_senders() -> None:
    assert config(CARRIER + 'sender_rates = { "SHOP" = 5, "1069*" = 0.5, "*" = 100 }').carriers[0].sender_rates == {
        "SHOP": 5,
        "1069*": 0.5,
        "*": 100,
    }
    assert "carrier[0].sender_rates.SHOP" in problems(CARRIER + 'sender_rates = { "SHOP" = 0 }')
    assert "carrier[0].sender_rates" in problems(CARRIER + 'sender_rates = { "S*P" = 1 }')
