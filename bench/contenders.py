"""The workers that are compared: how each is started, and how its queue is filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rq import Queue
from stage import HERE, Stage

__all__ = ["CONTENDERS", "Contender", "peer_python"]

#: Where `make bench` installs the peers.
PEERS_VENV = Path(os.environ.get("BENCH_VENV", HERE.parent / ".venv-bench"))


@dataclass(frozen=True, slots=True)
class Contender:
    """A worker with one slot.

    Attributes:
        name: As the table calls it.
        jobs: How many no-op jobs it gets: enough for some seconds.
        start: Runs it on a Redis URL.
        fill: Queues a mark, so many no-ops and another mark.
        loses_jobs: Whether a job is lost with its worker, because it is taken off the queue first.
    """

    name: str
    jobs: int
    start: Callable[[Stage, str], contextlib.AbstractContextManager[subprocess.Popen[str]]]
    fill: Callable[[Stage, int, Path, Path], None]
    loses_jobs: bool = False


def peer_python(program: str = "python") -> str:
    """Return the path of a program in the peers' environment."""
    return str(PEERS_VENV / "bin" / program)


def _rq(name: str, worker_class: str, jobs: int) -> Contender:
    return Contender(
        name=name,
        jobs=jobs,
        start=lambda stage, url: stage.rq_worker(worker_class, url=url),
        fill=_fill_rq,
    )


def _fill_rq(stage: Stage, count: int, first: Path, last: Path) -> None:
    stage.queue.enqueue("jobs.mark", str(first))
    for begin in range(0, count, 500):
        amount = min(500, count - begin)
        stage.queue.enqueue_many([Queue.prepare_data("jobs.noop") for _ in range(amount)])
    stage.queue.enqueue("jobs.mark", str(last))


def _peer(name: str, app: str, jobs: int, *command: str, loses_jobs: bool = False) -> Contender:
    def start(stage: Stage, url: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        program, *arguments = command
        return stage.running([peer_python(program), *arguments], environment={"BENCH_URL": url})

    def fill(stage: Stage, count: int, first: Path, last: Path) -> None:
        script = str(HERE / "peers" / f"{app}.py")
        stage.run(
            [peer_python(), script, str(count), str(first), str(last)],
            environment={"BENCH_URL": stage.url},
        )

    return Contender(name=name, jobs=jobs, start=start, fill=fill, loses_jobs=loses_jobs)


CONTENDERS = (
    _rq("RQ SimpleWorker", "rq.SimpleWorker", 1500),
    _rq("RQ Worker", "rq.Worker", 400),
    _rq("emberq WarmWorker", "emberq.WarmWorker", 1500),
    _rq("RQ SpawnWorker", "rq.worker.SpawnWorker", 20),
    _peer("Dramatiq", "dramatiq_app", 1500, "dramatiq", "dramatiq_app", "--processes", "1", "--threads", "1"),
    _peer(
        "Celery prefork, acks_late",
        "celery_app",
        3000,
        *("celery", "--app", "celery_app", "worker", "--concurrency", "1", "--pool", "prefork"),
    ),
    _peer("Huey", "huey_app", 3000, "huey_consumer", "huey_app.huey", "--workers", "1", loses_jobs=True),
)
