"""Stores for tests: started once, emptied before every test that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers import Cluster, Server

settings.register_profile("gateway", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("gateway")


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
