"""Reaching the operators' listener of a gateway: its address, its token, questions and orders. Light to import."""

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
        help=f"The operators' listener. [dim]Default: the gateway that runs here as this user, else {ADMIN_URL}.[/]",
        show_default=False,
    ),
]
Token = Annotated[
    str,
    typer.Option(
        envvar="SMPP_GATEWAY_TOKEN",
        help="Operators' token. [dim]Default: that of a gateway which runs here as this user.[/]",
        show_default=False,
    ),
]


WANTED = "Give the operators' token with --token or in SMPP_GATEWAY_TOKEN (data_dir/admin.token has it)."


class AdminClient(NamedTuple):
    """A gateway to ask and to order about. Every answer that is a refusal ends the command with exit code 1."""

    client: Client
    as_json: bool

    @classmethod
    def at(cls, url: str, token: str, as_json: bool, *, timeout: float = 10.0) -> AdminClient:
        """The one that is meant: by the options, else the one that runs on this machine. ``timeout``: of an answer."""
        from gateway import discovery

        found = discovery.find(url) if url else discovery.find() or discovery.find(ADMIN_URL)
        several = [one.url for one in discovery.running()]
        if not url and found is None and several:
            fail(Exit.USAGE, f"Several gateways run here; say which: --url {' or --url '.join(several)}")
        known = found.token if found else ""
        address = url or (found.url if found else ADMIN_URL)
        return cls(client_of(address, token or known, timeout=timeout), as_json)

    def get(self, path: str) -> dict[str, Any]:
        """What the gateway answers."""
        return self._good(reach(lambda: self.client.get(path)))

    def ask(self, path: str) -> Answer:
        """The same, also when it is a refusal."""
        return reach(lambda: self.client.get(path))

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        """An order; the audit learns the name of who is logged in here."""
        headers = {"X-Operator": _user()}
        return self._good(reach(lambda: self.client.request("POST", path, {} if body is None else body, headers)))

    def _good(self, answer: Answer) -> dict[str, Any]:
        if answer.ok:
            body: dict[str, Any] = answer.body
            return body
        self.show_refusal(answer)
        raise typer.Exit(Exit.REFUSED)

    def show_refusal(self, answer: Answer) -> None:
        """A problem, with what to do about it."""
        if answer.status == 404 and not self.as_json and _is_no_place(answer.body):
            fail(Exit.REFUSED, f"{self.client.url} has no such thing; is it the operators' listener, [admin] listen?")
        show_answer(answer, self.as_json, WANTED)


def _user() -> str:
    import getpass

    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        return ""
    return name if name.isascii() and name.isprintable() else ""


def _is_no_place(body: Mapping[str, Any]) -> bool:
    """Whether it is the path that leads nowhere, and not a carrier or message that is not there."""
    detail = str(body.get("detail", ""))
    return detail == body.get("title") or detail.startswith("no resource at ")
