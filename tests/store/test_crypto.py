"""The vault, and the secrets of a data folder."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.store.crypto import FILE, Vault, from_text, load_or_create
from gateway.store.errors import StoreRefused

OLD, NEW = bytes(32), bytes([1]) * 32


@given(st.binary(max_size=500))
def test_a_sealed_value_opens_and_reveals_nothing(plain: bytes) -> None:
    vault = Vault({1: OLD}, 1)
    blob = vault.seal(plain)
    assert vault.open(blob) == plain
    assert len(blob) == len(plain) + 29
    assert vault.seal(plain) != blob
    assert len(plain) < 4 or plain not in blob


def test_values_of_an_old_key_open_after_a_rotation() -> None:
    blob = Vault({1: OLD}, 1).seal(b"text")
    both = Vault({1: OLD, 2: NEW}, 2)
    assert both.open(blob) == b"text"
    assert both.seal(b"text")[0] == 2
    with pytest.raises(StoreRefused, match="add it back"):
        Vault({2: NEW}, 2).open(blob)


@given(st.data())
def test_an_altered_value_is_refused(data: st.DataObject) -> None:
    vault = Vault({1: OLD}, 1)
    blob = bytearray(vault.seal(b"some text"))
    place = data.draw(st.integers(0, len(blob) - 1))
    blob[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(StoreRefused):
        vault.open(bytes(blob))


@pytest.mark.parametrize("blob", [b"", b"\x01", b"\x01" * 12, b"\x01" * 13])
def test_a_cut_value_is_refused(blob: bytes) -> None:
    with pytest.raises(StoreRefused):
        Vault({1: OLD}, 1).open(blob)


def test_nonces_never_repeat_not_even_when_the_counter_is_full_or_in_a_forked_child() -> None:
    vault = Vault({1: OLD}, 1)
    nonces = {vault.seal(b"")[1:13] for _ in range(1000)}
    vault._number = (1 << 32) - 2
    nonces |= {vault.seal(b"")[1:13] for _ in range(10)}
    assert len(nonces) == 1010
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, vault.seal(b"")[1:13])
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 12) != vault.seal(b"")[1:13]


def test_a_folder_gets_its_secrets_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(load_or_create, [tmp_path / "data"] * 8))
    assert len({each.hashing for each in found}) == 1
    assert found[0].vault.open(found[7].vault.seal(b"x")) == b"x"
    assert load_or_create(tmp_path / "data").fingerprint == found[0].fingerprint
    assert load_or_create(tmp_path / "other").fingerprint != found[0].fingerprint
    path = tmp_path / "data" / FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [FILE]


def test_a_file_that_cannot_be_trusted_is_refused(tmp_path: Path) -> None:
    load_or_create(tmp_path)
    path = tmp_path / FILE
    path.chmod(0o640)
    with pytest.raises(StoreRefused, match="chmod 600"):
        load_or_create(tmp_path)
    path.chmod(0o600)
    path.write_text("{}")
    with pytest.raises(StoreRefused, match="damaged"):
        load_or_create(tmp_path)


def test_secrets_from_the_configuration() -> None:
    hashing, key = base64.b64encode(bytes(range(32))).decode(), base64.b64encode(NEW).decode()
    secrets = from_text(hashing, {"1": OLD.hex(), "2": key})
    assert secrets.vault.seal(b"")[0] == 2
    assert from_text(hashing, {"1": OLD.hex(), "2": key}, "1").vault.seal(b"")[0] == 1
    assert "0001020304" not in repr(secrets)
    assert key not in repr(secrets)


@pytest.mark.parametrize(
    ("hashing", "keys", "current"),
    [
        ("c2hvcnQ=", {"1": OLD.hex()}, ""),
        ("?" * 30, {"1": OLD.hex()}, ""),
        (NEW.hex(), {}, ""),
        (NEW.hex(), {"1": "c2hvcnQ="}, ""),
        (NEW.hex(), {"a": OLD.hex()}, ""),
        (NEW.hex(), {"256": OLD.hex()}, ""),
        (NEW.hex(), {"1": OLD.hex()}, "2"),
    ],
)
def test_faulty_secrets_are_refused_without_showing_them(hashing: str, keys: dict[str, str], current: str) -> None:
    with pytest.raises(StoreRefused) as caught:
        from_text(hashing, keys, current)
    assert hashing not in str(caught.value)
