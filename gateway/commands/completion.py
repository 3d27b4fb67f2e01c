"""Shell completion of names from the configuration. Imports nothing slow.

The configuration is the one on the command line or in SMPP_GATEWAY_CONFIG, else those of this user's gateways on this
machine. A file that cannot be read completes nothing, so that Tab never prints an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return a completer for fixed words."""

    def names(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return names


def named(table: str) -> Callable[[typer.Context, str], list[str]]:
    """Return a completer for the names of tables: ``account`` or ``carrier``."""

    def names(context: typer.Context, incomplete: str) -> list[str]:
        found = {one["name"] for file in _files(context) for one in _tables(file, table) if "name" in one}
        return sorted(name for name in map(str, found) if name.startswith(incomplete))

    return names


def _files(context: typer.Context) -> list[Path]:
    from gateway import discovery

    given = context.params.get("config") or os.environ.get("SMPP_GATEWAY_CONFIG")
    return [Path(given)] if given else [Path(one.config) for one in discovery.running() if one.config]


def _tables(file: Path, table: str) -> Iterator[dict[str, Any]]:
    import tomllib

    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get(table)
    except (OSError, ValueError):
        return
    yield from (one for one in found if isinstance(one, dict)) if isinstance(found, list) else ()


accounts, carriers = named("account"), named("carrier")
categories = one_of("otp", "transactional", "marketing", "emergency")
