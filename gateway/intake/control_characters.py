"""Control characters (C0, DEL, C1), which neither texts nor names may have."""

from __future__ import annotations

import re

CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]").search
"""All but tab and line breaks, which a text may have."""

ANY_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]").search


def control_detail(found: re.Match[str]) -> str:
    """Describe the control character that was found, for the ``detail`` of a problem."""
    return f"control character U+{ord(found[0]):04X} (character {found.start() + 1}) is not allowed"
