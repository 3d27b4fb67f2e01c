"""Loads a ``Config`` from a file, with its warnings."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config.check import check
from gateway.config.examples import is_example
from gateway.config.problems import ConfigError, ConfigProblem, Diagnostics
from gateway.config.read import Reader
from gateway.config.schema import Config

_SECRETS = frozenset(
    {
        *("password", "api_keys", "webhook_secret", "webhook_secrets"),
        *("token", "read_token", "operators", "hashing_secret", "encryption_keys"),
    }
)


class LoadedConfig(NamedTuple):
    """A valid configuration and its warnings, shown once at start."""

    config: Config
    warnings: tuple[ConfigProblem, ...]


class Source(NamedTuple):
    """Where the configuration of a running gateway comes from; a reload reads it again."""

    file: Path

    def read(self) -> LoadedConfig:
        """Return the configuration as it is now. Raises ConfigError."""
        return read(self.file)


def load(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> Config:
    """Return the configuration in a file (None: all defaults). Raises ConfigError with all problems."""
    return read(path, env).config


def read(path: str | Path | None = None, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """Return the configuration in a file with its warnings. Raises ConfigError with all problems."""
    if path is None:
        return load_text("", "defaults", env)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Windows editors write a byte order mark
    except OSError as error:
        raise ConfigError(
            [ConfigProblem(str(path), "", f"cannot read: {error.strerror}", "Name a readable file")]
        ) from None
    except UnicodeDecodeError:
        raise ConfigError([ConfigProblem(str(path), "", "not UTF-8 text", "Save it as UTF-8")]) from None
    if not re.search(r"^\s*[^\s#]", text, re.MULTILINE):
        raise ConfigError(
            [
                ConfigProblem(
                    str(path), "", "the file is empty", "Start with config/gateway.toml or the example in the README"
                )
            ]
        )
    loaded = load_text(text, str(path), env)
    return loaded._replace(warnings=(*loaded.warnings, *_permission_warnings(Path(path), text)))


def _permission_warnings(path: Path, text: str) -> list[ConfigProblem]:
    """Return a warning when other users can read the secrets in a file, or change it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return []
    if mode & 0o002:
        return [ConfigProblem(str(path), "", "any user of this machine can change it", f"Run chmod o-w {path}")]
    if not mode & 0o004 or not (found := next(_secrets(tomllib.loads(text)), "")):
        return []
    remedy = f"Run chmod o-r {path}, or put the secrets into the environment or into files"
    return [ConfigProblem(str(path), found, "a secret that any user of this machine can read", remedy)]


def _secrets(tables: Mapping[str, Any], parent: str = "") -> Iterator[str]:
    """Yield the paths of secrets in the file itself, neither hashed nor taken from the environment."""
    for key, value in tables.items():
        path = f"{parent}.{key}" if parent else key
        if key in _SECRETS:
            values = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if any(isinstance(one, str) and _is_clear_secret(one) for one in values):
                yield path
        elif isinstance(value, dict):
            yield from _secrets(value, path)
        elif isinstance(value, list):
            for index, one in enumerate(value):
                if isinstance(one, dict):
                    yield from _secrets(one, f"{path}[{index}]")


def _is_clear_secret(secret: str) -> bool:
    """Whether a value is a real secret in clear text."""
    return bool(secret) and not secret.startswith("sha256:") and "${" not in secret and not is_example(secret)


def load_text(text: str, file: str = "text", env: Mapping[str, str] | None = None) -> LoadedConfig:
    """Return the configuration in TOML text. ``file``: its name in problems. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([ConfigProblem(file, "", f"invalid TOML: {error}", _fix(error))]) from None
    return from_tables(raw, file, env)


def _fix(error: tomllib.TOMLDecodeError) -> str:
    """Return the remedy for a syntax error: the line that the error names."""
    line = re.search(r"at line (\d+)", str(error))
    return f"Fix line {line[1]}" if line else "Complete the end of the file"


def from_tables(raw: dict[str, Any], file: str, env: Mapping[str, str] | None = None) -> LoadedConfig:
    """Return the configuration in parsed TOML. Raises ConfigError."""
    diagnostics = Diagnostics(file)
    config = Reader(diagnostics, os.environ if env is None else env).table(Config, raw)
    assert config is not None  # a document is always a table
    check(config, diagnostics)
    diagnostics.raise_if_any()
    return LoadedConfig(config, tuple(diagnostics.warnings))
