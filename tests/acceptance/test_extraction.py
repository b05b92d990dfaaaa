"""Files that are only read: `PUT /process` and its kin, held open until a durable job is over."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import text

from emberq.store.admin.api_keys import create_key
from emberq.store.database import Database
from emberq.store.files.extractions import EXTRACTION_COLLECTION
from tests.acceptance.test_http import UNREADABLE
from tests.harness.eventually import LIMIT_SECONDS, eventually
from tests.harness.paths import CORPUS
from tests.harness.stack import Stack

FILE_ID = "0b8c2f6e-1111-4222-8333-123456789abc"
PDF = CORPUS / "rag-evaluation-ndcg-recall.pdf"


def process(client: httpx.Client, name: str, content: bytes, **headers: str) -> httpx.Response:
    """Send a file as Open WebUI does."""
    named = {"X-Filename": quote(f"{FILE_ID}_{name}"), "Content-Type": "application/octet-stream"}
    return client.put("/process", content=content, headers=named | headers)


def jobs(client: httpx.Client, name: str) -> list[dict[str, Any]]:
    """Return the extractions of a name; tests of other files upload to the same installation."""
    items = client.get("/api/v1/jobs", params={"limit": 500}).json()["items"]
    return [job for job in items if (job["file_name"], job["collection"]) == (name, EXTRACTION_COLLECTION)]


@contextmanager
def paused(client: httpx.Client) -> Iterator[None]:
    """Hold back all jobs of the tenant, so that requests for them have to wait."""
    client.post("/api/v1/pauses", json={"scope": "tenant"}).raise_for_status()
    try:
        yield
    finally:
        client.delete("/api/v1/pauses", params={"scope": "tenant"}).raise_for_status()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as made:
        yield made


@pytest.fixture
def database(stack: Stack) -> Iterator[Database]:
    with stack.database() as made:
        yield made


def key_of_another_tenant(database: Database) -> str:
    with database.system_transaction() as connection:
        return create_key(connection, name="other", tenant="other", scopes=["write", "read"])


@pytest.mark.parametrize("path", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_every_format_is_answered_page_by_page(client: httpx.Client, path: Path) -> None:
    answer = process(client, path.name, path.read_bytes())
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    pages = answer.json()
    numbers = []
    for page in pages:
        assert set(page) == {"page_content", "metadata"}
        assert page["page_content"].strip()
        assert set(page["metadata"]) <= {"media_type", "heading", "page", "total_pages"}
        numbers.append(page["metadata"].get("page"))
    if path.suffix in {".pdf", ".pptx", ".xlsx", ".epub", ".eml"}:
        assert numbers == sorted(set(numbers))
        assert 0 <= numbers[0] <= numbers[-1] < pages[0]["metadata"]["total_pages"]
    else:
        assert set(numbers) == {None}
    if path.suffix not in {".csv", ".json", ".jsonl", ".txt"}:
        assert any(line.startswith("#") for page in pages for line in page["page_content"].split("\n"))


def test_an_extraction_is_a_job_without_chunks_that_no_collection_shows(client: httpx.Client) -> None:
    before = client.get("/api/v1/stats").json()
    assert process(client, "heron.txt", b"A heron waits.").status_code == 200
    (job,) = jobs(client, "heron.txt")
    assert (job["state"], job["attempt"]) == ("completed", 1)
    assert set(job["timings"]) == {"extracting", "storing"}
    after = client.get("/api/v1/stats").json()
    for count in ("collections", "files", "chunks"):
        assert before[count] == after[count]
    name = job["collection"]
    assert name not in client.get("/api/v1/collections").text
    assert client.get(f"/api/v1/collections/{name}").status_code == 404
    assert client.delete(f"/api/v1/collections/{name}").status_code == 404
    assert client.post(f"/api/v1/collections/{name}/search", json={"query": "x"}).status_code == 404
    assert client.post("/api/v1/collections", json={"name": name}).status_code == 422


def test_requests_for_the_same_bytes_join_one_job_and_later_ones_get_what_it_read(
    stack: Stack, client: httpx.Client, database: Database, pool: ThreadPoolExecutor
) -> None:
    content = PDF.read_bytes() + b"\n% joined"
    other = key_of_another_tenant(database)
    with paused(client):
        held = [pool.submit(process, client, f"copy{n % 3}.pdf", content) for n in range(24)]
        eventually(lambda: jobs(client, "copy0.pdf") + jobs(client, "copy1.pdf") + jobs(client, "copy2.pdf"))
        # A file that came later is read meanwhile, for somebody whose jobs are not paused.
        with stack.http(key=other) as neighbour:
            assert process(neighbour, "neighbour.txt", b"Not paused.").status_code == 200
        assert not any(one.done() for one in held)
    answers = [one.result() for one in held]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert process(client, "later.pdf", content).content == answers[0].content
    made = [job for name in ("copy0", "copy1", "copy2", "later") for job in jobs(client, f"{name}.pdf")]
    assert [job["attempt"] for job in made] == [1]


def test_the_ending_of_a_name_counts_where_it_decides_how_a_text_is_read(client: httpx.Client) -> None:
    content = b"one line\nanother, with a comma\nthird, and last\n"
    kinds = [
        process(client, name, content).json()[0]["metadata"]["media_type"]
        for name in ("ending.md", "ending.txt", "other-ending.md")
    ]
    assert kinds == ["text/markdown", "text/plain", "text/markdown"]
    assert (
        len(jobs(client, "ending.md")),
        len(jobs(client, "ending.txt")),
        len(jobs(client, "other-ending.md")),
    ) == (1, 1, 0)


@pytest.mark.parametrize(("name", "make", "code"), UNREADABLE, ids=[row[0] for row in UNREADABLE])
def test_a_file_that_cannot_be_read_is_answered_with_a_sentence(
    client: httpx.Client, name: str, make: Callable[[], bytes], code: str
) -> None:
    content = make()
    for tries in (1, 2):
        answer = process(client, f"my {name}", content)
        assert answer.status_code in (415, 422)
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text.startswith(f"my {name} ")
        assert "\n" not in answer.text
        assert len(answer.text) < 300
        # What failed is tried anew.
        made = jobs(client, f"my {name}")
        assert [job["error"]["code"] for job in made] == [code] * tries


def test_a_refused_upload_is_told_in_a_sentence(stack: Stack, client: httpx.Client) -> None:
    big = os.urandom(3_000_000)
    with stack.http(key="eq_wrong") as stranger:
        answer = process(stranger, "big.bin", big)
        assert answer.status_code == 401
        assert answer.text.startswith("big.bin was not read: the API key")
        assert answer.headers["www-authenticate"] == "Bearer"
    key = client.post("/api/v1/keys", json={"name": "reader", "scopes": ["read"]}).json()["key"]
    with stack.http(key=key) as reader:
        assert process(reader, "a.txt", b"x").status_code == 403
    client.put("/api/v1/settings/max_file_size", json={"value": 1_000_000}).raise_for_status()
    try:
        answer = process(client, "big.bin", big)
        assert answer.status_code == 413
        assert answer.text.startswith("big.bin was not read because it is larger than")
        answer = client.post("/v1/convert/file", files={"files": ("big.bin", big)})
        assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")
    finally:
        client.delete("/api/v1/settings/max_file_size").raise_for_status()
    empty = process(client, "none.txt", b"")
    assert (empty.status_code, empty.text.split(":")[0]) == (422, "none.txt is empty")


@pytest.mark.parametrize("path", ["/process", "/tika/text", "/v1/convert/file"])
def test_a_refused_client_that_listens_only_after_it_sent_everything_hears_why(
    stack: Stack, client: httpx.Client, path: str
) -> None:
    method = "POST" if path.startswith("/v1") else "PUT"

    def send(key: str) -> bytes:
        host, _, port = stack.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as connection:
            connection.sendall(
                f"{method} {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nContent-Length: 40000000\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n".encode()
            )
            for _ in range(40):
                connection.sendall(bytes(1_000_000))
                # As over a network: the refusal is sent while the client still sends.
                time.sleep(0.01)
            return connection.recv(65536).split(b"\r\n")[0]

    assert send("eq_wrong").startswith(b"HTTP/1.1 401 ")
    client.put("/api/v1/settings/max_file_size", json={"value": 1_000_000}).raise_for_status()
    try:
        assert send(stack.key).startswith(b"HTTP/1.1 413 ")
    finally:
        client.delete("/api/v1/settings/max_file_size").raise_for_status()


def test_more_than_may_wait_is_refused_and_the_rest_is_answered(
    client: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    client.put("/api/v1/settings/tenant_max_pending", json={"value": 2}).raise_for_status()
    try:
        with paused(client):
            held = [pool.submit(process, client, f"many{n}.txt", f"Text {n}.".encode()) for n in range(2)]
            eventually(lambda: jobs(client, "many0.txt") and jobs(client, "many1.txt"))
            refused = process(client, "many2.txt", b"Text 2.")
            assert refused.status_code == 429
            assert refused.text.startswith("many2.txt was not read because too many files are waiting")
            assert not any(one.done() for one in held)
    finally:
        client.delete("/api/v1/settings/tenant_max_pending").raise_for_status()
    assert [one.result().status_code for one in held] == [200, 200]


def test_sixty_requests_wait_while_others_are_answered_at_once(
    client: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    with paused(client):
        held = [pool.submit(process, client, f"wait{n}.txt", f"Wait {n}.".encode()) for n in range(60)]
        eventually(
            lambda: len(client.get("/api/v1/jobs?state=pending&limit=100").json()["items"]),
            lambda waiting: waiting == 60,
        )
        assert client.get("/readyz").status_code == 200
        assert not any(one.done() for one in held)
    assert [one.result().json()[0]["page_content"] for one in held] == [f"Wait {n}." for n in range(60)]


def test_a_client_that_leaves_does_not_cancel_the_job(stack: Stack, client: httpx.Client) -> None:
    host, _, port = stack.url.removeprefix("http://").partition(":")
    content = b"The stork flew away."
    with paused(client):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"PUT /process HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + stack.key.encode() + b"\r\n"
                b"X-Filename: stork.txt\r\nContent-Length: "
                + str(len(content)).encode()
                + b"\r\n\r\n"
                + content
            )
            (job,) = eventually(lambda: jobs(client, "stork.txt"))
        eventually(lambda: [one for one in stack.events() if one["event"] == "client_gone"])
    assert stack.wait(client, job["id"])["state"] == "completed"
    assert process(client, "stork.txt", content).json()[0]["page_content"] == content.decode()
    assert len(jobs(client, "stork.txt")) == 1


def test_a_job_that_is_cancelled_or_deleted_lets_its_request_go(
    client: httpx.Client, pool: ThreadPoolExecutor
) -> None:
    with paused(client):
        held = [pool.submit(process, client, f"gone{n}.txt", f"Gone {n}.".encode()) for n in range(2)]
        eventually(lambda: jobs(client, "gone0.txt") and jobs(client, "gone1.txt"))
        (first,), (second,) = (jobs(client, f"gone{n}.txt") for n in range(2))
        client.post(f"/api/v1/jobs/{first['id']}/cancel").raise_for_status()
        client.delete(f"/api/v1/files/{second['file_id']}").raise_for_status()
        for one in held:
            answer = one.result(timeout=LIMIT_SECONDS)
            assert answer.status_code == 409
            assert "its job was cancelled" in answer.text


def test_tenants_do_not_share_what_was_read(stack: Stack, client: httpx.Client, database: Database) -> None:
    content = b"The same bytes for two."
    first = process(client, "shared.txt", content)
    with stack.http(key=key_of_another_tenant(database)) as other:
        assert jobs(other, "shared.txt") == []
        assert process(other, "shared.txt", content).content == first.content
        (job,) = jobs(other, "shared.txt")
        assert other.get(f"/api/v1/files/{job['file_id']}").status_code == 200
        assert client.get(f"/api/v1/files/{job['file_id']}").status_code == 404
    assert len(jobs(client, "shared.txt")) == 1


def test_the_user_is_kept_with_the_file(client: httpx.Client) -> None:
    headers = {
        "X-OpenWebUI-User-Id": "u-1",
        "X-OpenWebUI-User-Name": quote("Jörg Ä", safe=" "),
        "X-OpenWebUI-User-Email": "j@example.org",
        "X-OpenWebUI-User-Role": "user",
        "X-OpenWebUI-User-Jwt": "not.looked.at",
    }
    assert process(client, "mine.txt", b"Mine.", **headers).status_code == 200
    (job,) = jobs(client, "mine.txt")
    assert client.get(f"/api/v1/files/{job['file_id']}").json()["metadata"] == {
        "openwebui_file_id": FILE_ID,
        "openwebui_user": {"id": "u-1", "name": "Jörg Ä", "email": "j@example.org", "role": "user"},
    }


def signed(secret: str, **claims: Any) -> str:
    def encode(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    told = {"sub": "u-2", "email": "a@b", "name": "A", "role": "admin", "iss": "open-webui"}
    whole = {**told, "exp": time.time() + 300, **claims}
    text = (
        f"{encode(json.dumps({'alg': 'HS256', 'typ': 'JWT'}).encode())}.{encode(json.dumps(whole).encode())}"
    )
    return f"{text}.{encode(hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest())}"


def test_a_signed_user_is_believed_and_a_forged_one_refused(own_stack: Callable[..., Stack]) -> None:
    stack = own_stack(environment={"EMBERQ_OPENWEBUI_JWT_SECRET": "between us"})
    with stack.http() as client:
        token = signed("between us")
        answer = process(
            client, "signed.txt", b"Signed.", **{"X-OpenWebUI-User-Jwt": token, "X-OpenWebUI-User-Id": "x"}
        )
        assert answer.status_code == 200
        (job,) = jobs(client, "signed.txt")
        kept = client.get(f"/api/v1/files/{job['file_id']}").json()["metadata"]["openwebui_user"]
        assert kept == {"id": "u-2", "name": "A", "email": "a@b", "role": "admin"}
        forged = process(client, "forged.txt", b"Forged.", **{"X-OpenWebUI-User-Jwt": signed("guessed")})
        assert forged.status_code == 401
        assert forged.text.startswith("forged.txt was not read: the user's token is not signed")
        assert jobs(client, "forged.txt") == []
        # Without a signature nobody is believed to be anybody.
        assert process(client, "plain.txt", b"Plain.", **{"X-OpenWebUI-User-Id": "x"}).status_code == 200
        (job,) = jobs(client, "plain.txt")
        assert "openwebui_user" not in client.get(f"/api/v1/files/{job['file_id']}").json()["metadata"]
    assert token not in stack.log.read_text()
    with stack.database() as made, made.system_transaction() as connection:
        rows = connection.execute(text("SELECT row_to_json(files)::text FROM files")).scalars()
        assert token not in "".join(rows)


def slow_text(paragraphs: int = 40_000) -> bytes:
    return "\n\n".join(f"Paragraph {n} of a long text." for n in range(paragraphs)).encode()


def test_a_horse_that_is_killed_costs_the_request_some_time(
    own_stack: Callable[..., Stack], pool: ThreadPoolExecutor
) -> None:
    stack = own_stack(workers=1)
    with stack.http() as client:
        with stack.nothing_stored():
            held = pool.submit(process, client, "long.md", slow_text())
            started = stack.wait_for_event(event="job_started", attempt=1)
            os.kill(started["horse_pid"], signal.SIGKILL)
        answer = held.result(timeout=LIMIT_SECONDS)
        assert answer.status_code == 200
        assert answer.json()[0]["page_content"].endswith("Paragraph 39999 of a long text.")
        (job,) = jobs(client, "long.md")
        assert (job["state"], job["attempt"]) == ("completed", 2)


def test_engines_that_restart_are_waited_for(
    own_stack: Callable[..., Stack], pool: ThreadPoolExecutor
) -> None:
    stack = own_stack(workers=1)
    with stack.http() as client:
        with paused(client):
            held = pool.submit(process, client, "early.txt", b"Sent before.")
            eventually(lambda: jobs(client, "early.txt"))
        for name in ("postgres", "valkey"):
            kill_engine(stack, name)
        late: Future[httpx.Response] = pool.submit(process, client, "late.txt", b"Sent meanwhile.")
        assert held.result(timeout=LIMIT_SECONDS).json()[0]["page_content"] == "Sent before."
        assert late.result(timeout=LIMIT_SECONDS).json()[0]["page_content"] == "Sent meanwhile."


def kill_engine(stack: Stack, name: str) -> None:
    """Kill the engine's main process, as the kernel would for want of memory."""
    found = []
    for pid in stack.family():
        with contextlib.suppress(OSError):  # it has just ended
            if name in Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0]:
                found.append(pid)
    os.kill(min(found), signal.SIGKILL)


