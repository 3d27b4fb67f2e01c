"""A carrier that accepts every bind and then sends without end what its standard input names.

``python -m tests.faults.flooder`` prints its port, then reads one kind of ``KINDS`` a line (or ``quiet``). It reads
whatever it is sent and throws it away, so that only the gateway's own bounds slow it down.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from random import Random

from bench.children import report
from gateway.smpp.codec import HEADER
from gateway.smpp.pdu import BIND_TRANSCEIVER, DELIVER_SM, ENQUIRE_LINK, RESP, SUBMIT_SM_RESP
from tests.short_messages import encode_sm

LOT = 64 * 1024
"""Octets that are sent at once, about."""

_numbers = Random(1)  # phone numbers, no secrets
_ids = itertools.count(1)
_pulse = itertools.count(1)
_turns = itertools.cycle(["deliver_sm to many", "enquire_link", "unknown answers", "deliver_sm to one"])


def pdu(command_id: int, sequence: int, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(body), command_id, 0, sequence) + body


def receipt(number: int) -> bytes:
    """Return a receipt of an unknown id."""
    one = next(_ids)
    text = b"id:f%012d sub:001 dlvrd:001 submit date:2611281000 done date:2611281001 stat:DELIVRD err:000 text:" % one
    return pdu(DELIVER_SM, one & 0x7FFFFFFF, encode_sm(b"%d" % number, b"shop", text, esm_class=4))


def _lot(make: Callable[[], bytes]) -> bytes:
    first = make()
    return first + b"".join(make() for _ in range(LOT // len(first)))


def _same(octets: bytes) -> Callable[[], bytes]:
    lot = octets * (LOT // len(octets))
    return lambda: lot


def _many() -> bytes:
    return _lot(lambda: receipt(46_700_000_000 + _numbers.randrange(10_000_000)))


def _pulses() -> bytes:
    """As much as a gateway may have saved up for, and a pause in which it does so again."""
    if next(_pulse) % 16 == 0:
        time.sleep(1.0)
    return _many()


def _everything() -> bytes:
    return KINDS[next(_turns)]()


KINDS: dict[str, Callable[[], bytes]] = {
    "deliver_sm to many": _many,
    "deliver_sm to one": lambda: _lot(lambda: receipt(46_700_000_001)),
    "enquire_link": _same(pdu(ENQUIRE_LINK, 7)),
    "unknown answers": _same(pdu(SUBMIT_SM_RESP, 0x7FFFFFF0, b"id\0")),
    "pulses": _pulses,
}
KINDS["everything"] = _everything
"""What may be sent without end: the next lot of each."""


class Flood:
    """What is sent now, to all who are bound."""

    def __init__(self) -> None:
        self.kind = "quiet"
        self.octets = 0
        self._on = threading.Event()

    def turn(self, kind: str) -> None:
        self.kind = kind
        (self._on.set if kind in KINDS else self._on.clear)()

    def lots(self) -> Iterator[bytes]:
        """For ever; waits while it is quiet."""
        while True:
            self._on.wait()
            with contextlib.suppress(KeyError):  # turned off meanwhile
                yield KINDS[self.kind]()

    def serve(self, connection: socket.socket) -> None:
        """Accept its bind, drain it, send."""
        with contextlib.suppress(OSError):
            head = HEADER.unpack(connection.recv(HEADER.size, socket.MSG_WAITALL))
            connection.recv(head[0] - HEADER.size, socket.MSG_WAITALL)
            connection.sendall(pdu(BIND_TRANSCEIVER | RESP, head[3], b"flood\0"))
            threading.Thread(target=_drain, args=(connection,), daemon=True).start()
            for lot in self.lots():
                connection.sendall(lot)
                self.octets += len(lot)

    def listen(self, listening: socket.socket) -> None:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()


def _drain(connection: socket.socket) -> None:
    """Answer what keeps the bind alive, throw the rest away."""
    with contextlib.suppress(OSError):
        while connection.recv(1 << 20):
            time.sleep(0.005)


def main() -> None:
    os.nice(19)
    flood = Flood()
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=flood.listen, args=(listening,), daemon=True).start()
    report(port=listening.getsockname()[1])
    for line in sys.stdin:
        flood.turn(line.strip())
        report(octets=flood.octets, kind=flood.kind)


if __name__ == "__main__":
    main()
