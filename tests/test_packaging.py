"""What is shipped beside the code: the wheel, the systemd unit, the compose file, Prometheus and Grafana."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from gateway.config import load

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
UNIT = CONFIG / "systemd" / "smpp-gateway.service"
COMPOSE = CONFIG / "compose" / "compose.yaml"
BOARD = CONFIG / "grafana" / "smpp-gateway.json"
ALERTS = CONFIG / "prometheus" / "alerts.yml"
YAML = sorted(path for path in CONFIG.rglob("*") if path.suffix in {".yml", ".yaml"})


# ── the wheel ──────────────────────────────────────────────────────────────────────────────────────────────────────


def run(*command: object, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done


def test_the_installed_wheel_runs_the_demo_from_an_empty_folder(tmp_path: Path) -> None:
    """Built, installed into an empty folder, and started outside of the checkout."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("smpp_gateway_server-*.whl")
    run(*pip, "install", "--no-deps", "--no-index", "--target", tmp_path / "installed", wheel)
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}  # before the checkout, which is editable
    where = run(sys.executable, "-c", "import gateway; print(gateway.__file__)", cwd=empty, env=environment).stdout
    assert where.startswith(str(tmp_path / "installed"))
    script = tmp_path / "installed" / "bin" / "smpp-gateway"
    told = run(sys.executable, script, "demo", "--once", "--json", cwd=empty, env=environment, timeout=60).stdout
    assert [step["outcome"] for step in json.loads(told)["steps"]].count("delivered") == 4
    assert list(empty.iterdir()) == []


# ── systemd ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/smpp-gateway/bin/smpp-gateway", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.parametrize(
    "line",
    [
        "DynamicUser=yes",
        "StateDirectory=smpp-gateway",
        "ProtectSystem=strict",
        "LimitCORE=0",
        "Type=notify",
        "NotifyAccess=main",
        "ExecReload=/opt/smpp-gateway/bin/smpp-gateway reload --wait 60",
        "KillMode=mixed",
        "RestartPreventExitStatus=2",
    ],
)
def test_the_unit_contains(line: str) -> None:
    assert line in UNIT.read_text().splitlines()


# ── containers ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", YAML, ids=lambda path: str(path.relative_to(ROOT)))
def test_yaml_parses(path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    assert yaml.safe_load(path.read_text())


def compose() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())
    return found


def test_the_compose_file_is_consistent() -> None:
    """Everything referred to exists; and compose-spec validates it, if that is installed."""
    found = compose()
    services = found["services"]
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= services.keys(), name
        assert {one["source"] for one in service.get("configs", ())} <= found["configs"].keys(), name
        named = {volume.partition(":")[0] for volume in service.get("volumes", ()) if volume[0] not in "./"}
        assert named <= found["volumes"].keys(), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert "image" in service or "build" in service, name
    with contextlib.suppress(ImportError):
        importlib.import_module("compose_spec").PyCompose.from_yaml(COMPOSE.read_text()).validate()


def test_prometheus_of_the_compose_file_reaches_the_gateway() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    scraped = yaml.safe_load((CONFIG / "prometheus" / "prometheus.yml").read_text())
    (job,) = scraped["scrape_configs"]
    found = compose()
    config = load(COMPOSE.parent / "gateway.toml", {"READ_TOKEN": "for-prometheus-on-this-machine-only"})
    assert job["static_configs"] == [{"targets": [f"gateway:{config.admin.listen.rpartition(':')[2]}"]}]
    prometheus = found["services"]["prometheus"]
    assert job["authorization"]["credentials_file"] == prometheus["configs"][0]["target"]
    mounted = {volume.split(":")[1] for volume in prometheus["volumes"]}
    assert set(scraped["rule_files"]) <= mounted
    assert found["configs"]["read_token"]["content"] == found["services"]["gateway"]["environment"]["READ_TOKEN"]


def test_files_mounted_by_the_compose_file_exist() -> None:
    mounted = re.findall(r"^ *- (\.\.?/[^:\s]+):", COMPOSE.read_text(), re.MULTILINE)
    assert len(mounted) == 5
    assert [path for path in mounted if not (COMPOSE.parent / path).exists()] == []


