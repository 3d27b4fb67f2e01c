"""``smpp-gateway send --file`` over a gateway that is killed in the middle: every row arrives, none twice."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from gateway.simulator import Faults
from tests.running_gateway import KEY, Message, RunningGateway, extra, missing, running_gateway, until

ROWS = 2_000
FIRST = 46_700_000_000
WINDOWS = 2 * 50  # binds × window


async def send(gateway: RunningGateway, file: Path) -> tuple[int | None, dict[str, Any]]:
    command = ["-m", "gateway", "send", "--file", str(file), "--url", gateway.http.url, "--key", KEY, "--json"]
    process = await asyncio.create_subprocess_exec(sys.executable, *command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode, json.loads(out)


async def test_sending_a_file_continues_after_the_gateway_was_killed(tmp_path: Path) -> None:
    file = tmp_path / "parcels.csv"
    rows = [f"+{FIRST + number},Parcel {number} is here" for number in range(ROWS)]
    file.write_text("to,text\n" + "\n".join([*rows[:10], "nobody,x", *rows[10:]]) + "\n")
    async with running_gateway(
        tmp_path, ["north"], faults=Faults(latency_ms=5), settings="binds = 2\nwindow = 50"
    ) as gateway:
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


async def test_a_corrected_file_is_sent_again_without_duplicates(tmp_path: Path) -> None:
    """A refused row deleted, one mended, a new one on top, the columns turned round; the file of failures as well."""
    file = tmp_path / "parcels.csv"
    rows = [f"+{FIRST + number},Parcel {number} is here" for number in range(40)]
    file.write_text("to,text\n" + "\n".join([*rows[:5], "nobody,x", "12,typed wrongly", *rows[5:]]) + "\n")
    async with running_gateway(tmp_path, ["north"]) as gateway:
        code, told = await send(gateway, file)
        assert (code, told["accepted"], told["refused"]) == (1, 40, 2)
        failed = tmp_path / "parcels.failed.csv"
        failed.write_text(failed.read_text().replace("12,typed", f"+{FIRST + 50},typed"))
        code, told = await send(gateway, failed)
        assert (code, told["accepted"], told["refused"]) == (1, 1, 1)
        turned = [f'"{text}";{to}' for to, text in (row.split(",") for row in [*rows, f"+{FIRST + 50},typed wrongly"])]
        file.write_text("\n".join(["内容;手机号", f"A new one;+{FIRST + 60}", *turned]) + "\n", "utf-16")
        code, told = await send(gateway, file)
        assert (code, told["accepted"], told["already_accepted"], told["refused"]) == (0, 1, 41, 0)
        everybody = [Message(str(FIRST + number), "", 1) for number in [*range(40), 50, 60]]
        await until(lambda: not missing(everybody, gateway.copies()), 30)
        assert extra(gateway.copies()) == 0


async def test_a_row_refused_by_policy_is_accepted_once_its_reason_is_gone(tmp_path: Path) -> None:
    """A refusal is no acceptance: the same row under the same reference goes when its consent is there."""
    file = tmp_path / "offer.ndjson"
    row = {"to": f"+{FIRST}", "text": "Autumn sale", "category": "marketing", "on_quiet": "defer"}
    file.write_text(json.dumps(row) + "\n")
    async with running_gateway(tmp_path, ["north"]) as gateway:
        code, told = await send(gateway, file)
        assert (code, told["codes"]) == (1, {"consent_missing": 1})
        command = ["-m", "gateway", "consent", "grant", f"+{FIRST}", "--method", "web_form", "--evidence", "yes"]
        granted = await asyncio.create_subprocess_exec(
            sys.executable, *command, "--url", gateway.http.url, "--key", KEY, stdout=asyncio.subprocess.DEVNULL
        )
        assert await granted.wait() == 0
        code, told = await send(gateway, tmp_path / "offer.failed.ndjson")
        assert (code, told["accepted"], told["refused"]) == (0, 1, 0)
