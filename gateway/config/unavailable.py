"""Warnings for keys that are validated but not used yet."""

from __future__ import annotations

from gateway.config.problems import Diagnostics
from gateway.config.schema import Account, Config, SmppConfig

NOT_YET = "is not available in this version"
SMPP_SERVER_KEYS = {
    "password": ("no app can log in", "Let the app submit over HTTP with one of its api_keys"),
    "allow_ips": ("nothing is restricted", "Restrict HTTP in front of the gateway"),
    "max_binds": ("nothing is limited", "Leave it out for now"),
}
"""Account keys for the SMPP server, beside system_id -> effect of their not being used, remedy."""

_DEFAULTS = Account(name="defaults")


def check_available(config: Config, diagnostics: Diagnostics) -> None:
    """Report a warning for every such key that differs from its default."""
    _check_smpp_server(config, diagnostics)
    for index, account in enumerate(config.accounts):
        for key, (effect, remedy) in SMPP_SERVER_KEYS.items():
            reported = key == "password" and account.system_id  # with the server itself
            if getattr(account, key) != getattr(_DEFAULTS, key) and not reported:
                fault = f"for the SMPP server, which {NOT_YET}: {effect}"
                diagnostics.warn(f"account[{index}].{key}", fault, remedy, account.name)


def _check_smpp_server(config: Config, diagnostics: Diagnostics) -> None:
    logins = [account.name for account in config.accounts if account.system_id]
    if config.smpp == SmppConfig() and not logins:
        return
    unused = f", and the system_id of {', '.join(logins)} is not used" if logins else ""
    fault = f"the SMPP server for apps {NOT_YET}: nothing listens{unused}"
    diagnostics.warn("smpp", fault, "Let apps submit over HTTP")
