"""Temporary store servers for tests: one on a Unix socket, or a cluster of three on loopback ports."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from gateway.store.embedded.binary import find_binary


class Server:
    """One server process on a temporary folder; ``settings`` are appended to the durable default arguments."""

    def __init__(self, *settings: str, folder: Path | None = None, port: int = 0) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="gw-test-"))
        self.socket = self.folder / "s"
        self.port = port
        self._settings = settings
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [
                str(find_binary()),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket)),
                *("--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--maxmemory-policy", "noeviction", "--logfile", str(self.folder / "log")),
                *self._settings,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        self.client = redis.Redis(unix_socket_path=str(self.socket), protocol=2)
        deadline = time.monotonic() + 10
        while True:
            try:
                self.client.ping()
                return
            except redis.RedisError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()[-1000:]) from None
                time.sleep(0.005)

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def run(self, *command: object) -> Any:
        """Run one command, given as separate words, and return the reply."""
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        self.client.flushall()

    def kill(self) -> None:
        """Send SIGKILL, as in a crash: nothing is flushed."""
        self.client.close()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.kill()
        subprocess.run(["rm", "-rf", str(self.folder)], check=True)


class Cluster:
    """A cluster whose primaries have equal shares of the slots; ``replicas`` adds one replica to each."""

    def __init__(self, *settings: str, nodes: int = 3, replicas: bool = False) -> None:
        total = nodes * (1 + replicas)
        ports = free_ports(2 * total)
        all_nodes: list[Server] = []
        for port, bus in zip(ports[::2], ports[1::2], strict=True):
            all_nodes.append(
                Server(
                    *("--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-node-timeout", "2000"),
                    *("--repl-diskless-sync-delay", "0"),
                    *settings,
                    port=port,
                )
            )
        self.nodes, self.replicas = all_nodes[:nodes], all_nodes[nodes:]
        for index, node in enumerate(all_nodes):
            if index < nodes:
                first, last = 16384 * index // nodes, 16384 * (index + 1) // nodes - 1
                node.run("CLUSTER", "ADDSLOTSRANGE", first, last)
            node.run("CLUSTER", "MEET", "127.0.0.1", ports[0], ports[1])
        self._wait(lambda: all(self._complete(node) for node in all_nodes))
        for replica, primary in zip(self.replicas, self.nodes, strict=False):
            replica.run("CLUSTER", "REPLICATE", primary.run("CLUSTER", "MYID"))
        self._wait(
            lambda: all(one.run("INFO", "replication").get("master_link_status") == "up" for one in self.replicas)
        )

    def _wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("the cluster did not form")
            time.sleep(0.05)

    def _complete(self, node: Server) -> bool:
        """Return whether the node knows all nodes and the owner of every slot."""
        known = int(str(node.run("CLUSTER", "INFO")).split("cluster_known_nodes:")[1].split("\\r")[0])
        return (
            b"cluster_state:ok" in node.run("CLUSTER", "INFO")
            and len(node.run("CLUSTER", "SLOTS")) == len(self.nodes)
            and known == len(self.nodes) + len(self.replicas)
        )

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[0].port}"

    def flush(self) -> None:
        for node in self.nodes:
            node.client.flushall()

    def stop(self) -> None:
        for node in (*self.nodes, *self.replicas):
            node.stop()


def free_ports(count: int) -> list[int]:
    """Return ports that are free on loopback at this moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def alive(pid: int) -> bool:
    """Return whether the process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
