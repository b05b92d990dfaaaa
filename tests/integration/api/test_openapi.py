"""The OpenAPI document tells the truth: no answer is a 5xx, undocumented, or another tenant's."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key
from emberq.store.services import Services
from tests.harness.served_api import served_api
from tests.openapi.requests import Sender, fuzz, restore

#: In the name of a collection, its metadata, and the name and id of a file.
_CANARY = "canary-of-the-other-tenant"


def new_key(services: Services, *scopes: str, tenant: str) -> str:
    with services.database.system_transaction() as connection:
        return create_key(connection, name=f"of {tenant}", tenant=tenant, scopes=scopes)


def fill(client: httpx.Client) -> None:
    made = client.post("/api/v1/collections", json={"name": _CANARY, "metadata": {"a": _CANARY}})
    assert made.status_code == 201
    form: dict[str, Any] = {
        "files": {"file": (f"{_CANARY}.txt", b"Terns.")},
        "data": {"external_id": _CANARY},
    }
    assert client.post(f"/api/v1/collections/{_CANARY}/files", **form).status_code == 202


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_answer_is_documented_and_no_one_elses(services: Services) -> None:
    admin = new_key(services, "admin", tenant=DEFAULT_TENANT)
    reader = new_key(services, "read", tenant="reader")
    with served_api() as api, api.http(new_key(services, "read", "write", tenant="other")) as other:
        fill(other)
        senders = [
            Sender("an admin", admin),
            Sender("a reader", reader, foreign=[_CANARY]),
            Sender("nobody", foreign=[_CANARY]),
        ]
        with api.http(admin) as client:
            url = str(client.base_url).rstrip("/")
            report = fuzz(url, senders, requests=600, number=1, between=lambda: restore(client))
        assert not report.wrong, "\n".join(report.wrong)
        assert report.requests > 400
        # All three got through to the routes, and were refused.
        assert {200, 401, 403, 404, 422} <= set(report.statuses)
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_each_operation_lists_its_statuses(services: Services) -> None:
    from emberq.api.app import make_app
    from emberq.openwebui.api.loader import router

    document = make_app(maintenance=False, routers=[router]).openapi()
    text = json.dumps(document)
    assert "default" not in {
        status for path in document["paths"].values() for one in path.values() for status in one["responses"]
    }
    assert "HTTPValidationError" not in text
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needs_key = path not in ("/healthz", "/readyz", "/metrics") and (method, path) != ("get", "/tika")
            # `/metrics` asks for a key of its own where one is set.
            assert ("401" in operation["responses"]) == (needs_key or path == "/metrics"), (method, path)
            assert bool(operation.get("security")) == needs_key, (method, path)
