"""The configuration: a TOML file and the environment become frozen structs, or a ``ConfigError`` with every fault.

``schema`` names the keys, ``read`` fills them, ``check`` looks at what only makes sense together, ``rulebook`` turns
``[policy]`` and the jurisdiction files into what ``gateway.policy`` decides by.
"""

from __future__ import annotations

from gateway.config.changes import Change, Changes, compare, restarts
from gateway.config.load import Loaded, Source, load, load_text, read
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
    "Loaded",
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
    "read",
    "restarts",
    "route_table",
    "rulebook",
    "split_address",
]
