"""A stock Open WebUI in front of emberq, by settings alone: many people, many files, and kills."""

from __future__ import annotations

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from sqlalchemy.engine import make_url
from tests.acceptance.conftest import EMBERQ, Stack
from tests.acceptance.openwebui.mixed_files import MixedFile, mixed_files
from tests.acceptance.openwebui.server import PASSWORD, Server

from emberq.embedded.engines import Engines

ROOT = Path(__file__).parents[3]
SLIM = Path(
    os.environ.get("EMBERQ_OPENWEBUI_SLIM_PYTHON") or ROOT / ".venv-openwebui-slim" / "bin" / "python"
)
USERS = 20
FILES = int(os.environ.get("EMBERQ_TEST_UPLOADS", "200"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("openwebui-settings"),
    pytest.mark.skipif(not SLIM.exists(), reason="Open WebUI, slim, is not installed: make test-openwebui"),
]


@pytest.fixture(scope="module")
def emberq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("emberq") / "data", workers=2).start(seconds=120)
    yield stack
    stack.stop()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL with pgvector for Open WebUI's vectors; its own, as it is in anybody's installation."""
    directory = tmp_path_factory.mktemp("vectors")
    directory.chmod(0o755)
    with Engines(directory / "data", database_url=None, redis_url="redis://127.0.0.1:1") as engines:
        url = make_url(engines.database_url)
        host = str(url.query["host"])
        yield f"postgresql://{url.username}@/{url.database}?host={host}"


@pytest.fixture(scope="module")
def server(emberq: Stack, vectors: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Open WebUI, slim, with the settings that `emberq openwebui settings` prints."""
    made = Server(tmp_path_factory.mktemp("openwebui") / "data", emberq.url, python=SLIM)
    printed = emberq.cli("openwebui", "settings", "--key", emberq.key, "--json").stdout
    made.environment |= json.loads(printed)
    made.environment |= {"USE_SLIM_DOCKER": "true", "VECTOR_DB": "pgvector", "PGVECTOR_DB_URL": vectors}
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def users(server: Server) -> list[httpx.Client]:
    """A client for each of twenty people."""
    admin = signed_in(server, server.token())
    made = []
    for number in range(USERS):
        body = {
            "name": f"User {number}",
            "email": f"u{number}@example.org",
            "password": PASSWORD,
            "role": "user",
        }
        answer = admin.post("/api/v1/auths/add", json=body).raise_for_status().json()
        made.append(signed_in(server, answer["token"]))
    return made


def signed_in(server: Server, token: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=300, headers={"Authorization": f"Bearer {token}"})


def upload(client: httpx.Client, file: MixedFile) -> str:
    answer = client.post("/api/v1/files/", files={"file": (file.name, file.content)})
    return str(answer.raise_for_status().json()["id"])


def record(client: httpx.Client, file_id: str) -> dict[str, Any]:
    answer = client.get(f"/api/v1/files/{file_id}")
    data: dict[str, Any] = answer.raise_for_status().json()["data"]
    return data


def wait_for_ends(
    uploads: dict[str, tuple[httpx.Client, MixedFile]], *, seconds: float
) -> dict[str, dict[str, Any]]:
    """Return the record of each file once all are over."""
    deadline = time.monotonic() + seconds
    ended: dict[str, dict[str, Any]] = {}
    while len(ended) < len(uploads):
        assert time.monotonic() < deadline, f"{len(uploads) - len(ended)} files are not over"
        for file_id, (client, _) in uploads.items():
            if file_id not in ended:
                data = record(client, file_id)
                if data.get("status") in {"completed", "failed"}:
                    ended[file_id] = data
        time.sleep(0.3)
    return ended


def victims(stack: Stack) -> dict[str, Callable[[], list[psutil.Process]]]:
    """Return who can be killed, in the order in which it is done, each as it is found at that moment."""

    def titled(*beginnings: str) -> list[psutil.Process]:
        family = psutil.Process(stack.pid).children(recursive=True)
        return [one for one in family if " ".join(one.cmdline()).startswith(beginnings)]

    def api() -> list[psutil.Process]:
        return [one for one in titled("emberq: preloader") if one.net_connections("inet")]

    def engine(name: str) -> list[psutil.Process]:
        family = psutil.Process(stack.pid).children(recursive=True)
        return [one for one in family if Path(one.exe()).name.startswith(name)][:1]

    return {
        "horse": lambda: titled("rq:worker:")[-1:],
        "workers": lambda: titled("rq:worker:"),
        "API": api,
        "valkey": lambda: engine("valkey"),
        "preloader": lambda: [one for one in titled("emberq: preloader") if one.ppid() == stack.pid],
        "postgres": lambda: engine("postgres"),
    }


