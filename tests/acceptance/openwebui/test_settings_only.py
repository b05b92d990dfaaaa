"""A stock Open WebUI in front of emberq, by settings alone: many users, many files, and kills."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest

from emberq.testing.ports import free_port
from tests.acceptance.openwebui.mixed_files import MixedFile, mixed_files
from tests.acceptance.openwebui.server import PASSWORD, Server, database
from tests.harness.eventually import eventually, scaled
from tests.harness.paths import EMBERQ, ROOT
from tests.harness.processes import run_program
from tests.harness.stack import Stack

SLIM = Path(
    os.environ.get("EMBERQ_OPENWEBUI_SLIM_PYTHON") or ROOT / ".venv-openwebui-slim" / "bin" / "python"
)
USERS = 20
#: Of the knowledge file; each paragraph has a heading and becomes one.
CHUNKS = 60
FILES = int(os.environ.get("EMBERQ_TEST_UPLOADS", "200"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not SLIM.exists(), reason="Open WebUI, slim, is not installed: make test-openwebui"),
]


@pytest.fixture(scope="module")
def emberq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A port that it has again when it is started again.
    with Stack(tmp_path_factory.mktemp("emberq") / "data", workers=2, port=free_port()).start() as stack:
        yield stack


@pytest.fixture(scope="module")
def webui_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("database")
    directory.chmod(0o755)
    with database(directory / "data") as url:
        yield url


@pytest.fixture(scope="module")
def server(emberq: Stack, webui_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Open WebUI, slim, with the settings that `emberq openwebui settings` prints."""
    made = Server(tmp_path_factory.mktemp("openwebui") / "data", emberq.url, python=SLIM)
    printed = emberq.cli("openwebui", "settings", "--key", emberq.key, "--json").stdout
    made.environment |= json.loads(printed)
    made.environment |= {
        "USE_SLIM_DOCKER": "true",
        "VECTOR_DB": "pgvector",
        "PGVECTOR_DB_URL": webui_database,
    }
    made.environment["DATABASE_URL"] = webui_database
    made.start()
    yield made
    made.stop()


class Person(NamedTuple):
    """A user of Open WebUI with a new connection for every request, as browsers have."""

    url: str
    token: str

    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, timeout=scaled(300), headers=headers)

    def post(self, path: str, **options: Any) -> Any:
        with self.client() as client:
            answer = client.post(path, **options)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def upload(self, file: MixedFile) -> str:
        return str(self.post("/api/v1/files/", files={"file": (file.name, file.content)})["id"])

    def record(self, file_id: str) -> dict[str, Any]:
        with self.client() as client:
            data: dict[str, Any] = client.get(f"/api/v1/files/{file_id}").raise_for_status().json()["data"]
        return data


@pytest.fixture(scope="module")
def admin(server: Server) -> Person:
    return Person(server.url, server.token())


@pytest.fixture(scope="module")
def users(admin: Person) -> list[Person]:
    """Twenty users."""
    bodies = [
        {"name": f"User {one}", "email": f"u{one}@example.org", "password": PASSWORD, "role": "user"}
        for one in range(USERS)
    ]
    return [Person(admin.url, admin.post("/api/v1/auths/add", json=body)["token"]) for body in bodies]


def wait_for_ends(uploads: dict[str, tuple[Person, MixedFile]]) -> dict[str, dict[str, Any]]:
    """Return the record of each file once all have ended."""
    ended: dict[str, dict[str, Any]] = {}

    def left() -> list[str]:
        for file_id, (person, _) in uploads.items():
            if file_id not in ended:
                data = person.record(file_id)
                if data.get("status") in {"completed", "failed"}:
                    ended[file_id] = data
        return [file_id for file_id in uploads if file_id not in ended]

    eventually(left, lambda ids: not ids, seconds=scaled(1200), longest_pause=0.5)
    return ended


