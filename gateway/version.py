"""The version of the gateway."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the installed version, "unknown" when the package is not installed."""
    try:
        return version("smpp-gateway-server")
    except PackageNotFoundError:
        return "unknown"
