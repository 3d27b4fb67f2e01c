"""Admin tokens: those of the configuration, else one in the data folder, created at the first start."""

from __future__ import annotations

from pathlib import Path

from gateway import discovery
from gateway.admin.auth import Tokens
from gateway.config import Config


def open_tokens(config: Config) -> tuple[Tokens, Path | None]:
    """Return the tokens, and the file of a generated one. Raise OSError when one must be created and cannot be."""
    if config.admin.token or config.admin.operators:
        return Tokens.of(config.admin), None
    try:
        generated, file = discovery.load_or_create_token(Path(config.store.data_dir))
    except OSError as error:
        text = f"cannot keep an admin token in {config.store.data_dir}: {error.strerror or error}"
        raise OSError(f"{text}; set [admin] token") from error
    return Tokens.of(config.admin, generated), file
