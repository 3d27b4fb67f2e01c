"""One connection of an app: the socket around a session; it writes once per loop iteration."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from struct import Struct
from typing import Protocol, cast

from gateway.simulator.faults import Faults
from gateway.smpp.codec import HEADER
from gateway.smpp.events import Event
from gateway.smpp.operations import Role
from gateway.smpp.pdu import ENQUIRE_LINK, MAX_PDU
from gateway.smpp.session import Session

_LINGER = Struct("ii").pack(1, 0)  # close with RST


class LinkOwner(Protocol):
    """The carrier that a link reports to: ``Simulator``, named here without importing it back."""

    faults: Faults

    def on_open(self, link: AppLink) -> None: ...
    def on_events(self, link: AppLink, events: Sequence[Event], now: float) -> None: ...
    def on_writable(self, link: AppLink, now: float) -> None: ...
    def on_close(self, link: AppLink, events: Sequence[Event]) -> None: ...


class AppLink(asyncio.Protocol):
    """An app's connection. ``system_id`` and ``receives`` are set when the bind is accepted."""

    def __init__(self, owner: LinkOwner) -> None:
        faults = owner.faults
        self.session = Session(
            Role.SMSC, window=faults.window, enquire_interval=faults.enquire_interval, first_sequence=1
        )
        self.system_id = b""
        self.receives = False
        self.closed = False
        self.dirty = False  # has output that the owner will flush
        self._owner = owner
        self._window = faults.window
        self._paused = False
        self._incomplete = b""  # an incomplete PDU, while enquire_links are filtered out
        self._transport: asyncio.Transport | None = None
        self._clock = asyncio.get_running_loop().time

    def __repr__(self) -> str:
        return f"<AppLink {self.system_id.decode(errors='replace') or '-'} {self.session!r}>"

    @property
    def free(self) -> int:
        """How many deliver_sm may be sent now."""
        if self.closed or self._paused or not self.receives or not self.session.bound:
            return 0
        return self._window - self.session.outstanding

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._owner.on_open(self)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self._incomplete or self._owner.faults.ignore_enquire_link:
            data = self._without_enquire_links(data)
        now = self._clock()
        self._owner.on_events(self, self.session.receive(data, now), now)

    def pause_writing(self) -> None:
        """Stop delivering and reading while the app does not read."""
        self._paused = True
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()
            self._owner.on_writable(self, self._clock())

    def connection_lost(self, exc: Exception | None) -> None:
        self._end("connection lost")

    # ---- for the owner

    def flush(self) -> None:
        """Write the session's output."""
        self.dirty = False
        octets = self.session.output()
        if octets and not self.closed and self._transport is not None:
            self._transport.write(octets)

    def finish(self) -> None:
        """Write the last output and close."""
        self.flush()
        if self._transport is not None:
            self._transport.close()
        self._end("session over")

    def cut(self, mode: str, last_octets: bytes = b"") -> None:
        """Close the connection as a fault, after the pending output and ``last_octets``, which may end within a PDU."""
        transport = self._transport
        if transport is None or self.closed:
            return
        if mode == "reset":
            if last_octets:
                transport.write(self.session.output() + last_octets)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            transport.abort()
        else:
            transport.write(self.session.output() + last_octets)
            transport.close()
        self._end("cut")

    def abort(self) -> None:
        """Close the socket and discard unwritten output."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        if not self.closed:
            self.closed = True
            self._owner.on_close(self, self.session.close(reason))

    def _without_enquire_links(self, data: bytes) -> bytes:
        """Return ``data`` without enquire_link PDUs. Framing faults pass through for the session to handle."""
        data = self._incomplete + data
        kept = []
        at = 0
        while len(data) - at >= HEADER.size:
            length, command_id, _, _ = HEADER.unpack_from(data, at)
            if length < HEADER.size or length > MAX_PDU:
                kept.append(data[at:])
                at = len(data)
            elif at + length > len(data):
                break
            else:
                if command_id != ENQUIRE_LINK or not self._owner.faults.ignore_enquire_link:
                    kept.append(data[at : at + length])
                at += length
        self._incomplete = data[at:]
        return b"".join(kept)
