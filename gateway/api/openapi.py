"""The OpenAPI 3.1 document of the HTTP interface, made from the types that are decoded and encoded.

A test keeps it equal to the routes; a test sends the examples.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from gateway.api import content_negotiation, schemas
from gateway.api.contract import FIELDS, OPERATIONS, PARAMETERS, TAGS, ApiOperation, SuccessResponse
from gateway.api.problems import CONTENT_TYPE, KINDS, ProblemDetails
from gateway.api.requests import MAX_MESSAGES

_REF = "#/components/schemas/{name}"
_NAMES = {
    "ProblemDetails": "Problem",
    "FieldProblem": "FieldError",
    "BatchRequest": "Batch",
    "DecisionRecordView": "Ruling",
}
"""Types whose name in the document is not their own without ``View``. Generated clients use these: they stay."""

_JSON = content_negotiation.JSON.decode()
_PROBLEM = CONTENT_TYPE.decode()


@cache
def document(version: str) -> bytes:
    """Return the document as JSON. ``version``: of the gateway."""
    types = [operation.body for operation in OPERATIONS if operation.body is not None]
    types += [response.type for operation in OPERATIONS for response in operation.responses.values() if response.type]
    types = [each for each in dict.fromkeys(types) if each not in {schemas.BatchAnswer, dict[str, Any]}]
    components = _components([*types, ProblemDetails])
    _complete(components)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "SMPP gateway",
                "version": version,
                "description": "Send SMS: the gateway decides whether each message may be sent now, sends it over SMPP "
                "at the rate that the carriers allow, and tracks it to its delivery report.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "servers": [{"url": "/"}],
            "security": [{"key": []}],
            "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "key": {"type": "http", "scheme": "bearer", "description": "`smpp-gateway key new ACCOUNT`"}
                },
            },
        }
    )


_TO_GRANT = ["method", "evidence"]


def _components(types: Iterable[Any]) -> dict[str, Any]:
    """Return the schemas of these types and of all types in them, by their names in the document."""
    _, found = msgspec.json.schema_components(types, ref_template=_REF)
    text = msgspec.json.encode({_public(name): schema for name, schema in found.items()}).decode()
    for name in found:
        text = text.replace(f'"{_REF.format(name=name)}"', f'"{_REF.format(name=_public(name))}"')
        text = text.replace(f'"title":"{name}"', f'"title":"{_public(name)}"')
    components: dict[str, Any] = msgspec.json.decode(text)
    return components


def _public(name: str) -> str:
    """Return the name of a type in the document."""
    return _NAMES.get(name, name.removesuffix("View"))


def _complete(components: dict[str, Any]) -> None:
    """Add what the types cannot express: untagged unions, enumerations, descriptions."""
    for name, schema in components["Submission"]["properties"].items():
        schema["description"] = FIELDS[name]
    components["Submission"]["properties"]["to"] |= PARAMETERS["to"]["schema"]
    components["Submission"]["anyOf"] = [{"required": ["text"]}, {"required": ["template"]}]
    components["Batch"]["properties"]["messages"] |= {"minItems": 1, "maxItems": MAX_MESSAGES}
    granted = {"properties": {"method": {"minLength": 1}, "evidence": {"minLength": 1}}, "required": _TO_GRANT}
    components["ConsentBody"]["anyOf"] = [granted, {"properties": {"status": {"const": "revoked"}}}]
    components["Refused"] = {
        "title": "Refused",
        "description": "One message of a batch that was not accepted.",
        "type": "object",
        "properties": {"index": {"type": "integer"}, "problem": _ref(ProblemDetails)},
        "required": ["index", "problem"],
    }
    components["BatchAnswer"] = {
        "title": "BatchAnswer",
        "description": "The response to a batch, results in the order sent.",
        "type": "object",
        "properties": {
            "accepted": {"type": "integer"},
            "refused": {"type": "integer"},
            "results": {"type": "array", "items": {"anyOf": [_ref(schemas.SubmittedView), _ref(schemas.RefusedView)]}},
        },
        "required": ["accepted", "refused", "results"],
    }
    used = {code for operation in OPERATIONS for code in operation.problems} | {"method_not_allowed"}
    components["Problem"]["properties"]["code"] = {"enum": [code for code in KINDS if code in used]}
    components["Problem"]["description"] = "An error response (RFC 9457). Branch on `code`."
    statuses = {"enum": list(schemas.STATUSES.values())}
    for name in ("Submitted", "Message", "Decisions"):
        components[name]["properties"]["status"] = statuses
    components["Decision"]["properties"]["outcome"] = {"enum": list(schemas.OUTCOMES.values())}


def _ref(kind: type) -> dict[str, str]:
    return {"$ref": _REF.format(name=_public(kind.__name__))}


def _schema(kind: Any) -> dict[str, Any]:
    return {"type": "object"} if kind == dict[str, Any] else _ref(kind)


def _operation(operation: ApiOperation) -> dict[str, Any]:
    out: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [_parameter(name) for name in operation.parameters],
        "responses": {
            **{str(status): _success(response, operation) for status, response in operation.responses.items()},
            **_problems(operation.problems),
        },
    }
    if operation.tag == "gateway":
        out["security"] = []
    if operation.body is not None:
        examples = {name: {"value": value} for name, value in operation.examples.items()}
        content: dict[str, Any] = {_JSON: {"schema": _ref(operation.body), "examples": examples}}
        content |= {name: {"schema": {"type": "string"}} for name in operation.media_types}
        out["requestBody"] = {"required": True, "content": content}
    return out


def _parameter(name: str) -> dict[str, Any]:
    kept = {"in": "query", **PARAMETERS[name], "name": name.removeprefix("?")}
    return kept | {"required": True} if kept["in"] == "path" else kept


def _success(response: SuccessResponse, operation: ApiOperation) -> dict[str, Any]:
    out: dict[str, Any] = {"description": response.description}
    if response.type is not None:
        out["content"] = {_JSON: {"schema": _schema(response.type)}}
        out["content"] |= {name: {"schema": {"type": "string"}} for name in response.media_types}
    if "Idempotency-Key" in operation.parameters:
        out["headers"] = {
            "Idempotency-Replayed": {
                "schema": {"const": "true"},
                "description": "Present on a repeat.",
            }
        }
    return out


def _problems(codes: Iterable[str]) -> dict[str, Any]:
    """Return one response per status that lists its codes."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {str(status): _problem(status, by_status[status]) for status in sorted(by_status)}


def _problem(status: int, codes: Iterable[str]) -> dict[str, Any]:
    lines = [f"`{code}`: {KINDS[code].title}" for code in dict.fromkeys(codes)]
    out: dict[str, Any] = {"description": "  \n".join(lines), "content": {_PROBLEM: {"schema": _ref(ProblemDetails)}}}
    if status in {409, 429, 503}:
        out["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return out
