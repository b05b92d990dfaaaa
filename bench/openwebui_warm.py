"""Open WebUI's own pipeline in warm workers, compared with the same calls in one warm process.

Run by hand: `EMBERQ_OPENWEBUI_PYTHON=.venv-openwebui/bin/python python bench/openwebui_warm.py [--quick]`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from machine import describe_machine
from procfs import Memory, children_of, descendants_of, memory_of
from redis import Redis
from rq.job import Job
from rq.queue import Queue
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parents[1]))

from emberq.embedded import Engines
from emberq.openwebui.enqueue import enqueue_file
from tests.harness.openwebui import EmbeddingServer, Peer, find_python, run_workers, worker_environment

#: Chunks of each file; one request of the embedding server each, as in a stock set-up.
PARAGRAPHS = 20
#: Seconds without work before each file.
PAUSE_SECONDS = 1.0
#: Goals: the ratio of a job's time to the bare call's, and MB per slot on top of one import.
GOAL_RATIO, GOAL_MB = 1.1, 40.0


@dataclass(slots=True)
class Scene:
    """Engines, a peer and an embedding server."""

    python: str
    environment: dict[str, str]
    peer: Peer
    redis: Redis
    redis_url: str
    folder: Path
    user: str

    def upload(self) -> str:
        body = "\n\n".join(f"Paragraph {n} of {uuid.uuid4()}. " + "word " * 180 for n in range(PARAGRAPHS))
        return str(self.peer.upload(self.user, "report.txt", body))

    @contextlib.contextmanager
    def workers(self, slots: int) -> Iterator[tuple[Queue, int, Path]]:
        name = f"files-{uuid.uuid4().hex[:6]}"
        log = self.folder / f"{name}.log"
        with run_workers(
            self.python, self.environment, redis_url=self.redis_url, queue=name, slots=slots, log=log
        ) as process:
            yield Queue(name, connection=self.redis), process.pid, log


def run(queue: Queue, file_id: str) -> float:
    """Process a file and return the seconds of its job, without its wait in the queue."""
    return finish(enqueue_file(queue, file_id))


def finish(job: Job) -> float:
    while not (job.is_finished or job.is_failed):
        time.sleep(0.005)
    assert job.is_finished, job.latest_result().exc_string
    return float(job.return_value()["seconds"])


def measure_time(scene: Scene, rounds: int, horses: int) -> list[tuple[str, str]]:
    """Measure both in turns, so that other load on the machine affects both.

    Each job and each bare call comes after a pause: after a pause both take a tenth longer, and a horse's
    first job always comes after one.
    """

    def upload_and_rest() -> str:
        file_id = scene.upload()
        time.sleep(PAUSE_SECONDS)
        return file_id

    firsts, jobs, bare = [], [], []
    scene.peer.bare(scene.upload())
    for _ in range(horses):
        with scene.workers(1) as (queue, _, _):
            firsts.append(run(queue, upload_and_rest()))
            for _ in range(rounds):
                bare.append(scene.peer.bare(upload_and_rest()))
                jobs.append(run(queue, upload_and_rest()))
    middle, first = statistics.median(bare), statistics.median(firsts)
    return [
        ("bare call, median", f"{middle * 1000:.0f} ms"),
        ("warm job, median", f"{statistics.median(jobs) * 1000:.0f} ms"),
        ("warm job / bare call", f"{statistics.median(jobs) / middle:.2f} (goal {GOAL_RATIO})"),
        (f"first job of a horse, median of {horses}", f"{first * 1000:.0f} ms"),
        ("first job / bare call", f"{first / middle:.2f} (goal {GOAL_RATIO})"),
    ]


def _horses(log: Path) -> set[int]:
    lines = [line for line in log.read_text().splitlines() if "openwebui_file_started" in line]
    return {int(json.loads(line)["horse_pid"]) for line in lines}


def measure_memory(scene: Scene, jobs_per_slot: int, slots: int = 4) -> list[tuple[str, str]]:
    """Compare all processes of a host with one process that has imported Open WebUI and processed a file."""
    scene.peer.bare(scene.upload())
    alone = memory_of(scene.peer.pid())
    with scene.workers(slots) as (queue, pid, log):
        for job in [enqueue_file(queue, scene.upload()) for _ in range(jobs_per_slot * slots)]:
            finish(job)
        everything = sum((memory_of(one) for one in [pid, *descendants_of(pid)]), start=Memory())
        horses = [memory_of(one) for one in _horses(log) if one in descendants_of(pid)]
        children = children_of(pid)
    goal = alone.private + slots * GOAL_MB
    return [
        ("one process with Open WebUI imported (USS)", f"{alone.private:.0f} MB"),
        (
            f"host with {slots} slots, all {len(children)} children and theirs (PSS)",
            f"{everything.proportional:.0f} MB",
        ),
        ("goal: one import + 4 x 40 MB", f"{goal:.0f} MB"),
        ("a horse (USS), median", f"{statistics.median(one.private for one in horses):.1f} MB"),
    ]


def measure_growth(scene: Scene, jobs: int) -> list[tuple[str, str]]:
    """Measure a horse's memory over many jobs."""
    with scene.workers(1) as (queue, _, log):
        sizes = []
        for number in range(jobs):
            run(queue, scene.upload())
            if number + 1 in (jobs // 10, jobs // 2, jobs):
                (horse,) = _horses(log)
                sizes.append((number + 1, memory_of(horse).private))
        seen = len(_horses(log))
    return [(f"horse (USS) after {number} jobs", f"{size:.1f} MB") for number, size in sizes] + [
        ("horses used", str(seen))
    ]


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    python = find_python()
    if python is None:
        sys.exit("Set EMBERQ_OPENWEBUI_PYTHON to the Python of an environment with Open WebUI.")
    embeddings = EmbeddingServer()
    with (
        tempfile.TemporaryDirectory(prefix="emberq-openwebui-") as name,
        Engines(Path(name) / "engines", database_url=None, redis_url=None) as engines,
    ):
        folder = Path(name)
        admin = create_engine(engines.database_url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.execute(text("CREATE DATABASE webui"))
        admin.dispose()
        url = engines.database_url.replace("/emberq?", "/webui?").replace("postgresql+psycopg", "postgresql")
        environment = worker_environment(
            folder, database_url=url, vectors_url=url, embedding_url=embeddings.url
        )
        peer = Peer(python, environment)
        peer.seed()
        with Redis.from_url(engines.redis_admin_url) as redis:
            yield Scene(python, environment, peer, redis, engines.redis_admin_url, folder, peer.user())
        peer.close()
    embeddings.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="fewer rounds")
    options.add_argument("--only", choices=("time", "memory", "growth"))
    asked = options.parse_args()
    for name, value in describe_machine().items():
        print(f"{name}: {value}")
    with scene() as stage:
        parts = {
            "time": lambda: measure_time(stage, rounds=4, horses=2 if asked.quick else 5),
            "memory": lambda: measure_memory(stage, 5 if asked.quick else 25),
            "growth": lambda: measure_growth(stage, 50 if asked.quick else 500),
        }
        for name, measure in parts.items():
            if asked.only in (None, name):
                print(f"\n## {name}")
                for what, value in measure():
                    print(f"| {what} | {value} |")


if __name__ == "__main__":
    main()
