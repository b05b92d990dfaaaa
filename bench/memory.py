"""What one more worker slot costs, with the real model and real documents."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from outcome import Figure, Outcome, slope
from procfs import Memory, children_of, descendants_of, memory_of
from stage import Stage, StageError

__all__ = ["NAME", "measure"]

NAME = "memory"
EMBERQ = str(Path(sys.executable).with_name("emberq"))
SLOTS = (1, 2, 4, 8)
QUICK_SLOTS = (1, 2, 4)
DOCUMENTS_PER_SLOT = 200
QUICK_DOCUMENTS_PER_SLOT = 25
#: MB one more slot may cost.
GOAL_MB = 25.0
#: Seconds all documents may take.
_INGEST_SECONDS = 1800.0
#: Sentences of a document; about 2,000 characters, a few chunks.
_SENTENCES = 30


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Memory of the processes of one host."""

    slots: int
    supervisor: Memory
    preloader: Memory
    workers: Memory
    horses: Memory


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Start workers with more and more slots, ingest documents, and add up what is private."""
    per_slot = QUICK_DOCUMENTS_PER_SLOT if quick else DOCUMENTS_PER_SLOT
    sizes = []
    for slots in QUICK_SLOTS if quick else SLOTS:
        with _service(stage, slots) as (process, client):
            _ingest(stage, process, client, per_slot * slots, slots)
            sizes.append(_sizes_of(process.pid, slots))
    slot = [size.workers + size.horses for size in sizes]
    everything = [(size.supervisor + size.preloader + size.workers + size.horses) for size in sizes]
    count = [size.slots for size in sizes]
    per_further = slope(count, [memory.private for memory in slot])
    return Outcome(
        name=NAME,
        title="Private memory per worker slot",
        how=(
            f"`emberq worker -n N` with the default model, after {per_slot} documents of 2,000 characters "
            "per slot; a slot is a worker process and its horse, with whatever the horse has started. USS "
            "is what only one process has. PSS counts a page that several have once in all, so the PSS of "
            "all processes is what the machine really spends. MB are 10⁶ bytes."
        ),
        columns=["slots", "workers USS", "horses USS", "slots USS", "supervisor", "preloader", "all PSS"],
        rows=[
            [
                str(size.slots),
                f"{size.workers.private:.1f}",
                f"{size.horses.private:.1f}",
                f"{memory.private:.1f}",
                f"{size.supervisor.private:.1f}",
                f"{size.preloader.private:.1f}",
                f"{total.proportional:.1f}",
            ]
            for size, memory, total in zip(sizes, slot, everything, strict=True)
        ],
        figures=[
            Figure("private MB per further slot", per_further, "MB", "≤", GOAL_MB),
            Figure("of these the worker", slope(count, [size.workers.private for size in sizes]), "MB"),
            Figure("and the horse", slope(count, [size.horses.private for size in sizes]), "MB"),
            Figure(
                "PSS of all processes per further slot",
                slope(count, [memory.proportional for memory in everything]),
                "MB",
                "≤",
                GOAL_MB,
            ),
        ],
        raw={
            "slots": count,
            "uss": [memory.private for memory in slot],
            "pss": [memory.proportional for memory in everything],
        },
    )


@contextlib.contextmanager
def _service(stage: Stage, slots: int) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """Run the API and, beside it, the workers; gives the workers' supervisor and a client of the API."""
    # PostgreSQL runs under an account of its own where we are root, and must get there.
    stage.directory.chmod(0o755)
    environment = {"EMBERQ_DATA_DIR": str(stage.path("data")), "EMBERQ_LOG_LEVEL": "warning"}
    stage.tell(f"{slots} slots: starting")
    with stage.running(
        [EMBERQ, "serve", "--port", "0"], environment=environment, stdout=subprocess.PIPE
    ) as api:
        url = _read_until(api, r"http://[\d.:]+")
        key = _read_until(api, r"eq_\S+")
        headers = {"Authorization": f"Bearer {key}"}
        command = [EMBERQ, "worker", "--workers", str(slots)]
        with (
            stage.running(command, environment=environment, stdout=subprocess.PIPE) as supervisor,
            httpx.Client(base_url=f"{url}/api/v1", headers=headers, timeout=60) as client,
        ):
            _read_until(supervisor, "ready")
            yield supervisor, client


def _read_until(process: subprocess.Popen[str], pattern: str) -> str:
    for line in process.stdout or ():
        if found := re.search(pattern, line):
            return found[0]
    raise StageError(f"The process ended without printing {pattern}.")


def _ingest(
    stage: Stage, process: subprocess.Popen[str], client: httpx.Client, documents: int, slots: int
) -> None:
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


def _sizes_of(supervisor: int, slots: int) -> _Sizes:
    """Tell the processes apart by their titles and parents.

    Raises:
        StageError: If there is not one worker and one horse per slot.
    """
    below = children_of(supervisor)
    preloaders = [pid for pid in below if "preloader" in _title(pid)]
    workers = [pid for pid in below if _title(pid).startswith("rq:worker:")]
    horses = [horse for pid in preloaders for horse in children_of(pid)]
    if (len(preloaders), len(workers), len(horses)) != (1, slots, slots):
        titles = {pid: _title(pid) for pid in [*below, *horses]}
        raise StageError(f"There is not one worker and one horse for each of {slots} slots: {titles}")
    return _Sizes(
        slots=slots,
        supervisor=memory_of(supervisor),
        preloader=memory_of(preloaders[0]),
        workers=_sum(workers),
        horses=_sum([member for horse in horses for member in (horse, *descendants_of(horse))]),
    )


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").strip()


def _sum(pids: list[int]) -> Memory:
    return sum((memory_of(pid) for pid in pids), Memory(0.0, 0.0))
