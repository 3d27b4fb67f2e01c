"""The configuration: a TOML file and the environment as frozen structs, or a ``ConfigError`` with every problem.

``schema`` defines the keys, ``read`` fills them, ``check`` (with ``check_accounts``, ``check_carriers`` and
``check_routes``) checks keys that depend on each other, ``rulebook`` builds the rules of ``gateway.policy`` from
``[policy]`` and the jurisdiction files, ``changes`` compares two configurations.
"""

from __future__ import annotations

from gateway.config.changes import Change, Changes, compare, needs_rebind
from gateway.config.load import LoadedConfig, Source, load, load_text, read
from gateway.config.problems import ConfigError, ConfigProblem
from gateway.config.rulebook import route_table, rulebook
from gateway.config.schema import (
    Account,
    AdminConfig,
    Carrier,
    CarrierTlv,
    Config,
    HttpConfig,
    LogConfig,
    PolicyConfig,
    PrivacyConfig,
    RetentionConfig,
    Route,
    SmppConfig,
    StoreConfig,
    WebhookConfig,
    is_name,
    split_address,
)

__all__ = [
    "Account",
    "AdminConfig",
    "Carrier",
    "CarrierTlv",
    "Change",
    "Changes",
    "Config",
    "ConfigError",
    "ConfigProblem",
    "HttpConfig",
    "LoadedConfig",
    "LogConfig",
    "PolicyConfig",
    "PrivacyConfig",
    "RetentionConfig",
    "Route",
    "SmppConfig",
    "Source",
    "StoreConfig",
    "WebhookConfig",
    "compare",
    "is_name",
    "load",
    "load_text",
    "needs_rebind",
    "read",
    "route_table",
    "rulebook",
    "split_address",
]
