from __future__ import annotations

from typing import Any

import pytest

from gateway.model import RuleGroup
from gateway.store.keys import GLOBAL_SCOPE
from tests.api.conftest import ApiClient
from tests.intake.fakes import NOON, SWEDE, hasher

CONSENT = "/v1/consents/+46701740605"
SUPPRESSION = "/v1/suppressions/+46701740605"
GRANT = {"status": "granted", "method": "web_form", "evidence": "ticked at registration"}


async def test_consent_permits_marketing_and_its_revocation_stops_it(api_client: ApiClient) -> None:
    assert (await api_client.send(category="marketing")).body["code"] == "consent_missing"
    answer = await api_client("PUT", CONSENT, json=GRANT)
    assert answer.status == 200
    assert answer.body == GRANT | {
        "to": "+46701740605",
        "brand": "shop",
        "category": "marketing",
        "channel": "sms",
        "occurred_at": "2026-11-21T12:00:00.000Z",
        "recorded_at": "2026-11-21T12:00:00.000Z",
        "applied": True,
    }
    assert (await api_client.send(category="marketing")).status == 202
    assert (await api_client.send(category="marketing", brand="outlet")).body["code"] == "consent_missing"
    api_client.now += 1
    assert (await api_client("PUT", CONSENT, json={"status": "revoked"})).body["applied"] is True
    assert (await api_client.send(category="marketing")).body["code"] == "consent_revoked"


async def test_consents_are_read_back_by_their_account_alone(api_client: ApiClient) -> None:
    await api_client("PUT", CONSENT, json=GRANT | {"brand": "outlet", "ip": "192.0.2.1", "locale": "sv"})
    (consent,) = (await api_client("GET", CONSENT)).body["consents"]
    assert (consent["brand"], consent["ip"], consent["locale"]) == ("outlet", "192.0.2.1", "sv")
    assert "applied" not in consent
    assert (await api_client("GET", CONSENT, key="other-key")).body == {"consents": []}


async def test_the_latest_by_event_counts_and_a_tie_is_a_revocation(api_client: ApiClient) -> None:
    at = {"occurred_at": "2026-11-21T10:00:00Z"}
    assert (await api_client("PUT", CONSENT, json={"status": "revoked"} | at)).body["applied"] is True
    assert (await api_client("PUT", CONSENT, json=GRANT | at)).body["applied"] is False
    earlier = {"occurred_at": "2026-11-21T09:00:00+01:00"}
    assert (await api_client("PUT", CONSENT, json=GRANT | earlier)).body["applied"] is False
    assert (await api_client("PUT", CONSENT, json=GRANT)).body["applied"] is True


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"method": ""}, "method"),
        ({"evidence": ""}, "evidence"),
        ({"status": "maybe"}, "status"),
        ({"category": "otp"}, "category"),
        ({"colour": "red"}, "colour"),
        ({"occurred_at": "2026-11-21T13:00:00Z"}, "occurred_at"),
        ({"occurred_at": "1960-01-01T00:00:00Z"}, "occurred_at"),
        ({"expires_at": "2026-11-21T11:00:00Z"}, "expires_at"),
    ],
)
async def test_an_invalid_consent_is_refused(api_client: ApiClient, change: dict[str, Any], field: str) -> None:
    answer = await api_client("PUT", CONSENT, json=GRANT | change)
    assert answer.status == 400
    assert answer.body["errors"][0]["field"] == field
    assert not {"method", "evidence"} & {field} or "required to grant, such as " in answer.body["detail"]
    assert not api_client.store.rules


async def test_an_invalid_number_or_brand_is_refused(api_client: ApiClient) -> None:
    assert (await api_client("PUT", "/v1/consents/0701740605", json=GRANT)).body["code"] == "invalid_number"
    assert (await api_client("GET", "/v1/suppressions/x")).body["code"] == "invalid_number"
    assert (await api_client("PUT", CONSENT, json=GRANT | {"brand": "bank"})).status == 403
    assert (await api_client("PUT", "/v1/consents/%2B46701740605", json=GRANT)).status == 200
    assert (await api_client("PUT", CONSENT, data=b"x", headers={"Content-Type": "text/plain"})).status == 415


