"""Which version this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Of this package; "unknown" when it runs from files that were never installed."""
    try:
        return version("smpp-gateway-server")
    except PackageNotFoundError:
        return "unknown"
