"""Many jobs in one horse: does anything grow?"""

from __future__ import annotations

import subprocess
import time
from dataclasses import astuple, dataclass

from outcome import Figure, Outcome, slope
from procfs import Memory, descendants_of, memory_of, open_files, threads_of
from rq import Queue
from stage import Stage, StageError

__all__ = ["NAME", "measure"]

NAME = "soak"
JOBS = 10_000
QUICK_JOBS = 2_000
#: Jobs between two looks; the queue is empty when the worker is looked at.
STEP = 250
#: The part of the jobs that belongs to the warm-up: caches fill, arenas reach their size.
WARM_UP_SHARE = 0.2
#: The part of the jobs within which the collector surely runs, so that its lowest value has no garbage in it.
WINDOW_SHARE = 0.1
#: One job of so many raises, and one of so many embeds a text.
_FAILS_EVERY = 10
_EMBEDS_EVERY = 3
#: Seconds the traces of a failed job stay in Redis.
_FAILURE_TTL = 1
#: The model is loaded, and one horse runs all jobs, so that whatever grows can be seen growing.
_ENVIRONMENT = {
    "EMBERQ_PRELOAD": "model",
    "EMBERQ_HORSE_MAX_JOBS": "1000000000",
    "EMBERQ_HORSE_MAX_MEMORY_GROWTH": "1000000000000",
}


@dataclass(frozen=True, slots=True)
class _Look:
    """What was there after so many jobs; memory in MB, over the worker and everything below it.

    Private memory is without the clean pages of files: those of the model's that hold the vectors of words
    are read as the words come up, by the first horse that meets one.
    """

    jobs: int
    private: float
    clean: float
    descriptors: int
    threads: int
    keys: int


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Run the jobs in one horse that is never replaced, looking at it again and again."""
    total = QUICK_JOBS if quick else JOBS
    stage.connection.flushall()
    looks = []
    with stage.rq_worker("emberq.WarmWorker", environment=_ENVIRONMENT) as worker:
        horses = set()
        for done in range(STEP, total + 1, STEP):
            stage.tell(f"{done - STEP:,} of {total:,} jobs")
            _run_jobs(stage, worker, done - STEP)
            looks.append(_look(stage, worker, done))
            horses.add(tuple(descendants_of(worker.pid)))
    if len(horses) > 1:
        raise StageError("The horse was replaced, so its growth says nothing.")
    warm = [look for look in looks if look.jobs >= total * WARM_UP_SHARE]
    lows = [
        min(group, key=lambda look: look.private) for group in _groups(warm, jobs=int(total * WINDOW_SHARE))
    ]
    labels = {
        "private": "private memory, lowest, MB",
        "clean": "clean pages of the model's file, MB",
        "descriptors": "file descriptors",
        "threads": "threads",
        "keys": "Redis keys",
    }
    looked = {name: lows if name == "private" else warm for name in labels}
    growth = {
        name: slope([look.jobs / 1000 for look in of], [getattr(look, name) for look in of])
        for name, of in looked.items()
    }
    overall = slope([look.jobs / 1000 for look in warm], [look.private for look in warm])
    return Outcome(
        name=NAME,
        title=f"{total:,} jobs in one horse",
        how=(
            f"Worker, preloader and one horse that is never replaced, with the model loaded; every third job "
            f"embeds a text, every tenth raises, and most leave reference cycles with 64 KB behind, so that "
            f"memory rises and falls with Python's collector (here up to "
            f"{max(look.private for look in warm):.0f} MB). The slope of memory is a straight line through "
            f"the lowest value of each {WINDOW_SHARE:.0%} of the jobs; the first {WARM_UP_SHARE:.0%} are "
            "warm-up. The line through all values, which depends on where the collector stood at the first "
            "and the last of them, is shown beside it. Pages of the model's file that only the horse has "
            "read yet are no part of it: the system drops them when it needs the memory."
        ),
        columns=["", "after warm-up", "at the end", "per 1,000 jobs"],
        rows=[
            [
                label,
                f"{getattr(looked[name][0], name):.4g}",
                f"{getattr(looked[name][-1], name):.4g}",
                f"{growth[name]:+.3f}",
            ]
            for name, label in labels.items()
        ],
        figures=[
            Figure("private memory per 1,000 jobs", growth["private"], "MB", "<", 1.0),
            Figure("by the line through all values", overall, "MB"),
            *(
                Figure(f"{labels[name]} gained", getattr(warm[-1], name) - getattr(warm[0], name), "", "≤", 0)
                for name in ("descriptors", "threads", "keys")
            ),
        ],
        raw={"looks": [astuple(look) for look in looks]},
    )


def _groups(looks: list[_Look], *, jobs: int) -> list[list[_Look]]:
    """Return the looks in groups of so many jobs, without a last one that is not full."""
    size = max(1, jobs // STEP)
    groups = [looks[begin : begin + size] for begin in range(0, len(looks), size)]
    return [group for group in groups if len(group) == size]


def _run_jobs(stage: Stage, worker: subprocess.Popen[str], begin: int) -> None:
    done = stage.path("done")
    batch = []
    for number in range(begin, begin + STEP - 1):
        name = "jobs.fail" if number % _FAILS_EVERY == 0 else "jobs.ballast"
        arguments: tuple[object, ...] = (number,)
        if number % _EMBEDS_EVERY == 1:
            name = "model.embed"
            arguments = (f"Document {number} speaks of workers that stay warm. " * 8,)
        batch.append(Queue.prepare_data(name, arguments, result_ttl=0, failure_ttl=_FAILURE_TTL))
    stage.queue.enqueue_many(batch)
    stage.queue.enqueue("jobs.mark", str(done), result_ttl=0)
    stage.wait_for(done, worker)
    done.unlink()
    # The last jobs are put away, and what failed jobs left expires.
    time.sleep(2 * _FAILURE_TTL)


def _look(stage: Stage, worker: subprocess.Popen[str], jobs: int) -> _Look:
    family = [worker.pid, *descendants_of(worker.pid)]
    memory = sum((memory_of(pid) for pid in family), start=Memory())
    return _Look(
        jobs=jobs,
        private=memory.private - memory.clean,
        clean=memory.clean,
        descriptors=sum(map(open_files, family)),
        threads=sum(map(threads_of, family)),
        keys=int(stage.connection.dbsize()),
    )
