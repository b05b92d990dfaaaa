"""Uploads the hostile corpus as one tenant while another one searches: `python -m tests.hostile.campaign`.

Prints how each file ended, the latencies of the searches, and the horses that were lost; the last line is the
verdict.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from tests.harness.paths import CORPUS
from tests.harness.stack import Stack
from tests.hostile.corpus import SEED, make_corpus
from tests.hostile.kinds import HostileFile

#: Errors that say what is wrong with a file, or that it took too much.
TYPED: Final = frozenset(
    (
        *("unsupported_media_type", "empty_file", "no_text_found", "encrypted_file", "corrupt_file"),
        *("file_too_large", "archive_bomb", "extraction_timeout", "extraction_crashed"),
        *("memory_limit_exceeded", "job_timeout"),
    )
)
#: How much slower the other tenant's searches may be, at the 99th percentile.
MOST_SLOWER: Final = 2.0
#: Latencies below this are as good as equal: a tick of the scheduler, not a wait.
TICK_SECONDS: Final = 0.05
_QUERIES: Final = (
    "worker",
    "what is a lease",
    "reciprocal rank fusion",
    "memory of a horse",
    "table of sizes",
)
_PAUSE_SECONDS: Final = 0.05
_IDLE_SECONDS: Final = 20.0
_TIMEOUT_SECONDS: Final = 3600.0


def main(arguments: list[str]) -> int:
    """Run the campaign and print its report; return 0 if its goals were met."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=lambda text: int(text, 16), default=SEED)
    options.add_argument(
        "--files", type=int, default=0, help="every nth file, so that about so many are left"
    )
    options.add_argument("--workers", type=int, default=2)
    chosen = options.parse_args(arguments)
    corpus = make_corpus(chosen.seed)
    if chosen.files:
        corpus = corpus[:: max(1, len(corpus) // chosen.files)]
    with (
        tempfile.TemporaryDirectory(prefix="emberq-hostile-") as folder,
        Stack(Path(folder) / "data", workers=chosen.workers) as stack,
    ):
        stack.start()
        return _run(stack, corpus)


def _run(stack: Stack, corpus: list[HostileFile]) -> int:
    for path in sorted(CORPUS.iterdir()):
        stack.cli("ingest", str(path), "-c", "good", "--wait")
    stack.cli("config", "set", "job_retry_delay", "1")
    key = stack.cli("keys", "create", "hostile", "--tenant", "hostile").stdout.split()[-1]
    with _searching(stack) as idle:
        time.sleep(_IDLE_SECONDS)
    horses = _lost_horses(stack)
    started = time.monotonic()
    with _searching(stack) as busy, stack.http(key=key) as client:
        client.post("/api/v1/collections", json={"name": "bad"}).raise_for_status()
        refused = _upload(client, corpus)
        jobs = _wait(client)
    seconds = time.monotonic() - started
    lost = _lost_horses(stack) - horses
    return _report(corpus, refused, jobs, idle=idle, busy=busy, lost=lost, seconds=seconds)


@contextmanager
def _searching(stack: Stack) -> Iterator[list[float]]:
    """Search in a thread within the block; yield the list of latencies, in seconds."""
    latencies: list[float] = []
    stop = threading.Event()

    def search() -> None:
        with stack.http() as client:
            for number in range(1 << 30):
                if stop.wait(_PAUSE_SECONDS):
                    return
                query = f"{_QUERIES[number % len(_QUERIES)]} {number}"
                before = time.perf_counter()
                answer = client.post("/api/v1/collections/good/search", json={"query": query})
                answer.raise_for_status()
                latencies.append(time.perf_counter() - before)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield latencies
    finally:
        stop.set()
        thread.join()


def _upload(client: httpx.Client, corpus: list[HostileFile]) -> Counter[str]:
    """Upload the files and count those that are refused at once, by their code."""
    refused: Counter[str] = Counter()
    for number, file in enumerate(corpus):
        while True:
            answer = client.post(
                "/api/v1/collections/bad/files",
                files={"file": (file.name, file.make())},
                data={"external_id": str(number)},
            )
            if answer.status_code not in {429, 503}:
                break
            time.sleep(float(answer.headers.get("Retry-After", 1)))
        if answer.status_code >= 500:
            answer.raise_for_status()
        if answer.is_client_error:
            refused[answer.json()["code"]] += 1
    return refused


def _wait(client: httpx.Client) -> list[dict[str, Any]]:
    """Wait until all jobs have ended, and return them."""
    end = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < end:
        jobs = list(_jobs(client))
        if all(job["state"] in {"completed", "failed", "cancelled"} for job in jobs):
            return jobs
        time.sleep(2)
    return jobs


def _jobs(client: httpx.Client) -> Iterator[dict[str, Any]]:
    cursor: str | None = None
    while True:
        page = client.get(
            "/api/v1/jobs", params={"limit": 500, **({"cursor": cursor} if cursor else {})}
        ).json()
        yield from page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return


def _lost_horses(stack: Stack) -> int:
    """Count the horses that ended in the middle of a job."""
    return sum(event["event"] == "attempt_lost" for event in stack.events())


def _report(
    corpus: list[HostileFile],
    refused: Counter[str],
    jobs: list[dict[str, Any]],
    *,
    idle: list[float],
    busy: list[float],
    lost: int,
    seconds: float,
) -> int:
    ends = Counter(job["error"]["code"] if job["error"] else str(job["state"]) for job in jobs)
    _tell(f"{len(corpus)} files in {seconds:.0f} s; refused at once: {dict(refused)}")
    for code, count in ends.most_common():
        _tell(f"  {count:4} {code}")
    slowest = sorted(jobs, key=lambda job: -sum(job["timings"].values()))[:10]
    for job in slowest:
        _tell(
            f"  {sum(job['timings'].values()):6.1f} s, attempt {job['attempt']}: {job['file_name']!r} {job['timings']}"
        )
    before, after = _percentile(idle), _percentile(busy)
    _tell(
        f"search p99: idle {before * 1000:.0f} ms ({len(idle)}), during {after * 1000:.0f} ms ({len(busy)})"
    )
    _tell(
        f"search median: idle {statistics.median(idle) * 1000:.0f} ms, during {statistics.median(busy) * 1000:.0f} ms"
    )
    problems = []
    if wrong := {code: n for code, n in ends.items() if code not in TYPED | {"completed"}}:
        problems.append(f"untyped ends: {wrong}")
    if len(jobs) + refused.total() != len(corpus):
        problems.append(f"{len(corpus) - len(jobs) - refused.total()} files have no job")
    if after > max(MOST_SLOWER * before, TICK_SECONDS):
        problems.append(f"the other tenant's searches are {after / before:.1f} times as slow")
    if lost:
        problems.append(f"{lost} horses lost")
    _tell("FAILED: " + "; ".join(problems) if problems else "PASSED: every file typed, no horse lost")
    return bool(problems)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")


def _percentile(latencies: list[float]) -> float:
    return statistics.quantiles(latencies, n=100)[98]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
