from __future__ import annotations

import json

import pytest

from gateway import signature
from gateway.client import BadSignature, Webhooks
from tests.short_messages import new_secret

SECRET = new_secret()
NOW = 1_795_000_000
BODY = json.dumps(
    [
        {
            "id": "e1",
            "type": "message.delivered",
            "time": "2026-11-21T12:00:00.000Z",
            "account": "shop",
            "sequence": 4,
            "data": {"message_id": "m1", "status": "delivered", "to": "+46701740605", "reason": None, "more": {}},
        }
    ]
).encode()


def test_a_signed_request_is_decoded() -> None:
    headers = signature.signed_headers([signature.read_secret(SECRET)], "w1", NOW, BODY)
    (event,) = Webhooks(SECRET).read(headers, BODY, now=NOW)
    assert (event.id, event.type, event.sequence) == ("e1", "message.delivered", 4)
    assert (event.data.message_id, event.data.to) == ("m1", "+46701740605")


def test_a_request_with_another_signature_is_refused() -> None:
    headers = signature.signed_headers([signature.read_secret(new_secret())], "w1", NOW, BODY)
    with pytest.raises(BadSignature):
        Webhooks(SECRET, new_secret()).read(headers, BODY, now=NOW)
    with pytest.raises(BadSignature):
        Webhooks(SECRET).read({}, BODY)


@pytest.mark.parametrize("secrets", [(), ("whsec_?",)])
def test_a_secret_is_needed(secrets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="secret"):
        Webhooks(*secrets)
