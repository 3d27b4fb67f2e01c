"""How a command finds a gateway of the same user, and its token."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gateway import discovery

URL = "http://127.0.0.1:8081"


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    return folder / f"smpp-gateway-{os.getuid()}"


def test_the_token_is_created_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    token, path = discovery.load_or_create_token(tmp_path / "new" / "data")
    assert len(token) >= 43
    assert path.stat().st_mode & 0o777 == 0o600
    assert discovery.load_or_create_token(tmp_path / "new" / "data") == (token, path)
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="chmod 600"):
        discovery.load_or_create_token(tmp_path / "new" / "data")


def test_an_empty_token_file_is_no_token(tmp_path: Path) -> None:
    (tmp_path / discovery.TOKEN_FILE).touch(0o600)
    with pytest.raises(OSError, match="contains no token"):
        discovery.load_or_create_token(tmp_path)


def test_a_gateway_is_found_by_its_address_or_because_it_is_the_only_one(tmp_path: Path) -> None:
    token, path = discovery.load_or_create_token(tmp_path)
    assert discovery.find() is None
    note = discovery.announce(URL, path)
    for found in (discovery.find(), discovery.find(URL), discovery.find(URL + "/")):
        assert found is not None
        assert (found.url, found.token) == (URL, token)
    assert discovery.find("http://127.0.0.1:9999") is None
    other = discovery.announce("http://127.0.0.1:8082", None)
    assert discovery.find() is None  # which of the two?
    discovery.withdraw(other)
    assert discovery.find() is not None
    discovery.withdraw(note)
    assert discovery.find(URL) is None


def test_the_note_of_a_dead_gateway_is_ignored(runtime: Path, tmp_path: Path) -> None:
    note = discovery.announce(URL, tmp_path / "gone")
    assert note is not None
    note.write_text(json.dumps({"url": URL, "token_file": str(tmp_path / "gone"), "pid": 2**22 + 1}))
    assert discovery.find() is None
    found = discovery.find(URL)
    assert found is not None
    assert found.token == ""
    discovery.withdraw(note)
    assert note.exists()  # it is not ours
    note.write_text("{")
    assert discovery.find(URL) is None


def test_a_folder_that_others_can_write_to_is_not_trusted(runtime: Path, tmp_path: Path) -> None:
    runtime.mkdir()
    runtime.chmod(0o777)
    assert discovery.announce(URL, None) is None
    assert discovery.find(URL) is None
