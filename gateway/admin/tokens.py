"""The tokens of operators: those of the configuration, else one of the data folder, made at the first start."""

from __future__ import annotations

from pathlib import Path

from gateway import discovery
from gateway.admin.auth import Tokens
from gateway.config import Config


def open_tokens(config: Config) -> tuple[Tokens, Path | None]:
    """The tokens, and the file of the one that was made. Raises OSError when one must be made and cannot."""
    if config.admin.token or config.admin.operators:
        return Tokens.of(config.admin), None
    try:
        made, file = discovery.load_or_create_token(Path(config.store.data_dir))
    except OSError as error:
        text = f"no token for operators can be kept in {config.store.data_dir}: {error.strerror or error}"
        raise OSError(f"{text}; set [admin] token") from error
    return Tokens.of(config.admin, made), file
