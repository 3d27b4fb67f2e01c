from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.canned_gateway import CannedGateway, opened


@pytest.fixture
def server() -> Iterator[CannedGateway]:
    with opened() as server:
        yield server
