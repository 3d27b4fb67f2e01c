"""What only makes sense together: names that must exist, lists that must match, secrets that must not be public."""

from __future__ import annotations

from gateway.config.problems import Findings
from gateway.config.schema import Config


def check(config: Config, findings: Findings) -> None:
    """Adds every problem and warning that concerns more than one key."""
