"""An idle worker gets a job: how long until it runs."""

from __future__ import annotations

import random
import subprocess
import time

from outcome import Figure, Outcome, percentile
from stage import Stage, read_mark

__all__ = ["NAME", "measure"]

NAME = "pickup"
SAMPLES = 200
QUICK_SAMPLES = 40
#: Jobs before the measurement, so that nothing is done for the first time in it.
WARM_UP = 10
#: Seconds the worker is idle between two jobs, at random.
IDLE_SECONDS = (0.02, 0.1)
WORKERS = {
    "emberq WarmWorker": "emberq.WarmWorker",
    "RQ SimpleWorker": "rq.SimpleWorker",
    "RQ Worker": "rq.Worker",
}


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Queue one job at a time and note when it starts."""
    count = QUICK_SAMPLES if quick else SAMPLES
    samples: dict[str, list[float]] = {}
    for name, worker_class in WORKERS.items():
        stage.connection.flushall()
        stage.tell(f"{name}: {count} jobs")
        with stage.rq_worker(worker_class) as worker:
            samples[name] = _sample(stage, worker, count)
    warm = samples["emberq WarmWorker"]
    return Outcome(
        name=NAME,
        title="From queueing to start, with the worker idle",
        how=(
            f"{count} jobs, one at a time, each after {IDLE_SECONDS[0] * 1000:g}-{IDLE_SECONDS[1] * 1000:g} "
            "ms of idleness; from just before `enqueue` is called until the job's first line runs, so that "
            "the client's own way to the server is in it."
        ),
        columns=["worker", "p50", "p95", "p99", "longest"],
        rows=[
            [name, *(f"{percentile(times, percent) * 1000:.1f} ms" for percent in (50, 95, 99, 100))]
            for name, times in samples.items()
        ],
        figures=[
            Figure("p50", percentile(warm, 50) * 1000, "ms", "≤", 10.0),
            Figure("p99", percentile(warm, 99) * 1000, "ms", "≤", 50.0),
        ],
        raw=dict(samples),
    )


def _sample(stage: Stage, worker: subprocess.Popen[str], count: int) -> list[float]:
    chance = random.Random(1)
    times = []
    for _ in range(WARM_UP + count):
        mark = stage.path("mark")
        queued_at = time.monotonic()
        stage.queue.enqueue("jobs.mark", str(mark))
        stage.wait_for(mark, worker)
        times.append(read_mark(mark)[0] - queued_at)
        time.sleep(chance.uniform(*IDLE_SECONDS))
    return times[WARM_UP:]
