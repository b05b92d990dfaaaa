"""What one more worker slot costs, with the real model."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from documents import EMBERQ, ingest, read_until, service
from model import TEXT
from outcome import Figure, Outcome, slope
from procfs import Memory, children_of, descendants_of, memory_of
from rq import Queue
from stage import QUEUE, Stage, StageError

__all__ = ["NAME", "measure"]

NAME = "memory"
SLOTS = (1, 2, 4, 8)
QUICK_SLOTS = (1, 2, 4)
JOBS_PER_SLOT = 200
QUICK_JOBS_PER_SLOT = 25
#: MB one more slot may cost.
GOAL_MB = 25.0
#: Seconds the jobs may take.
_JOBS_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Memory of the processes of one host after its jobs."""

    slots: int
    supervisor: Memory
    preloader: Memory
    workers: Memory
    horses: Memory

    @property
    def slot(self) -> Memory:
        """What belongs to the slots."""
        return self.workers + self.horses

    @property
    def everything(self) -> Memory:
        """All processes together."""
        return self.supervisor + self.preloader + self.slot


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Start workers with more and more slots, give them work, and add up what is private."""
    per_slot = QUICK_JOBS_PER_SLOT if quick else JOBS_PER_SLOT
    counts = QUICK_SLOTS if quick else SLOTS
    kinds = {
        kind: [run(stage, slots, per_slot * slots) for slots in counts]
        for kind, run in {"RQ jobs": _with_jobs, "documents": _with_documents}.items()
    }
    return Outcome(
        name=NAME,
        title="Private memory per worker slot",
        how=(
            f"`emberq worker -n N` with the default model, after {per_slot} jobs per slot: RQ jobs that "
            "embed a text with the model as a `@resource`, and documents of 2,000 characters through the "
            "whole pipeline. A slot is a worker process and its horse, with whatever the horse has started. "
            "USS is what only one process has. PSS counts a page that several have once in all, so the PSS "
            "of all processes is what the machine really spends. MB are 10⁶ bytes; per further slot: the "
            "slope of the straight line through all rows."
        ),
        columns=["jobs, slots", "workers USS", "horses USS", "slots USS", "slots PSS", "all PSS"],
        rows=[[f"{kind}, {size.slots}", *_cells(size)] for kind, sizes in kinds.items() for size in sizes],
        figures=[figure for kind, sizes in kinds.items() for figure in _figures(kind, sizes)],
        raw={
            kind: [[size.slots, size.slot.private, size.everything.proportional] for size in sizes]
            for kind, sizes in kinds.items()
        },
    )


def _cells(size: _Sizes) -> list[str]:
    figures = (
        size.workers.private,
        size.horses.private,
        size.slot.private,
        size.slot.proportional,
        size.everything.proportional,
    )
    return [f"{figure:.1f}" for figure in figures]


def _figures(kind: str, sizes: list[_Sizes]) -> list[Figure]:
    def per_slot(of: Callable[[_Sizes], float]) -> float:
        return slope([size.slots for size in sizes], [of(size) for size in sizes])

    return [
        Figure(f"{kind}: USS per further slot", per_slot(lambda size: size.slot.private), "MB", "≤", GOAL_MB),
        Figure(f"{kind}: of these the worker", per_slot(lambda size: size.workers.private), "MB"),
        Figure(f"{kind}: and the horse", per_slot(lambda size: size.horses.private), "MB"),
        Figure(
            f"{kind}: PSS of all processes per further slot",
            per_slot(lambda size: size.everything.proportional),
            "MB",
            "≤",
            GOAL_MB,
        ),
    ]


def _with_jobs(stage: Stage, slots: int, jobs: int) -> _Sizes:
    """Run jobs that use the model and nothing else of emberq's."""
    stage.connection.flushall()
    stage.tell(f"{slots} slots: {jobs} RQ jobs")
    environment = {"EMBERQ_REDIS_URL": stage.url, "EMBERQ_DATA_DIR": str(stage.path("data"))}
    command = [EMBERQ, "worker", "--workers", str(slots), "--preload", "model", QUEUE]
    with stage.running(command, environment=environment, stdout=subprocess.PIPE) as supervisor:
        read_until(supervisor, "ready")
        stage.queue.enqueue_many(
            [Queue.prepare_data("model.embed", (TEXT,), result_ttl=0) for _ in range(jobs)]
        )
        stage.wait_until(
            lambda: stage.queue.count == 0 and stage.queue.started_job_registry.count == 0,
            supervisor,
            what="end of the jobs",
            seconds=_JOBS_SECONDS,
            pause_seconds=0.2,
        )
        return _sizes_of(supervisor.pid, slots)


def _with_documents(stage: Stage, slots: int, documents: int) -> _Sizes:
    """Ingest documents through the API."""
    with service(stage, slots) as (supervisor, client):
        ingest(stage, supervisor, client, documents, slots)
        return _sizes_of(supervisor.pid, slots)


def _sizes_of(supervisor: int, slots: int) -> _Sizes:
    """Tell the processes apart by their titles and parents.

    Raises:
        StageError: If there is not one worker and one horse per slot.
    """
    below = children_of(supervisor)
    preloaders = [pid for pid in below if "preloader" in _title(pid)]
    workers = [pid for pid in below if _title(pid).startswith("emberq: worker ")]
    horses = [
        child
        for pid in preloaders
        for child in children_of(pid)
        if _title(child).startswith("emberq: horse ")
    ]
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
    return sum((memory_of(pid) for pid in pids), Memory())
