"""Routes: longest prefix, then most conditions, then the order written."""

from __future__ import annotations

import pytest

from gateway.model import Category
from gateway.policy.route import RouteConditions, RouteTable

TABLE = RouteTable(
    [
        RouteConditions("rest"),
        RouteConditions("china", "86"),
        RouteConditions("china-otp", "86", category=Category.OTP),
        RouteConditions("china-otp-shop", "86", category=Category.OTP, account="shop"),
        RouteConditions("beijing", "8610"),
        RouteConditions("sweden", country="SE"),
        RouteConditions("sweden-again", country="SE"),
        RouteConditions("brand", "46", sender="Shop*"),
        RouteConditions("exact", "46", sender="Shop", account="shop"),
    ]
)


@pytest.mark.parametrize(
    ("digits", "region", "sender", "category", "account", "lane"),
    [
        ("8613800138000", "CN", "", Category.MARKETING, "shop", "china"),
        ("8613800138000", "CN", "", Category.OTP, "bank", "china-otp"),
        ("8613800138000", "CN", "", Category.OTP, "shop", "china-otp-shop"),
        ("8610800138000", "CN", "", Category.OTP, "shop", "beijing"),
        ("46701740605", "SE", "Bank", Category.OTP, "bank", "sweden"),
        ("46701740605", "SE", "Shopping", Category.OTP, "bank", "brand"),
        ("46701740605", "SE", "Shop", Category.OTP, "shop", "exact"),
        ("4711111111", "NO", "Shop", Category.OTP, "shop", "rest"),
    ],
)
def test_match(digits: str, region: str, sender: str, category: Category, account: str, lane: str):
    found = TABLE.match(digits, region, sender, category, account)
    assert found is not None
    assert found.lane == lane


def test_no_route():
    table = RouteTable([RouteConditions("china", "86")])
    assert table.match("46701740605", "SE", "", Category.OTP, "shop") is None
    assert RouteTable([]).match("46701740605", "SE", "", Category.OTP, "shop") is None
    assert repr(table) == "<RouteTable china>"