def test_the_configuration_of_the_compose_file_is_valid() -> None:
    config = load(COMPOSE.parent / "gateway.toml", {"READ_TOKEN": "for-prometheus-on-this-machine-only"})
    services = re.findall(r"^  (\w+):$", COMPOSE.read_text().partition("services:")[2], re.MULTILINE)
    assert config.store.url == "redis://valkey:6379"
    assert {"gateway", "valkey", "carrier", "prometheus", "grafana"} <= set(services)
    assert config.carriers[0].hosts[0].startswith("carrier:")


def test_files_copied_into_the_image_exist_and_are_not_ignored() -> None:
    lines = (ROOT / ".dockerignore").read_text().split()
    kept = [line[1:] for line in lines if line.startswith("!")]
    copied = [
        name
        for words in re.findall(r"^COPY (?!--)(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
        for name in words.split()[:-1]
    ]
    assert "gateway" in copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    assert [name for name in copied if not any(fnmatch(name, pattern) for pattern in kept)] == []


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, without comments and line continuations."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line.strip()]


def test_the_image_has_two_stages_no_root_a_health_check_and_no_secrets() -> None:
    """Checked by hadolint as well, if that is installed."""
    found = instructions()
    assert [word for word, _ in found].count("FROM") == 2
    last = dict(found)  # the last of each kind
    assert re.fullmatch(r"[1-9]\d{3,}", last["USER"])
    assert f"--uid {last['USER']} " in " ".join(rest for word, rest in found if word == "RUN")
    assert (last["STOPSIGNAL"], "healthz" in last["HEALTHCHECK"]) == ("SIGTERM", True)
    assert last["ENTRYPOINT"] == '["smpp-gateway"]'
    assert [rest for word, rest in found if word == "ADD"] == []
    assert [rest for word, rest in found if word in {"ARG", "ENV"} and re.search("PASSW|SECRET|TOKEN|KEY", rest)] == []
    if hadolint := shutil.which("hadolint"):
        run(hadolint, ROOT / "Dockerfile")


# ── Prometheus and Grafana ─────────────────────────────────────────────────────────────────────────────────────────


def board() -> Any:
    return json.loads(BOARD.read_text())


@pytest.mark.parametrize("path", [BOARD, ALERTS], ids=lambda path: path.name)
def test_board_and_alerts_query_existing_metrics(path: Path) -> None:
    source = "".join(found.read_text() for found in (ROOT / "gateway").rglob("*.py"))
    asked = set(re.findall(r"smpp_gateway_([a-z_]+)", path.read_text()))
    names = {re.sub(r"_(total|bucket)$", "", name) for name in asked}
    assert len(names) >= 10
    assert [name for name in sorted(names) if f'"{name}"' not in source] == []


def queries() -> list[str]:
    """Return the board's queries, with values in place of Grafana's variables."""
    asked = [target["expr"] for panel in board()["panels"] for target in panel.get("targets", ())]
    return [re.sub(r"\$\{?\w+\}?", "x", query.replace("$__rate_interval", "5m")) for query in asked]


def test_every_alert_has_a_severity_and_a_summary() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    assert len(rules) >= 10
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert {"expr", "labels", "annotations"} <= rule.keys(), rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"]["summary"]


def rule(name: str) -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    found: dict[str, Any] = next(rule for rule in rules if rule["alert"] == name)
    return found


def fires(name: str, **counts: float) -> bool:
    """Return whether an alert's expression is true for these counts by class in its window, by arithmetic alone."""

    def summed(found: re.Match[str]) -> str:
        classes = counts
        if chosen := re.search(r'class=~?"([^"]+)"', found[0]):
            classes = {word: counts.get(word, 0) for word in chosen[1].split("|")}
        return f"({sum(classes.values())})"

    text = re.sub(r"sum by \([^)]*\)\s*\(increase\([^)]*\)\)", summed, rule(name)["expr"])
    assert re.fullmatch(r"[\d.\s()/*<>=+and-]+", text), text
    try:
        return bool(eval(text, {"__builtins__": {}}))
    except ZeroDivisionError:
        return False  # NaN in Prometheus, which is greater than nothing


@pytest.mark.parametrize(
    ("name", "counts", "told"),
    [
        ("CarrierRefusing", {"ok": 4, "permanent": 6}, True),  # a quiet night
        ("CarrierRefusing", {"permanent": 5}, True),
        ("CarrierRefusing", {"ok": 3, "permanent": 1}, False),
        ("CarrierRefusing", {"ok": 100_000, "permanent": 30_000}, True),
        ("CarrierRefusing", {"ok": 100, "throttle": 5_000, "queue_full": 100}, False),
        ("CarrierRefusing", {"ok": 100, "throttle": 5_000, "other": 50}, True),  # throttling hides no refusals
        ("CarrierRefusing", {}, False),
        ("CarrierThrottling", {"ok": 100, "throttle": 5_000}, True),
        ("CarrierThrottling", {"ok": 5_000, "throttle": 5_000}, False),
        ("CarrierNotResponding", {"ok": 40, "unanswered": 5}, True),
        ("CarrierNotResponding", {"ok": 1, "unanswered": 2}, False),
    ],
)
def test_alerts_fire_at_small_traffic_and_do_not_count_throttling_as_refusal(
    name: str, counts: dict[str, float], told: bool
) -> None:
    assert fires(name, **counts) is told


def test_a_burst_is_still_in_the_window_after_the_alerts_for_duration() -> None:
    """A window shorter than ``for`` would miss bursts; no rate is compared with a bare number."""
    seconds = {"s": 1, "m": 60, "h": 3600}
    for name in re.findall(r"alert: (\w+)", ALERTS.read_text()):
        found = rule(name)
        windows = [int(count) * seconds[unit] for count, unit in re.findall(r"\[(\d+)([smh])\]", found["expr"])]
        held = re.fullmatch(r"(\d+)([smh])", found.get("for", "0s"))
        assert held is not None
        assert all(window > 2 * int(held[1]) * seconds[held[2]] for window in windows), name
        assert "rate(" not in found["expr"], name


@pytest.mark.parametrize("query", queries())
def test_brackets_of_queries_match(query: str) -> None:
    open_ones = []
    for char in re.sub(r'"[^"]*"', "", query):
        if char in "([{":
            open_ones.append(char)
        elif char in ")]}":
            assert open_ones.pop() + char in {"()", "[]", "{}"}
    assert open_ones == []


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on this machine")
def test_promtool_accepts_configuration_alerts_and_queries(tmp_path: Path) -> None:
    """The board's queries are checked as recording rules."""
    rules = [{"record": f"board:query{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "board.json").write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML
    run("promtool", "check", "config", "--syntax-only", CONFIG / "prometheus" / "prometheus.yml")
    run("promtool", "check", "rules", ALERTS, tmp_path / "board.json")


def test_variables_used_by_the_board_are_defined() -> None:
    found = board()
    variables = {variable["name"] for variable in found["templating"]["list"]}
    asked = " ".join(target["expr"] for panel in found["panels"] for target in panel.get("targets", ()))
    assert {name for name in re.findall(r"\$\{?(\w+)", asked) if not name.startswith("__")} <= variables
    with contextlib.suppress(ImportError):  # pip install grafana-foundation-sdk
        kind = importlib.import_module("grafana_foundation_sdk.models.dashboard").Dashboard
        assert len(kind.from_json(found).panels) == len(found["panels"])


def test_panels_of_the_board_do_not_overlap() -> None:
    places = [panel["gridPos"] for panel in board()["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)

    def apart(a: dict[str, int], b: dict[str, int]) -> bool:
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        return beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]

    assert all(apart(a, b) for a, b in combinations(places, 2))
    assert len({panel["id"] for panel in board()["panels"]}) == len(places)


def test_every_panel_has_a_title_and_queries() -> None:
    for panel in board()["panels"]:
        assert panel["title"]
        assert panel["type"] == "row" or all(target["expr"] for target in panel["targets"])
