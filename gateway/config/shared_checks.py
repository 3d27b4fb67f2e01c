"""Checks that several tables share."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping

from gateway.config.problems import Diagnostics
from gateway.config.read import cap

CAP_REMEDY = 'Write messages per time, like "5/1h" or "10/1d"'
PASSWORD_OCTETS = 8  # SMPP 3.4, 4.1.1: nine with the closing zero
_PREFIX = re.compile(r"\*|\+[1-9][0-9]{0,14}")


def check_network(text: str, path: str, diagnostics: Diagnostics, name: str = "") -> None:
    """Report a text that is neither an address nor a network."""
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        diagnostics.problem(path, f"{error}", 'Write a network, like "10.0.0.0/8" or "192.0.2.7"', name)


def check_file(file: str, path: str, diagnostics: Diagnostics, name: str = "") -> None:
    """Report a file that is missing or empty."""
    if file and not os.path.isfile(file):  # unlike Path.is_file, returns False for impossible names
        diagnostics.problem(path, f'"{file}" is not a file', "Name a readable PEM file", name)
    elif file and not os.path.getsize(file):
        diagnostics.problem(path, f'"{file}" is empty', "Name a readable PEM file", name)


def check_unique(table: str, names: list[str], key: str, diagnostics: Diagnostics) -> None:
    """Report names that are used twice in the tables of one kind; "" is no name."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name and first.setdefault(name, index) != index:
            fault = f'"{name}" is also the {key} of {table}[{first[name]}]'
            diagnostics.problem(f"{table}[{index}].{key}", fault, "Choose another", "" if key == "name" else name)


def velocities(
    limits: Mapping[str, str], path: str, diagnostics: Diagnostics, name: str = ""
) -> dict[str, tuple[int, int]]:
    """Return limits by prefix as (messages, seconds). Reports invalid ones."""
    found: dict[str, tuple[int, int]] = {}
    for prefix, text in limits.items():
        if not _PREFIX.fullmatch(prefix):
            remedy = 'Write + and digits, like "+225", or "*" for all numbers'
            diagnostics.problem(f"{path}.{prefix}", "invalid prefix", remedy, name)
        try:
            found[prefix] = cap(text)
        except ValueError:
            diagnostics.problem(f"{path}.{prefix}", f'invalid limit "{text}"', CAP_REMEDY, name)
    return found
