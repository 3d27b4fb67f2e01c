from __future__ import annotations

import msgspec
import pytest

from gateway.config.addresses import AddressGuard
from gateway.config.callbacks import url_problem
from gateway.intake.rights import AccountRights
from gateway.intake.submission import Submission, SubmissionProblem
from gateway.intake.validation import CheckedSubmission, check
from tests.intake.fakes import NOON, SHOP, hasher

PUBLIC, HERE = AddressGuard(), AddressGuard(["127.0.0.0/8", "10.0.0.0/8"])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://app.example/sms?a=1", ""),
        ("https://8.8.8.8:8443/", ""),
        ("https://[2606:4700::1111]/", ""),
        ("https://bücher.example/", ""),
        ("http://app.example/", "plain http"),
        ("http://8.8.8.8/", "plain http"),
        *((f"https://{host}/", "private") for host in ("127.0.0.1", "10.1.2.3", "169.254.169.254", "0.0.0.0", "[::1]")),
        *((f"https://{host}/", "private") for host in ("127.1", "2130706433", "0x7f.1", "0177.0.0.1", "①②⑦.⓪.⓪.①")),
        *((f"https://{host}/", "private") for host in ("localhost", "a.localhost", "LOCALHOST.", "127。0。0。1")),
        *((f"https://{host}/", "private") for host in ("[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[fe80::1]")),
        ("https://app.example:25/", "the port must be"),
        ("https://app.example:0/", "the port must be"),
        *((url, "https (or http) URL") for url in ("ftp://a.example/", "https://u@a.example/", "https://a.example/#b")),
        *((url, "https (or http) URL") for url in ("https://a.example:port/", "https:///", "x", "https://a. example/")),
        ("https://a.example/\u202e", "https (or http) URL"),
    ],
)
def test_a_callback_is_public_https_and_written_plainly(url: str, said: str) -> None:
    assert said in url_problem(url, PUBLIC)
    assert bool(said) is bool(url_problem(url, PUBLIC))


def test_private_endpoints_must_be_in_allow_networks() -> None:
    for url in ("http://127.0.0.1:9000/", "https://10.1.2.3/", "http://localhost:9000/", "http://app.internal/"):
        assert url_problem(url, HERE) == ""
    assert "private" in url_problem("https://192.168.1.1/", HERE)
    assert "plain http" in url_problem("http://8.8.8.8/", HERE)


def test_a_callback_url_requires_a_webhook_secret() -> None:
    asked = Submission(to="+46701740605", text="x", callback_url="https://app.example/")
    assert isinstance(check(asked, AccountRights(SHOP, hasher()), NOON), CheckedSubmission)
    found = check(asked, AccountRights(msgspec.structs.replace(SHOP, webhook_secret=""), hasher()), NOON)
    assert isinstance(found, SubmissionProblem)
    assert (found.code, found.field) == ("invalid_value", "callback_url")
    assert "webhook_secret" in found.detail
