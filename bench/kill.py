"""A horse is killed at a random time: how long until the next job runs."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import time

from outcome import Figure, Outcome, percentile
from stage import Stage, read_mark

__all__ = ["NAME", "measure"]

NAME = "kill"
KILLS = 200
QUICK_KILLS = 25
#: A job is killed at a random time within so many seconds of its start.
WITHIN_SECONDS = 0.1
#: Seconds a job would run if nobody killed it.
_HANG_SECONDS = 60.0
#: Seconds without a next job after which the worker is taken for stuck.
_STUCK_SECONDS = 30.0
WORKERS = {
    "emberq WarmWorker": ("emberq.WarmWorker", {}),
    "emberq WarmWorker, model loaded": ("emberq.WarmWorker", {"EMBERQ_PRELOAD": "model"}),
    "RQ Worker": ("rq.Worker", {}),
}
GOAL_SECONDS = 0.05


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Kill job after job and note when the next one starts."""
    kills = QUICK_KILLS if quick else KILLS
    samples: dict[str, list[float]] = {}
    for name, (worker_class, environment) in WORKERS.items():
        stage.connection.flushall()
        with stage.rq_worker(worker_class, environment=environment) as worker:
            samples[name] = _kill_jobs(stage, worker, name, kills)
    model = samples["emberq WarmWorker, model loaded"]
    return Outcome(
        name=NAME,
        title="From a horse's death to the next job",
        how=(
            f"{kills} jobs in a queue, each killed with SIGKILL at a random time within "
            f"{WITHIN_SECONDS * 1000:g} ms of its start; the time until the next job's first line runs. RQ's "
            "own failure handling lies in between. RQ Worker has nothing loaded: a model would come on top "
            "of its time, with every job."
        ),
        columns=["worker", "p50", "p95", "p99", "longest"],
        rows=[
            [name, *(f"{percentile(times, percent) * 1000:.1f} ms" for percent in (50, 95, 99, 100))]
            for name, times in samples.items()
        ],
        figures=[
            Figure("p99, model loaded", percentile(model, 99) * 1000, "ms", "≤", GOAL_SECONDS * 1000),
        ],
        raw=dict(samples),
    )


def _kill_jobs(stage: Stage, worker: subprocess.Popen[str], name: str, kills: int) -> list[float]:
    chance = random.Random(1)
    marks = [stage.path("mark") for _ in range(kills + 1)]
    for mark in marks:
        stage.queue.enqueue("jobs.start_and_hang", str(mark), _HANG_SECONDS)
    stage.wait_for(marks[0], worker)
    times = []
    for number, (mark, following) in enumerate(itertools.pairwise(marks), 1):
        stage.tell(f"{name}: kill {number} of {kills}")
        _, pid = read_mark(mark)
        time.sleep(chance.uniform(0, WITHIN_SECONDS))
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        stage.wait_for(following, worker, seconds=_STUCK_SECONDS)
        times.append(read_mark(following)[0] - killed_at)
    return times
