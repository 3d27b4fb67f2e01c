"""Who may do what on the operators' listener: everything but health wants a token.

A token that may only read is for those that scrape. Tokens carry 256 random bits like API keys and are kept alike
(``auth``): by their SHA-256, compared in constant time.
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

OPEN = frozenset({"/healthz", "/readyz"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
DEFAULT_NAME = "admin"
_WANTED = (
    "send Authorization: Bearer TOKEN, one of [admin] or what admin.token in data_dir holds; "
    "smpp-gateway finds it by itself"
)
_NOBODY = bytes(32)


class Operator(NamedTuple):
    """Who asks: the token's name, whether it may act, the address it came from, and who they say they are.

    ``recorded``: the audit has it already, written by whoever passed the request on.
    """

    name: str
    acts: bool
    address: str = ""
    user: str = ""
    recorded: bool = False


class Tokens:
    """Token digests to operators. Raises ValueError for a token in an impossible form."""

    def __init__(self, tokens: Iterable[tuple[str, str, bool]]) -> None:
        self._known: dict[bytes, tuple[bytes, Operator]] = {}
        for name, token, acts in tokens:
            digest = _digest(token)
            self._known[digest] = digest, Operator(name, acts)

    @classmethod
    def of(cls, settings: AdminConfig, made: str = "") -> Tokens:
        """Those of the configuration; ``made``: the one of the data folder, when it names none that may act."""
        tokens = [(name, token, True) for name, token in settings.operators.items()]
        tokens += [(DEFAULT_NAME, token, True) for token in (settings.token, made) if token]
        tokens += [("read", settings.read_token, False)] if settings.read_token else []
        return cls(tokens)

    def __repr__(self) -> str:
        return f"<Tokens of {', '.join(sorted({operator.name for _, operator in self._known.values()}))}>"

    def operator(self, authorization: bytes) -> Operator | None:
        """Whose ``Authorization`` header this is, None when nobody's."""
        if authorization[:7].lower() != b"bearer " or len(authorization) > MAX_KEY:
            return None
        digest = sha256(authorization[7:].strip()).digest()
        kept, operator = self._known.get(digest, (_NOBODY, None))
        return operator if hmac.compare_digest(kept, digest) else None


def _digest(token: str) -> bytes:
    return digest_of(token if token.startswith((SHA256, PLAIN)) else PLAIN + token)


class AdminGuard:
    """Lets a request through to ``behind`` with ``scope["operator"]``, or answers 401 or 403."""

    def __init__(self, tokens: Tokens, behind: App, is_account: Callable[[bytes], bool]) -> None:
        self.tokens = tokens
        self._behind = behind
        self._is_account = is_account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._behind(scope, receive, send)
            return
        headers = dict(scope["headers"])
        authorization = headers.get(b"authorization", b"")
        operator = self.tokens.operator(authorization)
        if operator is None:
            if self._is_account(authorization):
                await _refuse(send, "forbidden", "an account's API key opens the door for apps, not this one")
            else:
                await _refuse(send, "unauthorized", _WANTED)
        elif not operator.acts and scope["method"] not in READING:
            await _refuse(send, "forbidden", "this token may only read")
        else:
            client = scope.get("client") or ("",)
            user = headers.get(b"x-operator", b"").decode("latin-1")[:64]
            scope["operator"] = operator._replace(address=str(client[0]), user=user)
            await self._behind(scope, receive, send)


async def _refuse(send: Send, code: str, detail: str) -> None:
    body = problem(code, detail)
    data = msgspec.json.encode(body)
    headers = [(b"content-type", CONTENT_TYPE), (b"content-length", b"%d" % len(data))]
    if body.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="smpp-gateway operators"'))
    await send({"type": "http.response.start", "status": body.status, "headers": headers})
    await send({"type": "http.response.body", "body": data})
