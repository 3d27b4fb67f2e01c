"""From a file to a ``Config``."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config.check import check
from gateway.config.examples import is_example
from gateway.config.problems import ConfigError, ConfigProblem, Findings
from gateway.config.read import Reader
from gateway.config.schema import Config

_SECRETS = frozenset(
    {
        *("password", "api_keys", "webhook_secret", "webhook_secrets"),
        *("token", "read_token", "operators", "hashing_secret", "encryption_keys"),
    }
)


class Loaded(NamedTuple):
    """A good configuration and what is doubtful about it (shown once at start)."""

    config: Config
    warnings: tuple[ConfigProblem, ...]


class Source(NamedTuple):
    """Where a gateway's configuration comes from, to be read again for a reload."""

    file: Path

    def read(self) -> Loaded:
        """As it is now. Raises ConfigError."""
        return read(self.file)


def load(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file (None: every key at its default). Raises ConfigError with all problems."""
    return read(path, env).config


def read(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Loaded:
    """As ``load``, with the warnings."""
    if path is None:
        return load_text("", "defaults", env)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # editors on Windows write the mark
    except OSError as error:
        raise ConfigError(
            [ConfigProblem(str(path), "", f"cannot be read: {error.strerror}", "Name a readable file")]
        ) from None
    except UnicodeDecodeError:
        raise ConfigError([ConfigProblem(str(path), "", "is not UTF-8 text", "Save it as UTF-8")]) from None
    if not re.search(r"^\s*[^\s#]", text, re.MULTILINE):
        raise ConfigError(
            [ConfigProblem(str(path), "", "is empty", "Begin with config/gateway.toml, or with the README's")]
        )
    loaded = load_text(text, str(path), env)
    return loaded._replace(warnings=(*loaded.warnings, *_open_file(Path(path), text)))


def _open_file(path: Path, text: str) -> list[ConfigProblem]:
    """A warning when others can read the secrets in a file, or change it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if mode & 0o002:
        return [ConfigProblem(str(path), "", "can be changed by anybody on this machine", f"Run chmod o-w {path}")]
    if not mode & 0o004 or not (found := next(_secrets(tomllib.loads(text)), "")):
        return []
    remedy = f"Run chmod o-r {path}, or take the secrets from the environment or from files"
    return [ConfigProblem(str(path), found, "a secret that anybody on this machine can read", remedy)]


def _secrets(tables: Mapping[str, Any], place: str = "") -> Iterator[str]:
    """Where secrets stand in the file itself: not as a hash, and not taken from the environment."""
    for key, value in tables.items():
        path = f"{place}.{key}" if place else key
        if key in _SECRETS:
            said = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if any(isinstance(one, str) and _is_kept_here(one) for one in said):
                yield path
        elif isinstance(value, dict):
            yield from _secrets(value, path)
        elif isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, dict):
                    yield from _secrets(one, f"{path}[{index}]")


def _is_kept_here(secret: str) -> bool:
    """Whether it is a secret at all, of which the file is the place."""
    return bool(secret) and not secret.startswith("sha256:") and "${" not in secret and not is_example(secret)


def load_text(text: str, file: str = "text", env: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in TOML text; ``file`` is what problems call it. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([ConfigProblem(file, "", f"is not TOML: {error}", "Mend the line it names")]) from None
    return from_tables(raw, file, env)


def from_tables(raw: dict[str, Any], file: str, env: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in parsed TOML. Raises ConfigError."""
    findings = Findings(file)
    config = Reader(findings, os.environ if env is None else env).table(Config, raw)
    assert config is not None  # a document is always a table
    check(config, findings)
    findings.raise_if_any()
    return Loaded(config, tuple(findings.warnings))
