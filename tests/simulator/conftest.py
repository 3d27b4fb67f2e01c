from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.simulator import Faults, Simulator


@pytest.fixture
async def carriers() -> AsyncIterator[Callable[..., Any]]:
    """``await carriers(faults, …)`` gives a running Simulator."""
    async with AsyncExitStack() as stack:

        async def start(faults: Faults | None = None, **more: Any) -> Simulator:
            if faults is None:
                faults = Faults()
            return await stack.enter_async_context(Simulator(faults, ledger=True, seed=1, **more))

        yield start
