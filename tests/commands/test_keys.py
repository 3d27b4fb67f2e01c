"""Keys in a configuration: listed by fingerprint, revoked by saying where they stand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.commands.common import Exit

FIRST, SECOND = (hashlib.sha256(word).hexdigest() for word in (b"first", b"second"))
PLAIN = hashlib.sha256(b"key").hexdigest()[:12]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "keys").write_text(f"sha256:{SECOND}\n")
    file = tmp_path / "gateway.toml"
    file.write_text(f"""
[[account]]
name = "shop"
api_keys = [
  "sha256:{FIRST}",
  "plain:key",
]
[[account]]
name = "bank"
api_keys_file = "{tmp_path / "keys"}"
""")
    return file


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["key", *map(str, words)])
    return done.exit_code, done.output


def test_list(file: Path) -> None:
    code, said = invoke("list", "--config", file, "--json")
    assert code == Exit.OK
    assert json.loads(said)["keys"] == [
        {"account": "shop", "fingerprint": FIRST[:12], "kind": "sha256"},
        {"account": "shop", "fingerprint": PLAIN, "kind": "plain"},
        {"account": "bank", "fingerprint": SECOND[:12], "kind": "sha256"},
    ]
    _, said = invoke("list", "shop", "--config", file)
    assert (FIRST[:12] in said, SECOND[:12] in said, "plain text" in said) == (True, False, True)
    assert "accounts: shop, bank" in invoke("list", "nobody", "--config", file)[1]


def test_revoke_shows_what_to_remove_and_where(file: Path) -> None:
    before = file.read_text()
    code, said = invoke("revoke", FIRST[:8], "--config", file)
    assert code == Exit.OK
    assert [words in said for words in (f"sha256:{FIRST}", f"{file}, line 5", "reload", "has 1 other key.")] == [
        True
    ] * 4
    _, said = invoke("revoke", SECOND[:12].upper(), "--config", file, "--json")
    assert json.loads(said)["remove_from"] == [f"{file.parent / 'keys'}:1"]
    _, said = invoke("revoke", PLAIN, "--config", file)
    assert ("plain:…" in said, "line 6" in said) == (True, True)
    assert file.read_text() == before


def test_revoke_of_an_unknown_key(file: Path) -> None:
    assert invoke("revoke", "0123456789", "--config", file)[0] == Exit.REFUSED
    assert invoke("revoke", "01", "--config", file)[0] == Exit.USAGE


def test_a_configuration_with_problems(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text("[nonsense]\n")
    assert invoke("list", "--config", bad)[0] == Exit.USAGE
    assert "problems" in json.loads(invoke("list", "--config", bad, "--json")[1])
