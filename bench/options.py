"""What to measure, from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

MAX_MESSAGES = 5_000_000
MAX_SECONDS = 3600.0
TEXT = "Your parcel is waiting for you at the corner shop until Friday."


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one run; count and time are bounded."""

    messages: int = 50_000
    batch: int = 500  # messages a request; 1 with --single
    connections: int = 4  # requests in flight
    rate: float = 0.0  # messages sent per second; 0 = as fast as they are answered
    carriers: int = 2
    binds: int = 2
    window: int = 100
    carrier_rate: float = 0.0  # the gateway's limit per carrier; 0 = none
    latency: float = 0.0  # response time of a carrier, seconds
    receipt_delay: float = 0.0  # seconds until the receipt
    callback: str = ""  # receiver of the final events; "" = none
    text: str = TEXT
    category: str = "transactional"
    durability: str = "always"
    partitions: int = 8
    workers: int = 1
    store: str = "embedded"
    memory: int = 10_000  # messages of the memory measurement; 0 = skip it
    seconds: float = 300.0  # after which the run ends in any case
    out: str = ""  # file for the JSON; "" = none
    json: bool = False  # JSON on standard output instead of the table
    keep: bool = False  # keep the run's folder (logs, store)

    @property
    def bodies(self) -> int:
        """Number of requests."""
        return -(-self.messages // self.batch)


def parse(arguments: list[str]) -> Options:
    """Return the options; argparse exits with code 2 if they are invalid."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Runs carriers, gateway and load on this machine and measures messages over their whole life: "
        "HTTP, durable write, submit_sm, response, receipt, event.",
        epilog="Exit codes: 0 nothing lost and nothing duplicated, 1 otherwise, 2 invalid option or nothing measured.",
    )
    add = parser.add_argument
    add("--messages", type=int, default=50_000, help="number of messages (default %(default)s)")
    add("--batch", type=int, default=500, help="messages per request (default %(default)s)")
    add("--single", action="store_true", help="one message per request, by POST /v1/messages")
    add("--connections", type=int, default=0, help="requests in flight (default 4 per worker, with --single 32)")
    add("--rate", type=float, default=0.0, help="messages sent per second (default: as fast as they are answered)")
    add("--carriers", type=int, default=2, help="simulated carriers (default %(default)s)")
    add("--binds", type=int, default=2, help="binds per carrier (default %(default)s)")
    add("--window", type=int, default=100, help="outstanding submit_sm per bind (default %(default)s)")
    add(
        "--carrier-rate",
        type=float,
        default=0.0,
        help="the gateway's limit per carrier, messages per second (default: none)",
    )
    add("--latency", type=float, default=0.0, help="response time of a carrier in seconds (default %(default)s)")
    add("--receipt-delay", type=float, default=0.0, help="seconds until the receipt (default %(default)s)")
    add("--callback", default="", metavar="URL", help="post the final events to this receiver on 127.0.0.0/8")
    add("--text", default=TEXT, help="text of the messages; long and non-Latin ones are sent in several parts")
    add("--category", default="transactional", choices=["otp", "transactional", "marketing"])
    add("--durability", default="always", choices=["always", "everysec"])
    add("--partitions", type=int, default=8)
    add("--workers", type=int, default=1, help="worker processes of the gateway; more than 1 adds a supervisor")
    add("--store", default="embedded", metavar="URL", help="use this store instead of the embedded one")
    add("--memory", type=int, default=10_000, help="messages for measuring bytes per live message; 0 = skip it")
    add("--seconds", type=float, default=300.0, help="end after this time in any case (default %(default)s)")
    add("--out", type=Path, default=None, metavar="FILE", help="write the result to FILE as JSON")
    add("--json", action="store_true", help="print JSON instead of the table")
    add("--keep", action="store_true", help="keep the run's folder (logs, store)")
    given = vars(parser.parse_args(arguments))
    single = given.pop("single")
    given["batch"] = 1 if single else given["batch"]
    given["connections"] = given["connections"] or (32 if single else 4 * given["workers"])
    given["out"] = str(given["out"] or "")
    options = Options(**given)
    for fault in _faults(options):
        parser.error(fault)
    return options


def _faults(options: Options) -> list[str]:
    """Return what is invalid."""
    rules = [
        (1 <= options.messages <= MAX_MESSAGES, f"--messages is 1 to {MAX_MESSAGES}"),
        (1 <= options.batch <= 5000, "--batch is 1 to 5000"),
        (1 <= options.connections <= 1000, "--connections is 1 to 1000"),
        (1 <= options.carriers <= 16, "--carriers is 1 to 16"),
        (1 <= options.workers <= 64, "--workers is 1 to 64"),
        (1 <= options.binds <= 100, "--binds is 1 to 100"),
        (1 <= options.window <= 10_000, "--window is 1 to 10000"),
        (0 < options.seconds <= MAX_SECONDS, f"--seconds is at most {MAX_SECONDS:.0f}"),
        (0 <= options.memory <= MAX_MESSAGES, f"--memory is 0 to {MAX_MESSAGES}"),
        (options.rate >= 0 and options.carrier_rate >= 0, "a rate cannot be negative"),
    ]
    return [fault for holds, fault in rules if not holds]
