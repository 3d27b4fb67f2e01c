from __future__ import annotations

import base64

import pytest

from gateway import signature
from gateway.signature import BadSignature
from tests.short_messages import new_secret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
# The example of the Standard Webhooks specification.
HEADERS = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
NOW = 1614265330


def test_the_example_of_standard_webhooks_verifies() -> None:
    keys = [signature.read_secret(SECRET)]
    assert signature.signed_headers(keys, HEADERS["webhook-id"], NOW, BODY) == HEADERS
    assert signature.verify(keys, HEADERS, BODY, NOW) == HEADERS["webhook-id"]
    assert signature.verify(keys, {name.title(): value for name, value in HEADERS.items()}, BODY, NOW + 300)


def test_two_secrets_are_valid_at_once() -> None:
    old, new = (signature.read_secret(new_secret()) for _ in range(2))
    headers = signature.signed_headers([old, new], "1", NOW, BODY)
    assert signature.verify([old], headers, BODY, NOW) == signature.verify([new], headers, BODY, NOW) == "1"
    only_new = signature.signed_headers([new], "1", NOW, BODY)
    assert signature.verify([old, new], only_new, BODY, NOW) == "1"
    with pytest.raises(BadSignature, match="no signature matches"):
        signature.verify([old], only_new, BODY, NOW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"webhook-id": "msg_other"}, "no signature matches"),
        ({"webhook-timestamp": "1614265331"}, "no signature matches"),
        ({"webhook-timestamp": "1614264000"}, "differs by more than 300 seconds"),
        ({"webhook-timestamp": "1614266000"}, "differs by more than 300 seconds"),
        ({"webhook-timestamp": "soon"}, "not a number"),
        ({"webhook-timestamp": "²"}, "not a number"),
        ({"webhook-signature": ""}, "are required"),
        ({"webhook-signature": "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, "no signature matches"),
        ({"webhook-signature": "v1,å"}, "no signature matches"),
    ],
)
def test_changed_headers_are_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(BadSignature, match=message):
        signature.verify([signature.read_secret(SECRET)], HEADERS | change, BODY, NOW)


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(BadSignature, match="no signature matches"):
        signature.verify([signature.read_secret(SECRET)], HEADERS, BODY + b" ", NOW)


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!!!", "whsec_" + base64.b64encode(b"short").decode(), "å"])
def test_an_invalid_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="webhook secret"):
        signature.read_secret(text)
