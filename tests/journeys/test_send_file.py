"""``smpp-gateway send --file`` over a gateway that is killed in the middle: every row arrives, none twice."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gateway.simulator import Faults
from tests.house import KEY, House, Message, extra, house, missing, until

ROWS = 2_000
FIRST = 46_700_000_000
WINDOWS = 2 * 50  # binds × window


async def send(gateway: House, file: Path) -> tuple[int | None, dict[str, Any]]:
    command = ["-m", "gateway", "send", "--file", str(file), "--url", gateway.http.url, "--key", KEY, "--json"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode, json.loads(out)


async def test_a_file_goes_on_over_a_killed_gateway(tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    rows = [f"+{FIRST + number},Parcel {number} is here" for number in range(ROWS)]
    file.write_text("to,text\n" + "\n".join([*rows[:10], "nobody,x", *rows[10:]]) + "\n")
    async with house(tmp_path, ["north"], faults=Faults(latency_ms=5), settings="binds = 2\nwindow = 50") as gateway:
        sending = asyncio.create_task(send(gateway, file))
        north = gateway.carriers["north"]
        await until(lambda: north.stats.accepted > 200, 30)
        await gateway.kill()
        await gateway.start()
        code, told = await sending
        assert (code, told["refused"], told["codes"]) == (1, 1, {"invalid_number": 1})
        assert told["accepted"] + told["already_accepted"] == ROWS
        code, again = await send(gateway, file)
        assert (code, again["accepted"], again["already_accepted"]) == (1, 0, ROWS)
        accepted = [Message(str(FIRST + number), "", 1) for number in range(ROWS)]
        await until(lambda: not missing(accepted, gateway.copies()), 60)
        assert extra(gateway.copies()) <= WINDOWS
        assert (tmp_path / "parcels.failed.csv").read_text().count("\n") == 2
