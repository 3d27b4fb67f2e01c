"""One connection for the tests of a module, whose store is empty and whose clock is set anew before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers import Server
from tests.store.message_driver import MessageDriver


@pytest.fixture(scope="module")
def shared_driver(single_server: Server) -> Iterator[MessageDriver]:
    single_server.flush()
    driver = MessageDriver(single_server.url)
    yield driver
    driver.close()


@pytest.fixture
def driver(shared_driver: MessageDriver) -> MessageDriver:
    shared_driver.reset()
    return shared_driver
