"""Keys that are checked and not yet used: whoever writes them is told so, instead of believing that they work."""

from __future__ import annotations

from gateway.config.problems import Findings
from gateway.config.schema import Config, Smpp

NOT_YET = "is not available in this version"


def check_available(config: Config, findings: Findings) -> None:
    """Adds a warning for every such key that differs from its default."""
    _smpp_door(config, findings)
    for index, account in enumerate(config.accounts):
        if account.allow_ips:
            fault = f"is for the SMPP door, which {NOT_YET}: it restricts nothing"
            findings.warn(f"account[{index}].allow_ips", fault, "Restrict HTTP in front of the gateway", account.name)


def _smpp_door(config: Config, findings: Findings) -> None:
    logins = [account.name for account in config.accounts if account.system_id]
    if config.smpp == Smpp() and not logins:
        return
    nobody = f", and the system_id of {', '.join(logins)} lets nobody in" if logins else ""
    fault = f"the SMPP door for apps {NOT_YET}: nothing listens there{nobody}"
    findings.warn("smpp", fault, "Let apps submit over HTTP")