def test_a_request_that_waits_is_answered_when_the_service_stops(
    own_stack: Callable[..., Stack], pool: ThreadPoolExecutor
) -> None:
    stack = own_stack(workers=1)
    with stack.http() as client:
        client.post("/api/v1/pauses", json={"scope": "tenant"}).raise_for_status()
        held = pool.submit(process, client, "held.txt", b"Held.")
        eventually(lambda: jobs(client, "held.txt"))
        stack.send(signal.SIGTERM)
        answer = held.result(timeout=LIMIT_SECONDS)
        assert answer.status_code == 503
        assert answer.text == (
            "held.txt has not been read yet because the document service is restarting:"
            " upload it again in a moment."
        )
        assert answer.headers["retry-after"]


def test_docling_answers_in_its_own_shape(client: httpx.Client) -> None:
    form = {"to_formats": ["md", "json", "text"], "md_page_break_placeholder": "\f", "image_export_mode": "x"}
    answer = client.post("/v1/convert/file", files={"files": (PDF.name, PDF.read_bytes())}, data=form)
    body = answer.json()
    assert (answer.status_code, body["status"], body["errors"]) == (200, "success", [])
    document = body["document"]
    assert document["filename"] == PDF.name
    pages = document["md_content"].split("\f")
    numbers = [item["prov"][0]["page_no"] for item in document["json_content"]["texts"]]
    assert numbers == [1, 2, 3, 4]
    assert [item["text"] for item in document["json_content"]["texts"]] == [page.strip() for page in pages]
    assert body["processing_time"] >= 0
    assert document["text_content"]
    assert document["html_content"] is None


