"""The whole document service for a while: its API, its workers, and documents to ingest."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from stage import Stage, StageError

__all__ = ["EMBERQ", "ingest", "read_until", "service"]

#: The command line of the environment that runs this.
EMBERQ = str(Path(sys.executable).with_name("emberq"))
#: Seconds all documents may take.
_INGEST_SECONDS = 1800.0
#: Sentences of a document; about 2,000 characters, a few chunks.
_SENTENCES = 30


@contextlib.contextmanager
def service(stage: Stage, slots: int) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run the API and, beside it, the workers; gives the workers' supervisor and a client of the API."""
    # PostgreSQL runs under an account of its own where we are root, and must get there.
    stage.directory.chmod(0o755)
    environment = {"EMBERQ_DATA_DIR": str(stage.path("data")), "EMBERQ_LOG_LEVEL": "warning"}
    stage.tell(f"{slots} slots: starting")
    with stage.running(
        [EMBERQ, "serve", "--port", "0"], environment=environment, stdout=subprocess.PIPE
    ) as api:
        url = read_until(api, r"http://[\d.:]+")
        key = first_key(stage)
        headers = {"Authorization": f"Bearer {key}"}
        command = [EMBERQ, "worker", "--workers", str(slots)]
        with (
            stage.running(command, environment=environment, stdout=subprocess.PIPE) as supervisor,
            httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=60) as client,
        ):
            read_until(supervisor, "ready")
            yield supervisor, client


def first_key(stage: Stage) -> str:
    """Return the API key that the first start wrote."""
    return (stage.path("data") / "first-api-key").read_text().strip()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what a process prints until the pattern occurs, and return what matched.

    Raises:
        StageError: If it never does.
    """
    for line in process.stdout or ():
        if found := re.search(pattern, line):
            return found[0]
    raise StageError(f"The process ended without printing {pattern}.")


def ingest(
    stage: Stage, process: subprocess.Popen[str], client: httpx.Client, documents: int, slots: int
) -> None:
    """Upload documents and wait until all are processed.

    Raises:
        StageError: If one is not.
    """
    client.post("/collections", json={"name": "bench"}).raise_for_status()
    waiting = []
    for number in range(documents):
        stage.tell(f"{slots} slots: {number} of {documents} documents sent")
        text = " ".join(
            f"Sentence {index} of document {number} tells what worker {index * number} did."
            for index in range(_SENTENCES)
        )
        files = {"file": (f"{number}.txt", text.encode())}
        answer = client.post("/collections/bench/files", files=files)
        while answer.status_code in {429, 503}:
            time.sleep(float(answer.headers.get("Retry-After", 1)))
            answer = client.post("/collections/bench/files", files=files)
        answer.raise_for_status()
        waiting.append(answer.json()["job"]["id"])
    deadline = time.monotonic() + _INGEST_SECONDS
    while waiting:
        stage.tell(f"{slots} slots: {len(waiting)} of {documents} documents to do")
        state = client.get(f"/jobs/{waiting[-1]}").json()["state"]
        if state == "completed":
            waiting.pop()
        elif state in {"failed", "cancelled"} or time.monotonic() > deadline or process.poll() is not None:
            raise StageError(f"A document is {state}.")
        else:
            time.sleep(0.2)