def victims(stack: Stack) -> dict[str, Callable[[], list[psutil.Process]]]:
    """Return functions that find the processes to kill, by name, in the order of the kills."""

    def family(is_meant: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
        found = []
        for one in psutil.Process(stack.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                if is_meant(one):
                    found.append(one)
        return found

    def titled(beginning: str) -> list[psutil.Process]:
        return family(lambda one: " ".join(one.cmdline()).startswith(beginning))

    def engine(name: str) -> list[psutil.Process]:
        return family(lambda one: Path(one.exe()).name.startswith(name))[:1]

    return {
        "horse": lambda: titled("emberq: horse")[-1:],
        "workers": lambda: [*titled("emberq: worker"), *titled("emberq: horse")],
        "API": lambda: titled("emberq: api"),
        "valkey": lambda: engine("valkey"),
        "preloader": lambda: titled("emberq: preloader"),
        "postgres": lambda: engine("postgres"),
    }


def test_what_twenty_people_upload_at_once_ends_well_or_with_a_sentence(users: list[Person]) -> None:
    uploads = upload_all(users)
    ended = wait_for_ends(uploads)
    check(uploads, ended)


def upload_all(users: list[Person]) -> dict[str, tuple[Person, MixedFile]]:
    def one(number: int, file: MixedFile) -> tuple[str, tuple[Person, MixedFile]]:
        person = users[number % USERS]
        return person.upload(file), (person, file)

    with concurrent.futures.ThreadPoolExecutor(USERS) as pool:
        return dict(pool.map(one, range(FILES), mixed_files(FILES)))


def check(uploads: dict[str, tuple[Person, MixedFile]], ended: dict[str, dict[str, Any]]) -> None:
    """Readable files are processed, and each unreadable one has an error that names the file."""
    for file_id, (_, file) in uploads.items():
        data = ended[file_id]
        if file.is_readable:
            assert data["status"] == "completed", (file.name, data)
            assert data["content"].strip(), file.name
        else:
            assert data["status"] == "failed", (file.name, data)
            assert file.name in data["error"]
            assert data["error"].rstrip().endswith("."), data["error"]
            assert "Traceback" not in data["error"]


def test_each_text_of_a_knowledge_file_is_embedded_once(admin: Person, emberq: Stack) -> None:
    file = MixedFile("once.md", words("once", CHUNKS).encode(), is_readable=True)
    before = embedded_texts(emberq)
    file_id = admin.upload(file)
    wait_for_ends({file_id: (admin, file)})
    made = embedded_texts(emberq)["miss"] - before["miss"]
    knowledge_id = admin.post("/api/v1/knowledge/create", json={"name": "Once", "description": "-"})["id"]
    first = embedded_texts(emberq)
    admin.post(f"/api/v1/knowledge/{knowledge_id}/file/add", json={"file_id": file_id})
    second = embedded_texts(emberq)
    again = second["hit"] - first["hit"]
    assert made >= CHUNKS
    assert again >= CHUNKS, "Open WebUI asks for all of them once more"
    assert second["miss"] == first["miss"], "and none of them is embedded again"


def words(topic: str, paragraphs: int) -> str:
    return "\n\n".join(f"# {topic} {number}\n\n" + f"Paragraph {number} of {topic} says a thing. " * 12
                       for number in range(paragraphs))  # fmt: skip


def test_a_question_waits_for_no_file_that_is_being_read(admin: Person, emberq: Stack) -> None:
    asked = MixedFile("asked.md", words("asked", 5).encode(), is_readable=True)
    asked_id = admin.upload(asked)
    wait_for_ends({asked_id: (admin, asked)})
    files = [MixedFile(f"slow{n}.md", words(f"slow{n}", 5).encode(), is_readable=True) for n in range(12)]
    emberq.cli("jobs", "pause", "queue")
    try:
        uploads = {admin.upload(file): (admin, file) for file in files}
        with emberq.http() as client:
            eventually(
                lambda: client.get("/api/v1/jobs", params={"reason": "paused"}).json()["items"],
                lambda jobs: len(jobs) >= len(files),
            )
        # With the threads that Open WebUI has by default, the files held all of them: it took 15 s.
        body = {"collection_name": f"file-{asked_id}", "query": "What does it say?", "k": 3, "hybrid": False}
        taken = []
        for _ in range(20):
            began_at = time.perf_counter()
            found = admin.post("/api/v1/retrieval/query/doc", json=body)
            taken.append(time.perf_counter() - began_at)
            assert found["documents"][0]
        sys.stdout.write(
            f"questions meanwhile: median {sorted(taken)[10]:.3f} s, slowest {max(taken):.3f} s\n"
        )
        assert {admin.record(file_id).get("status") for file_id in uploads} <= {"pending", "processing"}
    finally:
        emberq.cli("jobs", "resume", "queue")
    check(uploads, wait_for_ends(uploads))


def embedded_texts(emberq: Stack) -> Counter[str]:
    """Return the number of texts looked up in the embedding cache, by hit and miss."""
    with emberq.http() as client:
        lines = client.get("/metrics").raise_for_status().text.splitlines()
    found = [re.match(r'emberq_embedding_cache_total\{result="(\w+)"\} (\S+)', line) for line in lines]
    return Counter({match[1]: int(float(match[2])) for match in found if match})


def test_killing_any_part_of_emberq_meanwhile_changes_nothing(
    users: list[Person], server: Server, emberq: Stack
) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(upload_all, users)
        for name, find in victims(emberq).items():
            # The files go on for a while between two kills.
            time.sleep(1.5)
            for process in eventually(find):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            sys.stdout.write(f"killed: {name}\n")
        # All of its processes, as when a container is killed and restarted.
        time.sleep(1.5)
        emberq.kill()
        emberq.start()
        sys.stdout.write("killed: everything\n")
        uploads = uploading.result(timeout=scaled(1200))
    wait_for_ends(uploads)
    for _ in range(5):
        # What the death of the API cut off was told to Open WebUI as a failure.
        rescued = run_watch(server, emberq)
        ended = wait_for_ends(uploads)
        if not rescued:
            break
        # A file is taken for stuck when it has not changed for a second.
        time.sleep(1.5)
    check(uploads, ended)


def run_watch(server: Server, emberq: Stack) -> list[Any]:
    done = run_program(
        *(EMBERQ, "openwebui", "watch", "--once", "--json", "--stuck-after", "1"),
        environment=server.cli_environment(emberq.data_dir / "watch"),
    )
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    return list(answer if isinstance(answer, list) else answer["files"])
