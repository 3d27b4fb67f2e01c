"""The error of backups."""

from __future__ import annotations


class BackupRefused(Exception):
    """A backup cannot be taken or restored as asked. The message says what, where and how to mend it."""
