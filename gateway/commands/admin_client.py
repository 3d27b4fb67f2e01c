"""Calls to the admin listener of a gateway: its URL, its token, requests. Imports nothing slow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gateway.commands.common import ADMIN_URL, Exit, client_of, fail, reach, show_answer

if TYPE_CHECKING:
    from gateway.client import Answer, Client

AdminUrl = Annotated[
    str,
    typer.Option(
        "--url",
        envvar="SMPP_GATEWAY_ADMIN_URL",
        help=f"URL of the admin listener. [dim]Default: your gateway on this machine, else {ADMIN_URL}.[/]",
        show_default=False,
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="SMPP_GATEWAY_TOKEN",
        help="Admin token. [dim]Default: that of your gateway on this machine.[/]",
        show_default=False,
    ),
]

ADMIN_HINT = "Pass the admin token with --token or SMPP_GATEWAY_TOKEN; it is in data_dir/admin.token."


class AdminClient(NamedTuple):
    """The admin listener of one gateway. A refused request ends the command with exit code 1."""

    client: Client
    as_json: bool

    @classmethod
    def find(cls, url: str, token: str, as_json: bool, *, timeout: float = 10.0) -> AdminClient:
        """Return the client for the options, by default for the gateway of this user on this machine.

        ``timeout``: seconds per attempt. Exits with code 2 when several gateways run and ``url`` does not say which.
        """
        from gateway import discovery

        found = discovery.find(url) if url else discovery.find() or discovery.find(ADMIN_URL)
        several = [one.url for one in discovery.running()]
        if not url and found is None and several:
            fail(Exit.USAGE, f"several gateways run on this machine; choose one: --url {' or --url '.join(several)}")
        known = found.token if found else ""
        address = url or (found.url if found else ADMIN_URL)
        return cls(client_of(address, token or known, timeout=timeout), as_json)

    def get(self, path: str) -> dict[str, Any]:
        """Return the body of a GET, or print the problem and exit with code 1."""
        return self._body(path, self.response(path))

    def response(self, path: str) -> Answer:
        """Return the response to a GET, also when it is refused."""
        return reach(lambda: self.client.get(path))

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """Like ``get``, for a POST. The audit log records the login name of the user."""
        headers = {"X-Operator": _user()}
        answer = reach(lambda: self.client.request("POST", path, {} if body is None else body, headers))
        return self._body(path, answer)

    def _body(self, path: str, answer: Answer) -> dict[str, Any]:
        if answer.ok:
            body: dict[str, Any] = answer.body
            return body
        if answer.status == 404 and not self.as_json and _is_unknown_path(path, answer.body):
            fail(Exit.REFUSED, f"not found at {self.client.url}; is --url the admin listener ([admin] listen)?")
        show_answer(answer, self.as_json, ADMIN_HINT)
        raise typer.Exit(Exit.REFUSED)


def _user() -> str:
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return name if name.isascii() and name.isprintable() else ""


def _is_unknown_path(path: str, body: Mapping[str, Any]) -> bool:
    """Whether a 404 is about the path itself, not about a carrier or message that does not exist."""
    detail = str(body.get("detail", ""))
    return detail == body.get("title") or path.partition("?")[0] in detail
