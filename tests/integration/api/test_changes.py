"""Changes of files and collections: by upload and by PATCH, seen at once where they are read."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from emberq.api.app import make_app
from emberq.errors.file_warnings import FileWarning, WarningCode
from emberq.store.admin.api_keys import DEFAULT_TENANT, create_key
from emberq.store.admin.pauses import PauseScope, list_pauses, pause
from emberq.store.services import Services
from tests.integration.store.steps import claim, commit


@pytest.fixture
def api(services: Services) -> Iterator[TestClient]:
    with services.database.system_transaction() as connection:
        key = create_key(connection, name="test", tenant=DEFAULT_TENANT, scopes=["read", "write"])
    headers = {"Authorization": f"Bearer {key}"}
    with TestClient(make_app(maintenance=False), headers=headers, base_url="http://test/api/v1") as client:
        for name in ("docs", "other"):
            assert client.post("/collections", json={"name": name}).status_code == 201
        yield client


def upload(api: TestClient, content: bytes = b"Terns.", file_name: str = "a.txt", **form: Any) -> Any:
    data = {key: value if isinstance(value, str) else json.dumps(value) for key, value in form.items()}
    answer = api.post("/collections/docs/files", files={"file": (file_name, content)}, data=data)
    assert answer.status_code in (200, 202), answer.text
    return answer.json()


def searchable(services: Services, answer: Any) -> Any:
    commit(services, claim(services, uuid.UUID(answer["job"]["id"])), ["terns fly far"])
    return answer["file"]


def found(api: TestClient, **body: Any) -> list[Any]:
    answer = api.post("/collections/docs/search", json={"query": "terns", "mode": "keyword", **body})
    results: list[Any] = answer.json()["results"]
    return results


def test_an_upload_says_what_it_did_and_searches_show_it_at_once(api: TestClient, services: Services) -> None:
    made = upload(api, external_id="x", metadata={"team": "a"}, source="here")
    assert (made["outcome"], made["deduplicated"], made["file"]["source"]) == ("created", False, "here")
    searchable(services, made)
    assert upload(api, external_id="x")["outcome"] == "unchanged"
    changed = upload(api, file_name="b.txt", external_id="x", metadata={"team": "b"})
    assert (changed["outcome"], changed["deduplicated"]) == ("updated", True)
    assert changed["file"]["metadata"] == {"team": "b"}
    [hit] = found(api, filter={"team": "b"})
    assert hit["file"] == {"id": made["file"]["id"], "name": "b.txt", "external_id": "x"}
    assert found(api, filter={"team": "a"}) == []
    assert upload(api, b"Other terns.", external_id="x")["outcome"] == "replaced"


def test_a_name_is_given_beside_the_file_and_kept_exactly(api: TestClient) -> None:
    name = 'a/b\\c "100%22".txt'
    assert upload(api, name=name)["file"]["name"] == name


def test_a_files_name_and_metadata_are_changed(api: TestClient, services: Services) -> None:
    file = searchable(services, upload(api, metadata={"a": 1, "b": 2}))
    path = f"/files/{file['id']}"
    assert api.patch(path, json={"name": "new.txt"}).json()["metadata"] == {"a": 1, "b": 2}
    changed = api.patch(path, json={"metadata": {"b": 3}})
    assert (changed.status_code, changed.json()) == (200, api.get(path).json())
    assert (changed.json()["name"], changed.json()["metadata"]) == ("new.txt", {"b": 3})
    [hit] = found(api, filter={"b": 3})
    assert (hit["file"]["name"], hit["metadata"]) == ("new.txt", {"b": 3})
    assert api.patch(path, json={}).json() == changed.json()
    wrongs: list[Any] = [
        {"name": ""},
        {"name": "x" * 301},
        {"metadata": [1]},
        {"size": 1},
        {"name": "a\0"},
        [],
    ]
    for wrong in wrongs:
        assert api.patch(path, content=json.dumps(wrong)).status_code == 422, wrong
    assert api.patch(f"/files/{uuid.uuid4()}", json={"name": "x"}).json()["code"] == "file_not_found"
    api.delete(path)
    assert api.patch(path, json={"name": "x"}).status_code == 404


def test_a_collections_name_and_metadata_are_changed(api: TestClient, services: Services) -> None:
    file = searchable(services, upload(api))
    with services.database.system_transaction() as connection:
        pause(connection, PauseScope.COLLECTION, DEFAULT_TENANT, "docs")
    changed = api.patch("/collections/docs", json={"name": "papers", "metadata": {"of": "us"}})
    assert (changed.status_code, changed.json()) == (200, api.get("/collections/papers").json())
    assert (changed.json()["metadata"], changed.json()["files"]) == ({"of": "us"}, 1)
    assert api.get("/collections/docs").status_code == 404
    assert api.get(f"/files/{file['id']}").json()["collection"] == "papers"
    with services.database.system_transaction() as connection:
        assert [one["name"] for one in list_pauses(connection, DEFAULT_TENANT)] == ["papers"]
    assert api.patch("/collections/papers", json={"name": "papers"}).status_code == 200
    taken = api.patch("/collections/papers", json={"name": "other"})
    assert (taken.status_code, taken.json()["code"]) == (422, "invalid_request")
    for wrong in ({"name": "a/b"}, {"embedding_model": "x"}, {"metadata": "x"}):
        assert api.patch("/collections/papers", json=wrong).status_code == 422, wrong
    assert api.patch("/collections/docs", json={"name": "x"}).json()["code"] == "collection_not_found"


def test_files_are_listed_by_external_id_and_by_source(api: TestClient) -> None:
    for external_id, source in (("a", "here"), ("b", "here"), ("c", "there")):
        upload(api, external_id=external_id, source=source)
    upload(api, external_id="d")

    def listed(**params: Any) -> list[str]:
        items = api.get("/collections/docs/files", params=params).json()["items"]
        return [item["external_id"] for item in items]

    assert listed(external_id=["a", "c", "nowhere"]) == ["a", "c"]
    assert listed(source="here") == ["a", "b"]
    assert listed(external_id="c", source="here") == []
    assert listed() == ["a", "b", "c", "d"]
    assert api.get("/collections/docs/files", params={"external_id": ["x"] * 101}).status_code == 422


def test_an_external_id_is_as_long_as_a_path_may_be(api: TestClient) -> None:
    external_id = "ä" * 1000
    assert upload(api, external_id=external_id)["outcome"] == "created"
    assert upload(api, external_id=external_id)["outcome"] == "unchanged"
    too_long = {"external_id": external_id + "a"}
    answer = api.post("/collections/docs/files", files={"file": ("a", b"a")}, data=too_long)
    assert "2000 bytes" in answer.json()["detail"]


def test_a_job_tells_the_warnings_of_its_version(api: TestClient, services: Services) -> None:
    made = upload(api, external_id="x")
    assert made["job"]["warnings"] == []
    attempt = claim(services, uuid.UUID(made["job"]["id"]))
    commit(services, attempt, ["terns"], warnings=[FileWarning(WarningCode.IMAGES_SKIPPED, 3)])
    [job] = api.get("/jobs").json()["items"]
    assert [(one["code"], one["count"]) for one in job["warnings"]] == [("images_skipped", 3)]
    assert job["warnings"] == api.get(f"/files/{job['file_id']}").json()["warnings"]
