"""The REST API from outside: documents in, answers out, every failure named."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.harness.eventually import eventually
from tests.harness.paths import CORPUS
from tests.harness.sample_files import make_bomb, make_pdf, make_scan
from tests.harness.stack import Stack

PDF = CORPUS / "fork-copy-on-write-memory.pdf"


def search(
    client: httpx.Client, query: str, collection: str = "docs", **options: Any
) -> list[dict[str, Any]]:
    answer = client.post(f"/api/v1/collections/{collection}/search", json={"query": query, **options})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    assert answer.headers["content-type"] == "application/problem+json"
    assert body["title"]
    assert body["detail"]
    assert body["hint"]
    assert body["status"] == status
    return body


def test_an_upload_becomes_searchable_with_page_and_offsets(stack: Stack, client: httpx.Client) -> None:
    answer = stack.upload(client, PDF.name, PDF, metadata=json.dumps({"team": "core"}), external_id="fork")
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{body['job']['id']}"
    job = stack.wait(client, body["job"]["id"])
    assert (job["state"], job["attempt"], job["error"]) == ("completed", 1, None)
    assert set(job["timings"]) == {"extracting", "splitting", "embedding", "storing"}
    file = client.get(f"/api/v1/files/{body['file']['id']}").json()
    assert (file["media_type"], file["visible_version"], file["state"]) == ("application/pdf", 1, "completed")
    text = client.get(f"/api/v1/files/{file['id']}/text").text
    for mode in ("vector", "keyword", "hybrid"):
        results = search(client, "why is the garbage collector frozen before a fork", mode=mode, k=3)
        assert results
        for result in results:
            if result["file"]["id"] == file["id"]:
                assert text[result["start"] : result["end"]] == result["text"]
                assert result["page"] >= 1
                assert result["metadata"] == {"team": "core"}
    content = client.get(f"/api/v1/files/{file['id']}/content")
    assert content.content == PDF.read_bytes()
    assert "attachment" in content.headers["content-disposition"]


def test_the_same_bytes_again_are_answered_at_once(stack: Stack, client: httpx.Client) -> None:
    first = stack.upload(client, "same.txt", b"Swans mate for life.", external_id="swan").json()
    stack.wait(client, first["job"]["id"])
    again = stack.upload(client, "same.txt", b"Swans mate for life.", external_id="swan")
    assert again.status_code == 200
    assert again.json()["deduplicated"] is True
    assert again.json()["job"]["state"] == "completed"


def test_a_new_version_replaces_the_old_one(stack: Stack, client: httpx.Client) -> None:
    for text in (b"Herons hunt by standing still.", b"Herons nest in colonies called heronries."):
        uploaded = stack.upload(client, "heron.txt", text, external_id="heron").json()
        stack.wait(client, uploaded["job"]["id"])
    texts = [result["text"] for result in search(client, "herons", k=20) if "Heron" in result["text"]]
    assert texts == ["Herons nest in colonies called heronries."]


def test_a_deleted_file_is_gone_from_searches(stack: Stack, client: httpx.Client) -> None:
    uploaded = stack.upload(client, "dodo.txt", b"The dodo was a flightless bird of Mauritius.").json()
    stack.wait(client, uploaded["job"]["id"])
    assert any("dodo" in result["text"] for result in search(client, "dodo"))
    assert client.delete(f"/api/v1/files/{uploaded['file']['id']}").status_code == 204
    assert not any("dodo" in result["text"] for result in search(client, "dodo"))
    problem(client.get(f"/api/v1/files/{uploaded['file']['id']}"), 404, "file_not_found")


def test_a_filter_keeps_to_files_with_that_metadata(stack: Stack, client: httpx.Client) -> None:
    for team in ("red", "blue"):
        uploaded = stack.upload(
            client, f"{team}.txt", f"Storks of team {team}.".encode(), metadata=json.dumps({"team": team})
        )
        stack.wait(client, uploaded.json()["job"]["id"])
    found = search(client, "storks", filter={"team": "blue"})
    assert {result["metadata"]["team"] for result in found} == {"blue"}


def test_listings_page_through_everything_once(stack: Stack, client: httpx.Client) -> None:
    client.post("/api/v1/collections", json={"name": "pages"}).raise_for_status()
    names = {f"f{number}.txt" for number in range(7)}
    for name in names:
        stack.upload(client, name, name.encode(), "pages")
    seen: list[str] = []
    cursor = None
    while True:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/collections/pages/files", params=query).json()
        seen += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == sorted(names)
    problem(client.get("/api/v1/collections/pages/files?cursor=rubbish"), 422, "invalid_request")


def test_events_tell_of_a_job_to_its_end_and_resume(stack: Stack, client: httpx.Client) -> None:
    uploaded = stack.upload(client, "e.txt", b"Eagles soar on thermals. " * 50).json()
    url = f"/api/v1/jobs/{uploaded['job']['id']}/events"

    def read(headers: dict[str, str] | None = None) -> list[tuple[int, dict[str, Any]]]:
        found = []
        with client.stream("GET", url, headers=headers or {}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            event_id = 0
            for line in response.iter_lines():
                if line.startswith("id:"):
                    event_id = int(line[3:])
                elif line.startswith("data:"):
                    found.append((event_id, json.loads(line[5:])))
        return found

    events = read()
    assert events[-1][1]["state"] == "completed"
    last = max(number for number, _ in events)
    assert read({"Last-Event-ID": str(last - 1)})[-1][1]["state"] == "completed"


BAD = [
    ("empty.txt", b"", 422, "empty_file"),
    ("no-file", None, 422, "invalid_request"),
]


@pytest.mark.parametrize(("name", "content", "status", "code"), BAD)
def test_what_cannot_be_taken_is_refused_at_the_door(
    stack: Stack, client: httpx.Client, name: str, content: bytes | None, status: int, code: str
) -> None:
    url = "/api/v1/collections/docs/files"
    if content is None:
        problem(client.post(url, files={"other": ("a", b"x")}), status, code)
    else:
        problem(client.post(url, files={"file": (name, content)}), status, code)


UNREADABLE: list[tuple[str, Callable[[], bytes], str]] = [
    ("picture.pdf", lambda: b"\x89PNG\r\n\x1a\n" + bytes(200), "unsupported_media_type"),
    ("cut.pdf", lambda: PDF.read_bytes()[:3000], "corrupt_file"),
    ("locked.pdf", lambda: make_pdf(password="secret"), "encrypted_file"),
    ("scan.pdf", make_scan, "no_text_found"),
    ("blank.txt", lambda: b" \n\t\n ", "no_text_found"),
    ("bomb.docx", lambda: make_bomb(300 << 20), "archive_bomb"),
]


@pytest.mark.parametrize(("name", "make", "code"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_a_file_that_cannot_be_read_fails_with_its_code_and_the_worker_goes_on(
    stack: Stack, client: httpx.Client, name: str, make: Callable[[], bytes], code: str
) -> None:
    job = stack.wait(client, stack.upload(client, name, make()).json()["job"]["id"])
    assert (job["state"], job["error"]["code"], job["attempt"]) == ("failed", code, 1)
    assert job["error"]["stage"] == "extracting"
    assert job["error"]["hint"]
    good = stack.wait(
        client, stack.upload(client, "good.txt", f"Good after {name}.".encode()).json()["job"]["id"]
    )
    assert good["state"] == "completed"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("report.txt", PDF.read_bytes(), "application/pdf"),
        ("latin.csv", "name;city\nJosé;Málaga\nZoë;Köln\nRené;Orléans\n".encode("latin-1"), "text/csv"),
        ("broken.txt", b"Valid text, then \xff\xfe\xfa invalid bytes, then more text.", "text/plain"),
    ],
)
def test_the_content_decides_not_the_name(
    stack: Stack, client: httpx.Client, name: str, content: bytes, expected: str
) -> None:
    uploaded = stack.upload(client, name, content).json()
    assert stack.wait(client, uploaded["job"]["id"])["state"] == "completed"
    file = client.get(f"/api/v1/files/{uploaded['file']['id']}").json()
    assert file["media_type"] == expected
    if expected == "text/csv":
        text = client.get(f"/api/v1/files/{file['id']}/text").text
        assert "José" in text
        assert list(csv.reader(io.StringIO(text)))


def test_bytes_that_vanish_from_the_blob_store_are_a_clear_failure(
    stack: Stack, client: httpx.Client
) -> None:
    # Enough other work first, so that the file still waits when its bytes are taken away.
    for number in range(6):
        stack.upload(client, f"busy{number}.txt", f"{number} cranes fly south. ".encode() * 400)
    uploaded = stack.upload(client, "gone.txt", b"Soon without bytes.").json()
    sha256 = uploaded["file"]["sha256"]
    (stack.data_dir / "blobs" / sha256[:2] / sha256[2:]).unlink()
    job = stack.wait(client, uploaded["job"]["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "blob_missing")


def test_unknown_things_and_wrong_keys_have_their_codes(stack: Stack, client: httpx.Client) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    problem(stack.upload(client, "a.txt", b"x", "nowhere"), 404, "collection_not_found")
    problem(
        client.post("/api/v1/collections/nowhere/search", json={"query": "x"}), 404, "collection_not_found"
    )
    problem(client.get(f"/api/v1/files/{unknown}"), 404, "file_not_found")
    problem(client.get(f"/api/v1/jobs/{unknown}"), 404, "job_not_found")
    problem(client.post("/api/v1/collections", json={"name": "no spaces, please"}), 422, "invalid_request")
    problem(client.post("/api/v1/collections", json={"name": "docs"}), 422, "invalid_request")
    problem(client.put("/api/v1/settings/rag_chunk_size", json={"value": 1}), 422, "setting_invalid")
    for key in ("nonsense", "eq_wrong"):
        with stack.http(key=key) as stranger:
            problem(stranger.get("/api/v1/jobs"), 401, "unauthorized")


def test_a_key_does_what_its_scopes_allow_until_it_is_revoked(stack: Stack, client: httpx.Client) -> None:
    key = client.post("/api/v1/keys", json={"name": "reader", "scopes": ["read"]}).json()["key"]
    with stack.http(key=key) as reader:
        assert reader.get("/api/v1/collections").status_code == 200
        problem(reader.post("/api/v1/collections", json={"name": "mine"}), 403, "forbidden")
        problem(reader.get("/api/v1/settings"), 403, "forbidden")
        listed = client.get("/api/v1/keys")
        assert key not in listed.text
        assert client.delete(f"/api/v1/keys/{key[:8]}").status_code == 204
        refused = eventually(
            lambda: reader.get("/api/v1/collections"), lambda answer: answer.status_code != 200
        )
        problem(refused, 401, "unauthorized")


def test_an_idempotency_key_makes_one_job(stack: Stack, client: httpx.Client) -> None:
    url, headers = "/api/v1/collections/docs/files", {"Idempotency-Key": "k-1"}
    first = client.post(url, files={"file": ("i.txt", b"Ibis one")}, headers=headers).json()
    again = client.post(url, files={"file": ("i.txt", b"Ibis one")}, headers=headers).json()
    assert first["job"]["id"] == again["job"]["id"]
    problem(
        client.post(url, files={"file": ("i.txt", b"other")}, headers=headers), 409, "idempotency_conflict"
    )


def test_settings_change_the_next_job_and_keep_their_history(stack: Stack, client: httpx.Client) -> None:
    before = client.get("/api/v1/settings").json()["version"]
    assert (
        client.put("/api/v1/settings/rag_embedding_api_key", json={"value": "sk-hidden"}).json()["value"]
        == "***"
    )
    client.put("/api/v1/settings/rag_chunk_overlap", json={"value": 5}).raise_for_status()
    client.put("/api/v1/settings/rag_chunk_size", json={"value": 40}).raise_for_status()
    try:
        uploaded = stack.upload(client, "long.txt", b"Owls turn their heads far around. " * 60).json()
        job = stack.wait(client, uploaded["job"]["id"])
        assert job["config_version"] > before
        assert job["progress"]["total"] > 10
    finally:
        client.delete("/api/v1/settings/rag_chunk_size").raise_for_status()
        client.delete("/api/v1/settings/rag_chunk_overlap").raise_for_status()
    history = client.get("/api/v1/settings/history").text
    assert "rag_chunk_size" in history
    assert "sk-hidden" not in history
    assert "sk-hidden" not in stack.log.read_text()
    eventually(
        lambda: client.get("/api/v1/settings/status").json(),
        lambda status: status["applied"] == status["workers"] == 2,
    )


def test_health_metrics_and_openapi_need_no_key(stack: Stack) -> None:
    with httpx.Client(base_url=stack.url) as anybody:
        assert anybody.get("/healthz").json() == {"status": "ok"}
        ready = anybody.get("/readyz").json()
        assert ready["checks"] == {
            "database": "ok",
            "redis": "ok",
            "queue": "ok",
            "blobs": "ok",
            "workers": "2 alive",
        }
        metrics = anybody.get("/metrics").text
        paths = anybody.get("/openapi.json").json()["paths"]
    for name in ("emberq_jobs_total", "emberq_queue_depth", "emberq_workers", "emberq_config_version"):
        assert name in metrics
    assert 'emberq_workers{state="alive"} 2.0' in metrics
    for path in (
        "/api/v1/collections/{name}/files",
        "/api/v1/jobs/{job_id}/events",
        "/api/v1/settings/{key}",
    ):
        assert path in paths


def test_workers_and_stats_are_visible(stack: Stack, client: httpx.Client) -> None:
    answer = client.get("/api/v1/workers").json()
    assert len([worker for worker in answer["items"] if worker["alive"]]) == 2
    assert answer["hosts"][0]["workers"] == 2
    assert client.get("/api/v1/stats").json()["collections"] >= 1


def test_the_model_is_loaded_once_for_two_workers_and_the_api(stack: Stack, client: httpx.Client) -> None:
    search(client, "anything")
    loads = [record for record in stack.events() if record["event"] == "resource_loaded"]
    assert [record["resource"] for record in loads].count("embedding_functions") == 1
    private = {pid: _rollup(pid, "Private") for pid in stack.family()}
    # The weights alone are 90 MB: whoever had loaded them for itself would hold more than that.
    assert max(private.values()) < 90 * 1024 * 1024, private


def _rollup(pid: int, prefix: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(prefix))


@pytest.mark.slow
def test_a_gigabyte_is_streamed_and_a_file_over_the_limit_refused(stack: Stack, client: httpx.Client) -> None:
    def megabytes(number: int) -> Any:
        block = os.urandom(1024 * 1024)
        for _ in range(number):
            yield block

    boundary = "b0undary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'.encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}

    def body(number: int) -> Any:
        yield head
        yield from megabytes(number)
        yield f"\r\n--{boundary}--\r\n".encode()

    url = "/api/v1/collections/docs/files"
    problem(client.post(url, content=body(300), headers=headers), 413, "file_too_large")
    client.put("/api/v1/settings/max_file_size", json={"value": 2 << 30}).raise_for_status()
    try:
        answer = client.post(url, content=body(1024), headers=headers)
        assert answer.status_code == 202, answer.text
        assert answer.json()["file"]["size"] == 1 << 30
        assert max(_rollup(pid, "Private") for pid in stack.family()) < 300 * 1024 * 1024
        assert stack.wait(client, answer.json()["job"]["id"])["error"]["code"] == "unsupported_media_type"
    finally:
        client.delete("/api/v1/settings/max_file_size")
        client.delete(f"/api/v1/files/{answer.json()['file']['id']}")
    assert list((stack.data_dir / "blobs" / "drafts").iterdir()) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/docs"),
        ("GET", "/api/v1/jobs"),
        ("GET", "/nothing"),
        ("BREW", "/"),
        ("GET", "/%zz"),
        ("GET", "/"),
    ],
)
def test_browsers_are_told_to_guess_nothing_and_to_run_nothing(stack: Stack, method: str, path: str) -> None:
    with stack.http(key="wrong") as client:
        headers = client.request(method, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'; ")


def test_a_download_is_named_by_what_can_be_seen(stack: Stack) -> None:
    with stack.http() as client:
        files = {"file": ("a\u202efdp.exe", b"The pump has a valve.", "text/plain")}
        uploaded = (
            client.post("/api/v1/collections/docs/files", files=files).raise_for_status().json()["file"]
        )
        assert client.get(f"/api/v1/files/{uploaded['id']}").json()["name"] == "a\u202efdp.exe"
        content = client.get(f"/api/v1/files/{uploaded['id']}/content")
    assert content.headers["content-disposition"] == "attachment; filename*=utf-8''a%5Cu202efdp.exe"
