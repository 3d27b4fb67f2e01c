"""Stores for tests: started once, emptied before every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import Phase, settings

from tests.servers import Cluster, Server

# No deadline: how long an example takes says how busy the machine is.
settings.register_profile("shrink", deadline=None)
# Shrinking a failed walk of the model takes minutes, so a failure is reported as found. The same failure, made as small
# as it gets: pytest --hypothesis-profile=shrink
settings.register_profile("gateway", deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.target])
settings.load_profile("gateway")

LONGEST = ("journeys", "faults", "carriers", "admin", "webhooks", "api", "cluster", "")
"""Folders whose files begin first ("" is tests/ itself), so that no long file runs last while other processes idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def order(item: pytest.Item) -> int:
        folder = str(item.path.parent.relative_to(Path(__file__).parent)).partition("/")[0].strip(".")
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=order)  # stable: within a folder as collected


@pytest.fixture(autouse=True)
def default_logging() -> Iterator[None]:
    """Undo what a test configured, so that the log level of one test hides no events from the next."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def single_server() -> Iterator[Server]:
    """One durable server for the whole run (fsync every second, for speed)."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def cluster_servers() -> Iterator[Cluster]:
    """A cluster of three primaries for the whole run."""
    cluster = Cluster()
    yield cluster
    cluster.stop()


@pytest.fixture
def store_url(single_server: Server) -> str:
    """URL of an empty single server; connect to it with durability="everysec"."""
    single_server.flush()
    return single_server.url


@pytest.fixture
def cluster_url(cluster_servers: Cluster) -> str:
    """URL of an empty three-node cluster; connect to it with durability="everysec"."""
    cluster_servers.flush()
    return cluster_servers.url
