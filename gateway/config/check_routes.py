"""Checks of routes: existing carriers and accounts, unique names, weights."""

from __future__ import annotations

from gateway.config.problems import Diagnostics
from gateway.config.schema import Config, Route

_LANE_OCTETS = 200  # the store keeps the length of a lane's name, with its place, in one octet


def check_routes(config: Config, diagnostics: Diagnostics) -> None:
    """Check routes: existing carriers and accounts, unique names, weights."""
    lanes: dict[str, int] = {}
    for index, route in enumerate(config.routes):
        path = f"route[{index}]"
        _targets(config, route, path, diagnostics)
        if route.account and route.account not in {account.name for account in config.accounts}:
            known = ", ".join(account.name for account in config.accounts) or "none"
            fault = f'no account "{route.account}"'
            diagnostics.problem(f"{path}.account", fault, f"Known accounts: {known}", route.lane)
        if len(route.lane.encode()) > _LANE_OCTETS:
            fault = f"a name of {len(route.lane.encode())} octets"
            diagnostics.problem(f"{path}.name", fault, f"Use at most {_LANE_OCTETS}", route.lane[:32] + "…")
        if any(char in route.lane for char in "#:"):
            diagnostics.problem(
                f"{path}.name", f'"{route.lane}" contains # or :', "Choose a name without them", route.lane
            )
        if lanes.setdefault(route.lane, index) != index:
            fault = f"the same as route[{lanes[route.lane]}]"
            diagnostics.problem(path, fault, "Merge the two, or give them different conditions or names", route.lane)
    if config.carriers and not config.routes:
        diagnostics.warn("route", "no routes: every message is refused (no_route)", 'Add a [[route]] with to = "*"')
    used = {carrier for route in config.routes for carrier in route.carriers}
    for index, carrier in enumerate(config.carriers):
        if config.routes and carrier.name not in used:
            diagnostics.warn(
                f"carrier[{index}]", "not used by any route", "Add it to the carriers of a route", carrier.name
            )


def _targets(config: Config, route: Route, path: str, diagnostics: Diagnostics) -> None:
    known = [carrier.name for carrier in config.carriers]
    for at, name in enumerate(route.carriers):
        if name not in known:
            remedy = f"Known carriers: {', '.join(known) or 'none'}"
            diagnostics.problem(f"{path}.carriers[{at}]", f'no carrier "{name}"', remedy, route.lane)
        if name in route.carriers[:at]:
            diagnostics.problem(f"{path}.carriers[{at}]", f'"{name}" is repeated', "Remove one of the two", route.lane)
    if not route.weights:
        return
    if len(route.weights) != len(route.carriers):
        fault = f"{len(route.weights)} weights for {len(route.carriers)} carriers"
        diagnostics.problem(f"{path}.weights", fault, "Write one weight per carrier", route.lane)
    elif not any(route.weights):
        diagnostics.problem(f"{path}.weights", "all weights are 0", "Write at least one weight above 0", route.lane)
    if route.overflow:
        fault = "has no effect with weights"
        diagnostics.problem(f"{path}.overflow", fault, "Remove one of the two", route.lane)
