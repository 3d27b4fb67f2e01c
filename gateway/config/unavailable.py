"""Keys that are checked and not yet used: whoever writes them is told so, instead of believing that they work."""

from __future__ import annotations

from gateway.config.problems import Findings
from gateway.config.schema import Account, Config, SmppConfig

NOT_YET = "is not available in this version"
DOOR_KEYS = {
    "password": ("it lets nobody in", "Let the app submit over HTTP, with one of its api_keys"),
    "allow_ips": ("it restricts nothing", "Restrict HTTP in front of the gateway"),
    "max_binds": ("it bounds nothing", "Leave it out, or for later"),
}
"""What of an account is for the SMPP door, beside its system_id: what it does not do yet, and what to do instead."""

_USUAL = Account(name="usual")


def check_available(config: Config, findings: Findings) -> None:
    """Adds a warning for every such key that differs from its default."""
    _smpp_door(config, findings)
    for index, account in enumerate(config.accounts):
        for key, (lack, remedy) in DOOR_KEYS.items():
            told = key == "password" and account.system_id  # with the door itself
            if getattr(account, key) != getattr(_USUAL, key) and not told:
                fault = f"is for the SMPP door, which {NOT_YET}: {lack}"
                findings.warn(f"account[{index}].{key}", fault, remedy, account.name)


def _smpp_door(config: Config, findings: Findings) -> None:
    logins = [account.name for account in config.accounts if account.system_id]
    if config.smpp == SmppConfig() and not logins:
        return
    nobody = f", and the system_id of {', '.join(logins)} lets nobody in" if logins else ""
    fault = f"the SMPP door for apps {NOT_YET}: nothing listens there{nobody}"
    findings.warn("smpp", fault, "Let apps submit over HTTP")
