"""Horses are replaced all the time: is there a gap in service?"""

from __future__ import annotations

import itertools

from outcome import Figure, Outcome, percentile
from rq import Queue
from stage import Stage

__all__ = ["NAME", "measure"]

NAME = "recycle"
#: Jobs in all, and how many a horse runs before it is replaced: that makes fifty recycles.
JOBS = 1000
JOBS_PER_HORSE = 20
QUICK_JOBS = 200
#: What "no gap" means: no recycle keeps the next job waiting longer than this.
GOAL_SECONDS = 0.05


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Compare the gap between two jobs of one horse with that between the last and the first of two."""
    jobs = QUICK_JOBS if quick else JOBS
    stage.connection.flushall()
    stamps, done = stage.path("stamps"), stage.path("done")
    stage.queue.enqueue_many([Queue.prepare_data("jobs.stamp", (str(stamps),)) for _ in range(jobs)])
    stage.queue.enqueue("jobs.mark", str(done))
    stage.tell(f"{jobs} jobs, a new horse every {JOBS_PER_HORSE}, the model loaded")
    environment = {"EMBERQ_PRELOAD": "model", "EMBERQ_HORSE_MAX_JOBS": str(JOBS_PER_HORSE)}
    with stage.rq_worker("emberq.WarmWorker", environment=environment) as worker:
        stage.wait_for(done, worker)
    starts = [(float(moment), pid) for moment, pid in map(str.split, stamps.read_text().splitlines())]
    usual: list[float] = []
    recycled: list[float] = []
    for (before, horse), (after, next_horse) in itertools.pairwise(starts):
        (usual if horse == next_horse else recycled).append(after - before)
    return Outcome(
        name=NAME,
        title="No gap when a horse is replaced",
        how=(
            f"{jobs} jobs, a new horse after every {JOBS_PER_HORSE}, the model loaded: time from one job's "
            "start to the next one's."
        ),
        columns=["between two jobs", "number", "p50", "p99", "longest"],
        rows=[
            [
                name,
                str(len(gaps)),
                *(f"{percentile(gaps, percent) * 1000:.1f} ms" for percent in (50, 99, 100)),
            ]
            for name, gaps in {"of one horse": usual, "of two horses": recycled}.items()
        ],
        figures=[
            Figure(
                "longest gap at a recycle", percentile(recycled, 100) * 1000, "ms", "≤", GOAL_SECONDS * 1000
            )
        ],
        raw={"usual": usual, "recycled": recycled},
    )
