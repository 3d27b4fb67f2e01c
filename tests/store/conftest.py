"""One connection for the tests of a module, whose store is empty and whose clock is set anew before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server
from tests.store.test_scripts import Desk


@pytest.fixture(scope="module")
def shared(single_server: Server) -> Iterator[Desk]:
    single_server.flush()
    desk = Desk(single_server.url)
    yield desk
    desk.close()


@pytest.fixture
def desk(shared: Desk) -> Desk:
    shared.reset()
    return shared
