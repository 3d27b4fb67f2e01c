"""Access to the admin listener: everything except health and readiness requires a token.

A read-only token is for monitoring. Tokens carry 256 random bits like API keys and are kept like them (``api.auth``):
as SHA-256 digests, compared in constant time.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import NamedTuple

import msgspec

from gateway.api.auth import MAX_KEY, PLAIN, SHA256, digest_of
from gateway.api.listener import App, Receive, Scope, Send
from gateway.api.problems import CONTENT_TYPE, problem
from gateway.config import AdminConfig

NO_TOKEN_PATHS = frozenset({"/healthz", "/readyz"})
READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_NAME = "admin"
_HOW_TO_AUTHENTICATE = (
    "send Authorization: Bearer TOKEN, with a token of [admin] or of the file admin.token in data_dir; "
    "the smpp-gateway command finds it by itself"
)
_NO_DIGEST = bytes(32)


class Operator(NamedTuple):
    """The sender of a request, as its token identifies it."""

    name: str  # of the token
    may_act: bool  # False: read-only
    address: str = ""
    user: str = ""  # what the client says of itself (X-Operator)
    recorded: bool = False  # the supervisor has recorded the action in its audit


class Tokens:
    """The operators by token digest. Raise ValueError for a token that is no valid form."""

    def __init__(self, tokens: Iterable[tuple[str, str, bool]]) -> None:
        self._known: dict[bytes, tuple[bytes, Operator]] = {}
        for name, token, may_act in tokens:
            digest = _digest(token)
            self._known[digest] = digest, Operator(name, may_act)

    @classmethod
    def of(cls, settings: AdminConfig, generated: str = "") -> Tokens:
        """Return the tokens of the configuration, and ``generated``, the one in the data folder, unless it is empty."""
        tokens = [(name, token, True) for name, token in settings.operators.items()]
        tokens += [(DEFAULT_NAME, token, True) for token in (settings.token, generated) if token]
        tokens += [("read", settings.read_token, False)] if settings.read_token else []
        return cls(tokens)

    def __repr__(self) -> str:
        return f"<Tokens of {', '.join(sorted({operator.name for _, operator in self._known.values()}))}>"

    def operator(self, authorization: bytes) -> Operator | None:
        """Return the operator of an ``Authorization`` header; None when the token is unknown."""
        if authorization[:7].lower() != b"bearer " or len(authorization) > MAX_KEY:
            return None
        digest = sha256(authorization[7:].strip()).digest()
        kept, operator = self._known.get(digest, (_NO_DIGEST, None))
        return operator if hmac.compare_digest(kept, digest) else None


def _digest(token: str) -> bytes:
    return digest_of(token if token.startswith((SHA256, PLAIN)) else PLAIN + token)


class AdminGuard:
    """Passes a request on to ``app`` with ``scope["operator"]``, or responds with 401 or 403."""

    def __init__(self, tokens: Tokens, app: App, is_account: Callable[[bytes], bool]) -> None:
        """``is_account`` returns whether an ``Authorization`` header holds an account's API key."""
        self.tokens = tokens
        self._app = app
        self._is_account = is_account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in NO_TOKEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"")
        operator = self.tokens.operator(authorization)
        if operator is None:
            if self._is_account(authorization):
                await _refuse(
                    send, "forbidden", "this is an API key of an account; the admin listener requires an admin token"
                )
            else:
                await _refuse(send, "unauthorized", _HOW_TO_AUTHENTICATE)
        elif not operator.may_act and scope["method"] not in READ_METHODS:
            await _refuse(send, "forbidden", "this token is read-only")
        else:
            client = scope.get("client") or ("",)
            user = headers.get(b"x-operator", b"").decode("latin-1")[:64]
            scope["operator"] = operator._replace(address=str(client[0]), user=user)
            await self._app(scope, receive, send)


async def _refuse(send: Send, code: str, detail: str) -> None:
    body = problem(code, detail)
    data = msgspec.json.encode(body)
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(data))]
    if body.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="smpp-gateway operators"'))
    await send({"type": "http.response.start", "status": body.status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