def test_what_twenty_people_upload_at_once_ends_well_or_with_a_sentence(users: list[httpx.Client]) -> None:
    uploads = upload_all(users)
    ended = wait_for_ends(uploads, seconds=600)
    check(uploads, ended)


def upload_all(users: list[httpx.Client]) -> dict[str, tuple[httpx.Client, MixedFile]]:
    def one(number: int, file: MixedFile) -> tuple[str, tuple[httpx.Client, MixedFile]]:
        client = users[number % USERS]
        return upload(client, file), (client, file)

    with concurrent.futures.ThreadPoolExecutor(USERS) as pool:
        return dict(pool.map(one, range(FILES), mixed_files(FILES)))


def check(uploads: dict[str, tuple[httpx.Client, MixedFile]], ended: dict[str, dict[str, Any]]) -> None:
    """What can be read is read, and what cannot is told in a sentence that names the file."""
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


def test_each_text_of_a_knowledge_file_is_embedded_once(server: Server, emberq: Stack) -> None:
    client, file = (
        signed_in(server, server.token()),
        MixedFile("once.md", words("once", 60).encode(), is_readable=True),
    )
    before = embedded_texts(emberq)
    file_id = upload(client, file)
    wait_for_ends({file_id: (client, file)}, seconds=120)
    first = embedded_texts(emberq)
    knowledge = client.post("/api/v1/knowledge/create", json={"name": "Once", "description": "-"})
    knowledge_id = knowledge.raise_for_status().json()["id"]
    client.post(f"/api/v1/knowledge/{knowledge_id}/file/add", json={"file_id": file_id}).raise_for_status()
    second = embedded_texts(emberq)
    made, again = first["miss"] - before["miss"], second["hit"] - first["hit"]
    assert made >= 3, "the file has several chunks"
    assert again == made, "Open WebUI asks for all of them once more"
    assert second["miss"] == first["miss"], "and none of them is embedded again"


def words(topic: str, paragraphs: int) -> str:
    return "\n\n".join(f"# {topic} {number}\n\n" + f"Paragraph {number} of {topic} says a thing. " * 12
                       for number in range(paragraphs))  # fmt: skip


def embedded_texts(emberq: Stack) -> Counter[str]:
    """Return how many texts were looked up so far, by whether their vector was known."""
    with emberq.http() as client:
        lines = client.get("/metrics").raise_for_status().text.splitlines()
    found = [re.match(r'emberq_embedding_cache_total\{result="(\w+)"\} (\S+)', line) for line in lines]
    return Counter({match[1]: int(float(match[2])) for match in found if match})


def test_killing_any_part_of_emberq_meanwhile_changes_nothing(
    users: list[httpx.Client], server: Server, emberq: Stack
) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(upload_all, users)
        for name, find in victims(emberq).items():
            time.sleep(1.5)
            while not (found := find()):
                time.sleep(0.1)
            for process in found:
                process.kill()
            sys.stdout.write(f"killed: {name}\n")
        uploads = uploading.result(timeout=300)
    wait_for_ends(uploads, seconds=600)
    for _ in range(5):
        # What the death of the API cut off was told to Open WebUI as a failure.
        rescued = run_watch(server, emberq)
        ended = wait_for_ends(uploads, seconds=300)
        if not rescued:
            break
        time.sleep(1.5)
    check(uploads, ended)


def run_watch(server: Server, emberq: Stack) -> list[Any]:
    done = subprocess.run(
        [EMBERQ, "openwebui", "watch", "--once", "--json", "--stuck-after", "1"],
        env=server.cli_environment(emberq.data_dir / "watch"),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stdout, done.stderr
    answer = json.loads(done.stdout)
    return list(answer if isinstance(answer, list) else answer["files"])
