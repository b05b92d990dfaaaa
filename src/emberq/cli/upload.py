"""Uploading many files at once and following their jobs to the end."""

from __future__ import annotations

import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from emberq.cli.client import Client
from emberq.cli.failures import NotReachable, Problem
from emberq.cli.output import describe_error, seconds
from emberq.retry.backoff import Backoff
from emberq.store.schema.job_states import ENDED_STATES

__all__ = ["UploadResult", "Uploader"]

#: Seconds between two looks at the jobs.
_POLL_SECONDS = 0.2
#: Jobs looked at in one round, oldest first; they end about in that order.
_POLLED_AT_ONCE = 16
#: Bars shown at once.
_MOST_BARS = 8
#: Seconds an upload is tried again while the API is full or away.
_PATIENCE_SECONDS = 300.0
#: Pauses between attempts, where the API names none.
_BACKOFF = Backoff(first_seconds=0.5, longest_seconds=10.0)
#: Statuses of an API that is full or away.
_FULL = (429, 503)


@dataclass(slots=True)
class UploadResult:
    """What became of one file.

    Attributes:
        path: The file.
        state: The job's state; `refused` if the upload was not taken.
        error: `{code, message, hint, stage?}` if it failed.
        deduplicated: Whether the same bytes were there already.
    """

    path: str
    state: str = "uploading"
    file_id: str | None = None
    job_id: str | None = None
    deduplicated: bool = False
    error: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON takes it."""
        return asdict(self)


class Uploader:
    """One run of `emberq ingest`.

    Invariant: `acknowledged` files are emberq's to finish, whatever happens to this process.
    """

    def __init__(self, client: Client, collection: str, *, parallel: int, priority: str, quiet: bool) -> None:
        """Prepare a run.

        Args:
            client: The API.
            collection: Name of the collection; made if it is not there.
            parallel: Uploads at once.
            priority: `interactive`, `bulk` or a number.
            quiet: Whether to show nothing.
        """
        self._client = client
        self._collection = collection
        self._parallel = parallel
        self._priority = priority
        self._stop = Event()
        self._started = time.monotonic()
        console = Console(stderr=True)
        self._lines = not quiet and not console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[stage]}"),
            console=console,
            disable=quiet or not console.is_terminal,
            transient=True,
        )
        self._bars: dict[str, TaskID] = {}
        self.acknowledged = 0

    def run(self, files: list[tuple[Path, str]], *, wait: bool) -> list[UploadResult]:
        """Upload the files and return what became of each, in their order.

        Args:
            files: Paths and external ids.
            wait: Whether to wait for the jobs' ends.

        Raises:
            Problem: If the collection cannot be used.
            NotReachable: If the API is away for longer than a few minutes.
        """
        self._ensure_collection()
        outcomes = [UploadResult(str(path)) for path, _ in files]
        with self._progress, ThreadPoolExecutor(self._parallel) as pool:
            total = self._progress.add_task("all files", total=len(files), stage="")
            pending: set[Future[None]] = {
                pool.submit(self._upload, path, external_id, outcome)
                for (path, external_id), outcome in zip(files, outcomes, strict=True)
            }
            try:
                while pending or (wait and _unfinished(outcomes)):
                    if not pending:
                        time.sleep(_POLL_SECONDS)
                    done, pending = wait_for(pending, timeout=_POLL_SECONDS)
                    for future in done:
                        future.result()
                    if wait:
                        self._poll(outcomes)
                    self._progress.update(total, completed=len(outcomes) - _unfinished(outcomes))
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return outcomes

    def summarize(self, outcomes: list[UploadResult]) -> None:
        """Print how many came to which end, and every failure with what to do about it."""
        states: dict[str, int] = {}
        for outcome in outcomes:
            states[outcome.state] = states.get(outcome.state, 0) + 1
        counted = ", ".join(f"{count} {state}" for state, count in states.items())
        again = sum(outcome.deduplicated for outcome in outcomes)
        known = f" ({again} were there already)" if again else ""
        took = seconds(time.monotonic() - self._started)
        sys.stdout.write(f"{len(outcomes)} files: {counted}{known} in {took}\n")
        for outcome in outcomes:
            if outcome.error:
                sys.stdout.write(f"  {outcome.path}: {describe_error(outcome.error)}\n")

    def _ensure_collection(self) -> None:
        try:
            self._client.get(f"/collections/{self._collection}")
        except Problem as exc:
            if exc.code != "collection_not_found":
                raise
            self._client.request("POST", "/collections", json={"name": self._collection})

    def _upload(self, path: Path, external_id: str, outcome: UploadResult) -> None:
        try:
            answer = self._send(path, external_id)
        except Problem as exc:
            outcome.error = {"code": exc.code, "message": exc.message, "hint": exc.hint}
        except OSError as exc:
            reason = f"The file cannot be read: {exc.strerror}."
            outcome.error = {"code": "invalid_request", "message": reason, "hint": "Check its permissions."}
        if outcome.error:
            self._end(outcome, "refused")
            return
        self.acknowledged += 1
        outcome.file_id, outcome.job_id = answer["file"]["id"], answer["job"]["id"]
        outcome.deduplicated = answer["deduplicated"]
        self._take_state(outcome, answer["job"])

    def _send(self, path: Path, external_id: str) -> dict[str, Any]:
        """Upload one file, again and again while the API is full or away."""
        url = f"/collections/{self._collection}/files"
        deadline = time.monotonic() + _PATIENCE_SECONDS
        failures = 0
        while True:
            try:
                with path.open("rb") as file:
                    form = {"external_id": external_id, "priority": self._priority}
                    answer = self._client.request("POST", url, files={"file": (path.name, file)}, data=form)
                return dict(answer.json())
            except (Problem, NotReachable) as exc:
                given = exc.retry_after if isinstance(exc, Problem) else None
                is_passing = isinstance(exc, NotReachable) or exc.status in _FULL
                failures += 1
                pause = given or _BACKOFF.pause_seconds(failures)
                if not is_passing or time.monotonic() > deadline or self._stop.wait(pause):
                    raise

    def _poll(self, outcomes: list[UploadResult]) -> None:
        """Look at the oldest jobs that still run."""
        for outcome in [one for one in outcomes if one.job_id and one.state not in ENDED_STATES][
            :_POLLED_AT_ONCE
        ]:
            try:
                self._take_state(outcome, self._client.get(f"/jobs/{outcome.job_id}"))
            except Problem as exc:
                if exc.status not in _FULL:
                    raise

    def _take_state(self, outcome: UploadResult, job: dict[str, Any]) -> None:
        if job["state"] in ENDED_STATES:
            outcome.error = job["error"] if job["state"] != "completed" else None
            self._end(outcome, job["state"])
            return
        outcome.state = job["state"]
        if job["state"] != "processing":
            return
        bar = self._bars.get(outcome.path)
        if bar is None and len(self._bars) < _MOST_BARS:
            bar = self._bars[outcome.path] = self._progress.add_task(Path(outcome.path).name, stage="")
        if bar is not None:
            progress = job["progress"]
            self._progress.update(
                bar, completed=progress["done"], total=progress["total"] or None, stage=job["stage"] or ""
            )

    def _end(self, outcome: UploadResult, state: str) -> None:
        outcome.state = state
        bar = self._bars.pop(outcome.path, None)
        if bar is not None:
            self._progress.remove_task(bar)
        if self._lines:
            reason = f": {outcome.error['code']}" if outcome.error else ""
            sys.stderr.write(f"{state}  {outcome.path}{reason}\n")


def _unfinished(outcomes: list[UploadResult]) -> int:
    return sum(outcome.state not in (*ENDED_STATES, "refused") for outcome in outcomes)
