"""From a file to a ``Config``."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from gateway.config.check import check
from gateway.config.problems import ConfigError, Findings, Problem
from gateway.config.read import Reader
from gateway.config.schema import Config


class Loaded(NamedTuple):
    """A good configuration and what is doubtful about it (shown once at start)."""

    config: Config
    warnings: tuple[Problem, ...]


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
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            [Problem(str(path), "", f"cannot be read: {error.strerror}", "Name a readable file")]
        ) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), "", "is not UTF-8 text", "Save it as UTF-8")]) from None
    return load_text(text, str(path), env)


def load_text(text: str, file: str = "text", env: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in TOML text; ``file`` is what problems call it. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem(file, "", f"is not TOML: {error}", "Mend the line it names")]) from None
    return from_tables(raw, file, env)


def from_tables(raw: dict[str, Any], file: str, env: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in parsed TOML. Raises ConfigError."""
    findings = Findings(file)
    config = Reader(findings, os.environ if env is None else env).table(Config, raw)
    assert config is not None  # a document is always a table
    check(config, findings)
    findings.raise_if_any()
    return Loaded(config, tuple(findings.warnings))
