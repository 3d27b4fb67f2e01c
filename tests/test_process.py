"""What a gateway takes of the system, and that clients cannot take all of it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 80))
from gateway import process
from gateway.api.listener import HttpListener
process.set_limits()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_CORE)[0], process.max_clients())

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def main():
    listener = HttpListener(app, "127.0.0.1:0")
    await listener.start()
    clients = []
    for _ in range(27):
        clients.append(await asyncio.open_connection("127.0.0.1", listener.port))
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    print(listener.connections)
    open("/dev/null").close()
    for _, writer in clients:
        writer.close()
    await listener.stop(1)

asyncio.run(main())
"""


def test_clients_leave_open_files_for_the_rest() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=False, capture_output=True, text=True, timeout=30)
    warning, allowed, connected = done.stdout.splitlines()
    assert "few open files" in warning
    assert (allowed, connected) == ("80 0 20", "20"), done.stderr
