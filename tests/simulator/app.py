"""A small app for the tests: our own session in the other role, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.smpp.events import Answered, BindRefused, Bound, Closed, MessageReceived, TimedOut, Unbinding
from gateway.smpp.operations import Role
from gateway.smpp.pdu import BIND_TRANSCEIVER, SUBMIT_SM
from gateway.smpp.session import Session
from gateway.smpp.short_message import ShortMessage
from tests.short_messages import encode_sm


class App(asyncio.Protocol):
    """Binds, submits and acknowledges (with ``ack_status``; None = not at all)."""

    def __init__(self) -> None:
        self.session = Session(Role.ESME, window=10_000, enquire_interval=0)
        self.loop = asyncio.get_running_loop()
        self.answers: dict[object, list[Answered]] = {}
        self.delivered: list[ShortMessage] = []
        self.bound: int | None = None
        self.closed = self.unbinding = False
        self.unanswered: list[object] = []
        self.ack_status: int | None = 0
        self.raw = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.raw += data
        self.handle(self.session.receive(data, self.loop.time()))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.handle(self.session.close("lost"))

    def handle(self, events: list[Any]) -> None:
        for event in events:
            match event:
                case Bound():
                    self.bound = 0
                case BindRefused(status):
                    self.bound = status
                case Answered(context):
                    self.answers.setdefault(context, []).append(event)
                case MessageReceived(message):
                    self.delivered.append(message)
                    if self.ack_status is not None:
                        self.session.respond(message.command_id, message.sequence, self.ack_status)
                case TimedOut(contexts) | Closed(_, contexts):
                    self.unanswered += contexts
                case Unbinding():
                    self.unbinding = True
                case _:
                    pass
        self.flush()

    def flush(self) -> None:
        if not self.closed:
            self.transport.write(self.session.output())

    async def bind(
        self, port: int, system_id: str = "app", password: str = "secret", command_id: int = BIND_TRANSCEIVER
    ) -> App:
        await self.loop.create_connection(lambda: self, "127.0.0.1", port)
        self.session.bind(command_id, system_id.encode(), password.encode(), now=self.loop.time())
        self.flush()
        await until(lambda: self.bound is not None or self.closed)
        return self

    def submit(self, context: object, dest: str = "46700000001", text: bytes = b"hello", registered: int = 1) -> None:
        body = encode_sm(b"SHOP", dest.encode(), text, source_ton=5, dest_ton=1, registered_delivery=registered)
        self.session.request(SUBMIT_SM, body, context, self.loop.time())
        self.flush()

    def submit_many(self, count: int) -> None:
        for number in range(count):
            self.submit(number)

    def acknowledge(self) -> None:
        for message in self.delivered:
            self.session.respond(message.command_id, message.sequence, 0)
        self.flush()

    @property
    def ids(self) -> list[bytes]:
        return [answer.message_id for answers in self.answers.values() for answer in answers if not answer.status]


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Let the loop run until the condition holds; fails after so many seconds."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a carrier in the same loop has no event for it
            await asyncio.sleep(0.002)
