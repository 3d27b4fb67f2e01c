"""The document says what the routes do, and the page shows it."""

from __future__ import annotations

import asyncio
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from gateway.api.contract import OPERATIONS, POLICY
from gateway.api.openapi import document
from gateway.api.problems import KINDS
from gateway.intake.submission import Submission
from gateway.model import Reason
from tests.api.conftest import ApiClient

DOCUMENT: dict[str, Any] = msgspec.json.decode(document("1"))
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
PHASES = "examples,coverage"  # every field at its bounds and beyond; "fuzzing,stateful" takes half a minute more
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "negative_data_rejection",
    "ignored_auth",
)


def test_every_route_is_in_the_document(api_client: ApiClient) -> None:
    routes = {("post", "/v1/messages"), ("post", "/v1/messages/batch")}
    for route in api_client.api.app._fallback.routes:  # type: ignore[attr-defined]
        assert isinstance(route, Route)
        if not route.path.startswith("/docs") and route.path != "/" and route.path != "/v1/messages/batch":
            routes |= {(method.lower(), route.path) for method in route.methods or () if method != "HEAD"}
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}


def test_every_problem_code_is_in_the_document() -> None:
    used = {code for operation in OPERATIONS for code in operation.problems} | {"method_not_allowed"}
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == used
    assert used <= set(KINDS)
    assert set(POLICY) == {reason.name.lower() for reason in Reason if 0 < reason < Reason.SCHEDULED}


def test_fields_are_those_of_the_types() -> None:
    asked = DOCUMENT["components"]["schemas"]["Submission"]
    assert list(asked["properties"]) == list(Submission.__struct_encode_fields__)
    assert asked["required"] == ["to"]
    assert asked["additionalProperties"] is False
    assert all(field["description"] for field in asked["properties"].values())


def test_every_reference_in_the_document_resolves() -> None:
    raw = document("1").decode()
    names = {piece.split('"')[0] for piece in raw.split("#/components/schemas/")[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])


def test_schemas_keep_the_names_that_generated_clients_use() -> None:
    assert set(DOCUMENT["components"]["schemas"]) == {
        *("Submission", "Batch", "Submitted", "BatchAnswer", "Refused", "Problem", "FieldError"),
        *("Message", "Part", "Copy", "Move", "Found", "Canceled", "Decision", "Decisions", "Ruling", "Permitted"),
        *("Consent", "ConsentBody", "Consents", "Suppression", "SuppressionBody", "Suppressions", "Health"),
    }


EXAMPLES = [
    pytest.param(operation, body, id=f"{operation.name}: {name}")
    for operation in OPERATIONS
    for name, body in (operation.examples or {"": None}).items()
    if "{id}" not in operation.path
]


@pytest.mark.parametrize(("operation", "body"), EXAMPLES)
async def test_examples_run(api_client: ApiClient, operation: Any, body: Any) -> None:
    path = operation.path.replace("{to}", "+46701740605")
    params = {"client_ref": "order-1017"} if "client_ref" in operation.parameters else None
    answer = await api_client(operation.method.upper(), path, json=body, params=params)
    assert answer.status in operation.responses
    if body is not None and "batch" in path:
        assert answer.body["refused"] == 0


async def test_the_document_requires_no_key(api_client: ApiClient) -> None:
    answer = await api_client("GET", "/v1/openapi.json", key="")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.body["openapi"] == "3.1.0"
    assert answer.body["paths"] == DOCUMENT["paths"]


@pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed")
async def test_schemathesis_finds_no_500_and_no_undocumented_answer(api_client: ApiClient, tmp_path: Path) -> None:
    arguments = ["--max-examples", "1", "--seed", "1", "--phases", PHASES, "--no-color"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"),
        *(f"{api_client.listener.url}/v1/openapi.json", "-H", "Authorization: Bearer shop-key"),
        *("--checks", ",".join(CHECKS), *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=tmp_path,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, said.decode()[-4000:]


async def test_the_page_loads_nothing_from_elsewhere(api_client: ApiClient) -> None:
    for name in ("", "/docs.css", "/docs.js"):
        answer = await api_client("GET", f"/docs{name}", key="")
        assert answer.status == 200
        assert b"//" not in answer.body.replace(b"// ", b"")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (await api_client("GET", "/docs/docs.py", key="")).status == 404


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on the PATH")
async def test_the_page_renders_in_a_browser(api_client: ApiClient, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"),
        *(f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--virtual-time-budget=5000"),
        # whatever is not this machine does not resolve
        *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"{api_client.listener.url}/docs"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        drawn, log = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    page = drawn.decode()
    assert 'data-drawn="true"' in page, log.decode()[-2000:]
    for operation in OPERATIONS:
        assert f'<article id="{operation.name}">' in page
    assert "CONSOLE" not in log.decode()
    assert "curl -sS -X POST" in page
