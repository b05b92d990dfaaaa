"""Every parameter, field and form field of every operation: whatever is sent in it, the answer is no 5xx."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from emberq.api.app import make_app
from emberq.openwebui.api.loader import router
from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key
from emberq.store.services import Services

#: What is no text of ours, as JSON and percent-encoded.
_BAD_TEXTS = [('"a\\u0000b"', "a%00b"), ('"\\ud800"', "%ED%A0%80"), ('"\\udfff\\ud800"', "%FF")]
_DEEP = "[" * 900 + "]" * 900
#: Other values, as JSON; a field may take some of them.
_VALUES = [
    "NaN", "-Infinity", "1e999", "1" * 400, _DEEP, '{"a":' * 100 + "1" + "}" * 100, '"' + "x" * 60_000 + '"',
    '"\\u202e\\u0007"', "null", "[]", "{}", "true", "-1", "9223372036854775808", '""', '[["a"], 1]',
]  # fmt: skip
_PARAMETERS = [
    "x" * 7000,
    "-1",
    "NaN",
    "1e999",
    "9223372036854775808",
    "",
    "%E2%80%AE%07",
    "W10",
    "eyJhIjoxfQ",
    "%5B" * 500,
]
#: Operations that wait for a worker, or whose answer has no end.
_LEFT_OUT = {"/process", "/tika", "/tika/text", "/tika/json/md", "/rmeta/text", "/v1/convert/file"}


@pytest.fixture
def api(services: Services) -> Iterator[TestClient]:
    with services.database.system_transaction() as connection:
        key = create_key(connection, name="test", tenant=DEFAULT_TENANT, scopes=["admin"])
    app = make_app(maintenance=False, routers=[router])
    headers = {"Authorization": f"Bearer {key}"}
    # With its life span, because inputs that are accepted wait for the batcher.
    with TestClient(app, raise_server_exceptions=False, headers=headers) as client:
        assert client.post("/api/v1/collections", json={"name": "docs"}).status_code == 201
        yield client


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            if path not in _LEFT_OUT:
                yield method.upper(), path, operation


def resolve(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
        return found
    return schema


def sample(schema: dict[str, Any]) -> Any:
    """Return a value that a field takes, or nearly."""
    options = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    one = options[0] if options else {}
    if "enum" in one:
        return one["enum"][0]
    kind = one.get("type")
    numbers = max(one.get("minimum", 1), 1)
    return {"integer": numbers, "number": numbers, "boolean": True, "array": ["a"], "object": {}}.get(
        str(kind), "docs"
    )


def url(path: str, given: dict[str, str]) -> str:
    for name in ("name", "key", "named", "prefix_or_id"):
        path = path.replace(f"{{{name}}}", given.get(name, "docs"))
    for name in ("file_id", "job_id"):
        path = path.replace(f"{{{name}}}", given.get(name, "00000000-0000-0000-0000-000000000000"))
    return path


def refused(answer: Any, field: str) -> None:
    assert answer.status_code in (400, 422), (answer.request.url, answer.text)
    body = answer.json()
    detail = body["detail"] if "detail" in body else body["error"]["message"]
    assert field in detail, (answer.request.url, detail)


def handled(answer: Any) -> None:
    assert answer.status_code < 500, (answer.request.method, str(answer.request.url)[:200], answer.text)
    kind = answer.headers.get("content-type", "")
    if answer.status_code >= 400:
        assert kind.startswith(("application/problem+json", "application/json")), answer.text


@pytest.mark.slow
def test_every_parameter(api: TestClient) -> None:
    number = 0
    for method, path, operation in operations(api.get("/openapi.json").json()):
        for one in operation.get("parameters", []):
            name, place = one["name"], one["in"]
            if place == "header":
                for value in (b"\xff\xfe", b"x" * 7000, b"-1", b"\xc2\xb2", b"9" * 30):
                    if name != "last-event-id" or not value.isdigit():
                        handled(api.request(method, url(path, {}), headers={name: value}))
                continue
            for bad in [pair[1] for pair in _BAD_TEXTS] + _PARAMETERS:
                target = url(path, {name: bad} if place == "path" else {})
                answer = api.request(method, target + (f"?{quote(name)}={bad}" if place == "query" else ""))
                number += 1
                if bad in {pair[1] for pair in _BAD_TEXTS}:
                    refused(answer, "path" if place == "path" else name)
                else:
                    handled(answer)
    assert number > 300


@pytest.mark.slow
def test_every_field_of_every_body(api: TestClient) -> None:
    document = api.get("/openapi.json").json()
    number = 0
    for method, path, operation in operations(document):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        schema = resolve(document, content["schema"])
        fields = {name: resolve(document, one) for name, one in schema["properties"].items()}
        required = {name: sample(fields[name]) for name in schema.get("required", [])}
        for name in fields:
            others = {key: value for key, value in required.items() if key != name}
            for value in [pair[0] for pair in _BAD_TEXTS] + _VALUES:
                # By hand: no library writes what is no JSON.
                start = json.dumps(others)[:-1] + ("," if others else "")
                body = f'{start}"{name}":{value}}}'
                answer = api.request(method, url(path, {}), content=body)
                number += 1
                if value in {pair[0] for pair in _BAD_TEXTS}:
                    refused(answer, name if "/v1/" not in path[:4] else "")
                else:
                    handled(answer)
    assert number > 300
    # Nothing that was accepted breaks a listing.
    for path in (
        "collections",
        "pauses",
        "settings",
        "keys",
        "jobs",
        "settings/history",
        "collections/docs/files",
    ):
        assert api.get(f"/api/v1/{path}").status_code == 200, path
    assert api.get("/metrics").status_code == 200
