"""No-op jobs per second with one worker, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from contenders import CONTENDERS, Contender
from outcome import Figure, Outcome
from stage import Stage, read_mark

__all__ = ["NAME", "jobs_per_second", "measure", "median_ratio"]

NAME = "throughput"
SIMPLE, FORKING, WARM = "RQ SimpleWorker", "RQ Worker", "emberq WarmWorker"
#: Rounds of every contender; ratios are taken within a round, since the machine's speed drifts.
ROUNDS = 5
QUICK_ROUNDS = 2


def measure(stage: Stage, *, quick: bool) -> Outcome:
    """Run every contender once a round and compare within the rounds."""
    rates: dict[str, list[float]] = {contender.name: [] for contender in CONTENDERS}
    rounds = QUICK_ROUNDS if quick else ROUNDS
    for number in range(1, rounds + 1):
        for contender in CONTENDERS:
            stage.tell(f"round {number} of {rounds}: {contender.name}")
            count = contender.jobs // 4 if quick else contender.jobs
            rates[contender.name].append(jobs_per_second(stage, contender, max(5, count)))
    rows = [
        [
            f"{contender.name} ¹" if contender.loses_jobs else contender.name,
            f"{median(rates[contender.name]):,.0f}",
            f"{min(rates[contender.name]):,.0f}-{max(rates[contender.name]):,.0f}",
            f"{median_ratio(rates[contender.name], rates[SIMPLE]):.2f} x",
            f"{median_ratio(rates[contender.name], rates[FORKING]):.2f} x",
        ]
        for contender in CONTENDERS
    ]
    return Outcome(
        name=NAME,
        title="No-op jobs per second, one worker",
        how=(
            f"Median of {rounds} interleaved rounds; ratios are medians of the ratios within a round. Each "
            "worker as it comes, with one job at a time; RQ's keep results (their default), the others do "
            "not. ¹ takes a job off the queue before it runs: a worker that dies loses it."
        ),
        columns=["worker", "jobs/s", "range", "÷ SimpleWorker", "÷ Worker"],
        rows=rows,
        figures=[
            Figure("WarmWorker ÷ SimpleWorker", median_ratio(rates[WARM], rates[SIMPLE]), "", "≥", 1.0),
            Figure("WarmWorker ÷ Worker", median_ratio(rates[WARM], rates[FORKING]), "", "≥", 4.0),
        ],
        raw=dict(rates),
    )


def jobs_per_second(stage: Stage, contender: Contender, count: int) -> float:
    """Run so many no-ops between two marks; the worker's start does not count."""
    stage.connection.flushall()
    first, last = stage.path("first"), stage.path("last")
    contender.fill(stage, count, first, last)
    with contender.start(stage, stage.url) as worker:
        stage.wait_for(last, worker)
    return (count + 1) / (read_mark(last)[0] - read_mark(first)[0])


def median_ratio(rates: Sequence[float], base: Sequence[float]) -> float:
    """Return the median of the ratios within the rounds."""
    return median(rate / other for rate, other in zip(rates, base, strict=True))