def test_docling_tells_of_failures_in_the_answer(client: httpx.Client) -> None:
    answer = client.post("/v1/convert/file", files={"files": ("locked.pdf", UNREADABLE[2][1]())})
    body = answer.json()
    assert (answer.status_code, body["status"], body["document"]["md_content"]) == (200, "failure", None)
    (error,) = body["errors"]
    assert set(error) == {"component_type", "module_name", "error_message"}
    assert error["error_message"].startswith("locked.pdf is password-protected")
    some = client.post(
        "/v1/convert/file", files={"files": ("a.txt", b"A.")}, data={"to_formats": ["md", "html"]}
    )
    assert (some.json()["status"], some.json()["document"]["md_content"]) == ("partial_success", "A.")
    assert (
        client.post("/v1/convert/file", files={"file": ("a.txt", b"A.")}).json()["code"] == "invalid_request"
    )


def test_the_answer_is_bounded_whatever_formats_are_asked_for(client: httpx.Client) -> None:
    line = b"A line of words in a file of which all formats together are too much for one answer.\n"
    file = {"files": ("long.txt", line * (11_000_000 // len(line)))}
    answer = client.post("/v1/convert/file", files=file, data={"to_formats": ["md", "json", "text"]})
    body = answer.json()
    assert (answer.status_code, body["status"], body["document"]["md_content"]) == (200, "failure", None)
    assert "more than 40,000,000" in body["errors"][0]["error_message"]
    assert len(answer.content) < 10_000
    answer = client.post("/v1/convert/file", files=file)
    assert answer.json()["status"] == "success"
    longer = client.put("/tika", content=line * (41_000_000 // len(line)))
    assert (longer.status_code, len(longer.content) < 10_000) == (413, True)
    assert "too many for one answer" in longer.text


def test_keys_are_taken_as_other_programs_send_them(stack: Stack) -> None:
    basic = base64.b64encode(f"any:{stack.key}".encode()).decode()
    for headers in ({"X-Api-Key": stack.key}, {"Authorization": f"Basic {basic}"}):
        with httpx.Client(base_url=stack.url, headers=headers) as client:
            assert client.put("/tika/text", content=b"Key.").status_code == 200
            assert client.post("/v1/convert/file", files={"files": ("k.txt", b"Key.")}).status_code == 200
    for wrong in ("Basic ???", "Basic " + base64.b64encode(b"any:eq_no").decode(), "Bearer", ""):
        with httpx.Client(base_url=stack.url, headers={"Authorization": wrong}) as client:
            assert client.put("/tika/text", content=b"Key.").status_code == 401
            answer = client.post("/v1/convert/file", files={"files": ("k.txt", b"Key.")})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_tika_answers_in_its_own_shape(stack: Stack, client: httpx.Client) -> None:
    named = {"Content-Disposition": f'attachment; filename="{PDF.name}"'}
    body = client.put("/tika/text", content=PDF.read_bytes(), headers=named).json()
    assert body["Content-Type"] == "application/pdf"
    assert (body["resourceName"], body["xmpTPg:NPages"]) == (PDF.name, "4")
    content = body["X-TIKA:content"]
    assert client.put("/tika", content=PDF.read_bytes()).text == content
    assert client.put("/tika/json/md", content=PDF.read_bytes()).json()["tk:content"] == content
    (one,) = client.put("/rmeta/text", content=PDF.read_bytes()).json()
    assert one["X-TIKA:content"] == content
    refused = client.put("/tika/text", content=b"\x89PNG\r\n\x1a\n" + bytes(200))
    assert refused.status_code == 415
    assert refused.text.startswith("The file was not read: ")
    assert httpx.get(f"{stack.url}/tika").text.startswith("This is emberq")


def test_openapi_shows_the_paths_as_they_are_written(stack: Stack) -> None:
    paths = httpx.get(f"{stack.url}/openapi.json").json()["paths"]
    for path in ("/process", "/v1/convert/file", "/tika", "/tika/text", "/tika/json/md", "/rmeta/text"):
        assert path in paths
