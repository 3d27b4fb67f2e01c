"""The secrets of the store: the hashing secret that names recipients, and the keys that seal numbers and texts.

The hashing secret never changes: key names are made with it, so with another one no opt-out or consent would be
found. The encryption keys may be rotated: a sealed value names its key, a new current key seals from then on, and
the old ones stay as long as values sealed with them do.

Both come from the configuration (``[privacy]``, where ``${NAME}`` takes a value from the environment), or are made at
the first start and kept in ``<data_dir>/secrets.json``, mode 0600.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
import tempfile
import weakref
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.store.errors import StoreRefused

FILE = "secrets.json"
_KEY_OCTETS = 32
_NONCE_OCTETS = 12
_NONCES_PER_HALF = 1 << 32


class Vault:
    """Seals octets with AES-256-GCM: ``key id (1 octet) + nonce (12) + ciphertext + tag (16)``.

    A nonce is 8 random octets and a counter of 4. Fully random ones would use up the 2^32 that NIST SP 800-38D
    (section 8.3) allows a key within two days at 15,000 messages a second. The random half is drawn afresh at start,
    when the counter is full, and in a forked child.
    """

    __slots__ = ("__weakref__", "_ciphers", "_current", "_half", "_number", "_seal", "fingerprints")

    def __init__(self, keys: Mapping[int, bytes], current: int) -> None:
        """``keys``: key id (0 to 255) -> 32 octets; ``current`` seals. Raises StoreRefused when they do not fit."""
        for key_id, key in keys.items():
            if not 0 <= key_id <= 255 or len(key) != _KEY_OCTETS:
                raise StoreRefused(
                    f"encryption key {key_id}: a key has an id from 0 to 255 and {_KEY_OCTETS} octets "
                    f"(it has {len(key)}); make one with `openssl rand -base64 {_KEY_OCTETS}`"
                )
        if current not in keys:
            raise StoreRefused(f"the current encryption key {current} is not among the keys given ({sorted(keys)})")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self.fingerprints = {
            key_id: blake2b(key, digest_size=8, person=b"gw-key").hexdigest() for key_id, key in keys.items()
        }
        """Key id -> an identifier of the key that does not reveal it."""
        self._current = current.to_bytes(1, "big")
        self._seal = self._ciphers[current].encrypt
        self._renew()
        renew = weakref.WeakMethod(self._renew)
        os.register_at_fork(after_in_child=lambda: (mine := renew()) and mine())

    def _renew(self) -> None:
        self._half = secrets.token_bytes(8)
        self._number = 0

    def seal(self, plain: bytes) -> bytes:
        """Encrypt under the current key: 29 octets longer than ``plain``, and different every time."""
        number = self._number
        if number >= _NONCES_PER_HALF:
            self._renew()
            number = 0
        self._number = number + 1
        nonce = self._half + number.to_bytes(4, "big")
        return self._current + nonce + self._seal(nonce, plain, None)

    def open(self, blob: bytes) -> bytes:
        """Decrypt what ``seal`` made. Raises StoreRefused for an unknown key id or a value that was tampered with."""
        cipher = self._ciphers.get(blob[0]) if blob else None
        if cipher is None:
            raise StoreRefused(
                f"a stored value is sealed with encryption key {blob[0] if blob else 'none'}, which is not among "
                f"{sorted(self._ciphers)}; add it back to [privacy] until such values have gone"
            )
        try:
            return cipher.decrypt(blob[1 : 1 + _NONCE_OCTETS], blob[1 + _NONCE_OCTETS :], None)
        except (InvalidTag, ValueError) as error:
            raise StoreRefused(
                f"a stored value does not open with encryption key {blob[0]}: the key differs from the one it was "
                "sealed with, or the value was altered"
            ) from error

    def is_current(self, blob: bytes) -> bool:
        """Tell whether the current key sealed it; else the former key is still needed."""
        return blob[:1] == self._current

    def __repr__(self) -> str:
        return f"<Vault current={self._current[0]} keys={sorted(self._ciphers)}>"


class Secrets(NamedTuple):
    """Hashing secret and encryption keys."""

    hashing: bytes  # names recipients; never changes
    vault: Vault

    @property
    def fingerprint(self) -> str:
        """Return an identifier of the hashing secret that does not reveal it; stored with the data and compared."""
        return blake2b(self.hashing, digest_size=8, person=b"gw-print").hexdigest()

    def __repr__(self) -> str:
        return f"<Secrets {self.fingerprint} {self.vault!r}>"


def from_text(hashing_secret: str, encryption_keys: Mapping[str, str], current: str = "") -> Secrets:
    """Return the secrets of the configuration: base64 or hex, keys by id; ``current`` "" means the highest id.

    Raises StoreRefused that names the faulty key (never its value).
    """
    hashing = _octets("privacy.hashing_secret", hashing_secret)
    if len(hashing) < 16:
        raise StoreRefused("privacy.hashing_secret is shorter than 16 octets; make one with `openssl rand -base64 32`")
    try:
        keys = {int(name): _octets(f"privacy.encryption_keys.{name}", text) for name, text in encryption_keys.items()}
        return Secrets(hashing, Vault(keys, int(current) if current else max(keys)))
    except ValueError as error:
        raise StoreRefused(
            "privacy.encryption_keys: ids are numbers from 0 to 255 and one key at least is needed"
        ) from error


def load_or_create(data_dir: Path) -> Secrets:
    """Return the secrets of this data folder, made at its first start. Raises StoreRefused when they are unusable."""
    path = data_dir / FILE
    try:
        if not path.exists():
            _create(path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise StoreRefused(f"{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")
        return from_file_text(path.read_text(), str(path))
    except OSError as error:
        raise StoreRefused(f"{path}: {error.strerror}; the gateway must be able to read and write there") from error
    except UnicodeDecodeError as error:
        raise StoreRefused(f"{path} is damaged ({error!r}); restore it from a backup") from error


def from_file_text(text: str, where: str) -> Secrets:
    """Return the secrets in the text of a secrets file. ``where``: its name. Raises StoreRefused when it is damaged."""
    try:
        kept = json.loads(text)
        keys = {int(key_id): _octets(f"{where}: key {key_id}", key) for key_id, key in kept["keys"].items()}
        return Secrets(_octets(f"{where}: hashing_secret", kept["hashing_secret"]), Vault(keys, int(kept["current"])))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreRefused(f"{where} is damaged ({error!r}); restore it from a backup") from error


def file_text(hashing_secret: str, encryption_keys: Mapping[str, str], current: str = "") -> str:
    """Return the text of a secrets file with the secrets of a configuration (``from_text``)."""
    number = int(current) if current else max(map(int, encryption_keys))
    kept = {"hashing_secret": hashing_secret, "current": number, "keys": dict(encryption_keys)}
    return json.dumps(kept, indent=1)


def _create(path: Path) -> None:
    """Write new secrets durably. When two gateways start at once, one file wins and both read it."""
    text = json.dumps(
        {
            "hashing_secret": base64.b64encode(secrets.token_bytes(32)).decode(),
            "current": 1,
            "keys": {"1": base64.b64encode(secrets.token_bytes(_KEY_OCTETS)).decode()},
        },
        indent=1,
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _octets(name: str, text: str) -> bytes:
    """Decode hex of 32 octets, or base64. Raises StoreRefused, which names the setting and not its value."""
    try:
        if len(text) == 2 * _KEY_OCTETS:
            with contextlib.suppress(ValueError):
                return bytes.fromhex(text)
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise StoreRefused(f"{name} is neither base64 nor hex") from error