async def test_a_consent_expires(api_client: ApiClient) -> None:
    await api_client("PUT", CONSENT, json=GRANT | {"expires_at": "2026-11-21T12:30:00Z"})
    assert (await api_client.send(category="marketing")).status == 202
    api_client.now += 3_600_000
    assert (await api_client.send(category="marketing")).body["code"] == "consent_missing"


async def test_a_suppression_stops_and_is_lifted(api_client: ApiClient) -> None:
    await api_client("PUT", CONSENT, json=GRANT)
    body = {"scope": "marketing", "reason": "asked by phone"}
    answer = await api_client("PUT", SUPPRESSION, json=body)
    assert answer.body == body | {
        "to": "+46701740605",
        "by": "account",
        "since": "2026-11-21T12:00:00.000Z",
        "applied": True,
    }
    assert (await api_client.send(category="marketing")).body["code"] == "opted_out"
    assert (await api_client.send()).status == 202
    assert len((await api_client("GET", SUPPRESSION)).body["suppressions"]) == 1
    assert (await api_client("DELETE", SUPPRESSION)).status == 204  # in the very millisecond it was recorded
    assert (await api_client("GET", SUPPRESSION)).body == {"suppressions": []}
    assert (await api_client("DELETE", SUPPRESSION)).status == 204
    assert (await api_client.send(category="marketing")).status == 202


async def test_a_suppression_of_everything(api_client: ApiClient) -> None:
    await api_client("PUT", SUPPRESSION, json={"scope": "all", "reason": "deceased"})
    assert (await api_client.send(category="otp")).body["code"] == "opted_out"
    assert (await api_client.send("other-key", category="otp")).status == 202
    await api_client("DELETE", SUPPRESSION + "?scope=marketing")
    assert (await api_client.send(category="otp")).status == 422
    await api_client("DELETE", SUPPRESSION + "?scope=all")
    assert (await api_client.send(category="otp")).status == 202


async def test_a_suppression_of_one_brand(api_client: ApiClient) -> None:
    for brand in ("shop", "outlet"):
        await api_client("PUT", CONSENT, json=GRANT | {"brand": brand})
    await api_client("PUT", SUPPRESSION, json={"brand": "outlet", "reason": "asked"})
    assert (await api_client.send(category="marketing", brand="outlet")).status == 422
    assert (await api_client.send(category="marketing")).status == 202
    (found,) = (await api_client("GET", SUPPRESSION)).body["suppressions"]
    assert (found["by"], found["brand"]) == ("brand", "outlet")
    assert (await api_client("DELETE", SUPPRESSION + "?brand=shop")).status == 204
    assert (await api_client.send(category="marketing", brand="outlet")).status == 422
    assert (await api_client("DELETE", SUPPRESSION + "?brand=nobody")).status == 403
    assert (await api_client("DELETE", SUPPRESSION + "?scope=some")).status == 400


async def test_an_operator_s_suppression_is_shown_and_cannot_be_lifted(api_client: ApiClient) -> None:
    api_client.store.stops(hasher().recipient(SWEDE), RuleGroup.ALL, GLOBAL_SCOPE, NOON)
    (found,) = (await api_client("GET", SUPPRESSION)).body["suppressions"]
    assert (found["by"], found["scope"]) == ("operator", "all")
    await api_client("DELETE", SUPPRESSION)
    assert (await api_client.send()).body["code"] == "suppressed"


async def test_another_account_s_consents_and_opt_outs_are_not_shown(api_client: ApiClient) -> None:
    await api_client("PUT", SUPPRESSION, json={"scope": "all", "reason": "asked"})
    assert (await api_client("GET", SUPPRESSION, key="other-key")).body == {"suppressions": []}
    await api_client("DELETE", SUPPRESSION, key="other-key")
    assert len((await api_client("GET", SUPPRESSION)).body["suppressions"]) == 1
