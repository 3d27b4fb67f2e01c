"""One server of the store: its connections, pipelines on them, and its errors as StoreErrors.

Only this module and ``connection``, which follows a cluster's redirects, see exceptions of redis-py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import hiredis
import redis.asyncio.connection as wire
from redis import exceptions as foreign

from gateway.store.errors import StoreBusy, StoreError, StoreFull, StoreRefused, StoreUnavailable, StoreUnconfirmed
from gateway.store.redis.responsiveness import Responsiveness
from gateway.store.redis.snapshot import HANDSHAKE, read_snapshot, refused

_SILENCE = 15.0  # seconds without a message on a channel, after which a PING is sent


def pack(*args: Any) -> bytes:
    """Return a command as it is sent."""
    packed: bytes = hiredis.pack_command(args)
    return packed


class ErrorReply(NamedTuple):
    """An error reply, kept in its place until the whole pipeline is read."""

    error: foreign.RedisError


class _Packing:
    """hiredis packs a command several times faster than redis-py's own loop."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return [hiredis.pack_command(args)]


class UnixConnection(_Packing, wire.UnixDomainSocketConnection):
    pass


class TcpConnection(_Packing, wire.Connection):
    pass


class TlsConnection(_Packing, wire.SSLConnection):
    pass


class StoreNode:
    """One server and its connections: as many as are used at the same time, up to a bound.

    redis-py's own pool does the same for 60 µs a call, more than the rest of the call.
    """

    def __init__(self, name: str, options: Mapping[str, Any], connections: int, timeout: float) -> None:
        self.name = name
        self.timeout = timeout
        kind: type[wire.AbstractConnection] = options["connection_class"]
        given = {key: value for key, value in options.items() if key != "connection_class"}
        self._make: Callable[[], wire.AbstractConnection] = lambda: kind(**given)
        self._tls = kind is TlsConnection
        self._idle: list[wire.AbstractConnection] = []
        self._room = asyncio.Semaphore(connections)
        self._responsiveness = Responsiveness(name, self._ping, self._fail_unsent)
        self._unsent: set[asyncio.Timeout] = set()

    async def exchange(self, packed: Sequence[bytes]) -> list[Any]:
        """Send commands in one write, read one reply each; error replies come as ``ErrorReply``.

        Raises StoreUnavailable, StoreBusy or StoreRefused when there is no sound connection, and StoreUnconfirmed
        when the commands were sent and their replies did not come.
        """
        responsiveness = self._responsiveness
        if responsiveness.silent:
            raise self._silence()
        waiting, sent, limit = True, False, asyncio.timeout(self.timeout)
        responsiveness.begun()
        try:
            async with limit:
                self._unsent.add(limit)
                async with self._room:
                    waiting = False
                    connection = self._idle.pop() if self._idle else self._make()
                    try:
                        await self._revive(connection)
                        sent = True
                        self._unsent.discard(limit)
                        await connection.send_packed_command(b"".join(packed), check_health=False)
                        replies = [await _reply(connection) for _ in packed]
                        responsiveness.answered()
                        return replies
                    except BaseException:
                        await connection.disconnect(nowait=True)  # its later replies belong to no call
                        raise
                    finally:
                        self._idle.append(connection)
        except TimeoutError as error:
            if not sent and responsiveness.silent:
                raise self._silence() from error
            if waiting:
                raise StoreBusy(f"the store at {self.name} has had no connection free for {self.timeout} s") from error
            raise _lost(translate(error, self.name), sent) from error
        except (foreign.RedisError, OSError) as error:
            if self._tls and "closed by server" in str(error):
                raise _lost(self._closed(error), sent) from error
            unconfirmed = sent and not isinstance(error, foreign.BusyLoadingError)  # a reply: nothing was done
            raise _lost(translate(error, self.name), unconfirmed) from error
        finally:
            self._unsent.discard(limit)
            responsiveness.ended()

    def _silence(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store at {self.name} does not respond: is the server, or its machine, stopped or overloaded?"
        )

    def _fail_unsent(self) -> None:
        """Make calls that are not sent yet fail now, as the server is silent."""
        now = asyncio.get_running_loop().time()
        for limit in self._unsent:
            limit.reschedule(now)

    async def _ping(self) -> None:
        """Get any reply of the server on a connection of its own. Raises OSError when there is none."""
        connection = self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_packed_command(pack(b"PING"), check_health=False)
            await _reply(connection)
        except foreign.RedisError as error:
            raise ConnectionError(str(error)) from error
        finally:
            await connection.disconnect(nowait=True)

    async def command(self, *args: Any) -> Any:
        """Return the reply of one command. Raises StoreError."""
        (reply,) = await self.exchange([hiredis.pack_command(args)])
        if isinstance(reply, ErrorReply):
            raise translate(reply.error, self.name) from reply.error
        return reply

    async def published(self, channels: Sequence[bytes]) -> AsyncIterator[bytes]:
        """Yield what is published on these sharded channels. Raises StoreError when the connection ends.

        Messages published before it listens, or on their way when the connection is lost, are not delivered.
        """
        connection = self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            # one command each: a cluster takes only channels of one slot in one
            await connection.send_packed_command(b"".join(pack(b"SSUBSCRIBE", name) for name in channels))
            while True:
                message = await connection.read_response(disable_decoding=True, timeout=_SILENCE)
                if message is None:
                    await connection.send_packed_command(pack(b"PING"))  # writing reveals a dead peer
                elif message[0] == b"smessage":
                    yield message[2]
                elif message[0] == b"sunsubscribe":
                    raise StoreUnavailable(f"the store at {self.name} has given {message[1].decode()} to another node")
        except (foreign.RedisError, OSError) as error:
            raise translate(error, self.name) from error
        finally:
            await connection.disconnect(nowait=True)

    async def snapshot(self) -> AsyncIterator[bytes]:
        """Yield the octets of a snapshot (RDB) of all its data at this instant.

        Raises StoreRefused when the user has no right to it, and StoreUnavailable when it ends early.
        """
        connection = self._make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            *prepare, sync = HANDSHAKE
            for command in prepare:
                await connection.send_packed_command(pack(*command), check_health=False)
                reply = await _reply(connection)
                if isinstance(reply, ErrorReply):
                    raise refused(self.name, _text(reply.error))
            reader = connection._reader  # what follows is no reply that redis-py could read
            assert reader is not None
            await connection.send_packed_command(pack(*sync), check_health=False)
            async for chunk in read_snapshot(reader, self.name):
                yield chunk
        except (foreign.RedisError, OSError, TimeoutError) as error:
            raise translate(error, self.name) from error
        finally:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close every connection."""
        self._responsiveness.close()
        while self._idle:
            await self._idle.pop().disconnect()

    async def _revive(self, connection: wire.AbstractConnection) -> None:
        """Connect it if needed, also when the server has closed it meanwhile (which reads as end of data)."""
        if connection.is_connected and await connection.can_read():
            await connection.disconnect(nowait=True)
        if not connection.is_connected:
            await connection.connect()  # type: ignore[no-untyped-call]

    def _closed(self, error: Exception) -> StoreUnavailable:
        """Return the error for a closed TLS connection: a server that rejects our certificate closes it like that."""
        return StoreUnavailable(
            f"the store at {self.name} closed the connection ({error}): is it running? If it wants a certificate of "
            "ours, ?ssl_certfile=…&ssl_keyfile=… in [store] url must be one that it trusts"
        )

    def __repr__(self) -> str:
        return f"<StoreNode {self.name}>"


async def _reply(connection: wire.AbstractConnection) -> Any:
    try:
        return await connection.read_response(disable_decoding=True)
    except foreign.ResponseError as error:
        return ErrorReply(error)


def _lost(error: StoreError, sent: bool) -> StoreError:
    """Return StoreUnconfirmed for a call that was ``sent``, as it may be done; else the error itself."""
    return StoreUnconfirmed(str(error)) if sent and type(error) is StoreUnavailable else error


_TRUST = "?ssl_ca_certs= in [store] url names who signed it, and the host of the url must be in the certificate"


def _text(error: Exception) -> str:
    """Return an error as the server wrote it; redis-py takes its first word away."""
    return f"{getattr(error, 'status_code', None) or ''} {error}".strip() or type(error).__name__


def translate(error: Exception, where: str) -> StoreError:
    """Return the StoreError for an exception of redis-py or the system, with what to do about it."""
    if isinstance(error.__cause__, foreign.RedisError):  # a refused login comes wrapped in a ConnectionError
        error = error.__cause__
    text = _text(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return StoreRefused(f"the store at {where} has a certificate that is not trusted: {_TRUST} ({text})")
    for kinds, start, ours, said in _OURS:
        if isinstance(error, kinds) and text.startswith(start):
            return ours(f"the store at {where} {said} ({text})")
    return StoreUnavailable(f"the store at {where} is away: is it running? ({text})")


_Kinds = type[Exception] | tuple[type[Exception], ...]
_OURS: tuple[tuple[_Kinds, str | tuple[str, ...], type[StoreError], str], ...] = (
    (foreign.OutOfMemoryError, "", StoreFull, "has used up its memory: raise maxmemory or let the queue drain"),
    (foreign.ResponseError, "MISCONF", StoreFull, "cannot write to its disk: free some space"),
    (
        (foreign.AuthenticationError, foreign.NoPermissionError, foreign.AuthenticationWrongNumberOfArgsError),
        "",
        StoreRefused,
        "refuses this user: check user, password and ACL",
    ),
    (
        foreign.ResponseError,
        "ERR This instance has cluster support disabled",
        StoreRefused,
        "is not part of a cluster: use redis:// in [store] url",
    ),
    (foreign.ResponseError, "BUSY ", StoreBusy, "is blocked by a script"),
    (
        # an AskError is a MovedError too; here the redirects were followed often enough
        (foreign.ReadOnlyError, foreign.ClusterDownError, foreign.TryAgainError, foreign.AskError),
        "",
        StoreUnavailable,
        "is failing over or being resharded: try again",
    ),
    (foreign.ResponseError, ("NOREPLICAS", "UNBLOCKED"), StoreUnavailable, "is failing over: try again"),
    (foreign.ResponseError, "", StoreError, "could not carry out a call"),
    (foreign.MaxConnectionsError, "", StoreBusy, "has no connection free"),
    (foreign.ConnectionError, ("No connection", "max number of clients"), StoreBusy, "has no connection free"),
    (foreign.BusyLoadingError, "", StoreUnavailable, "is loading its data: try again"),
)
