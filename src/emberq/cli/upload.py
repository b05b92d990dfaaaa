"""The uploader: sends many files at the same time and follows their jobs to the end."""

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

from emberq.cli.client import Client, NotReachable, Problem, path_to
from emberq.cli.output import describe_error, say, seconds
from emberq.retry.backoff import Backoff
from emberq.store.schema.job_states import ENDED_STATES
from emberq.visible import visible

#: Seconds between two polls of the jobs.
_POLL_SECONDS = 0.2
#: Jobs polled at once, oldest first; they end in about that order.
_POLLED_AT_ONCE = 16
#: Most progress bars shown at the same time.
_MOST_BARS = 8
#: Seconds for which an upload is retried while the API is full or away.
_RETRY_SECONDS = 300.0
#: Pauses between attempts, where the API names none.
_BACKOFF = Backoff(first_seconds=0.5, longest_seconds=10.0)
#: Statuses of an API that is full or away.
_FULL = (429, 503)


@dataclass(slots=True)
class UploadResult:
    """The result for one file.

    Attributes:
        path: The file.
        state: The job's state; `refused` if the upload was refused.
        error: `{code, message, hint, stage?}` if the upload or the job failed.
        deduplicated: Whether the same file was uploaded before.
    """

    path: str
    state: str = "uploading"
    file_id: str | None = None
    job_id: str | None = None
    deduplicated: bool = False
    error: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return asdict(self)


class Uploader:
    """One run of `emberq ingest`.

    Invariant: `acknowledged` is the number of files that will be processed even if this process ends.
    """

    def __init__(self, client: Client, collection: str, *, parallel: int, priority: str, quiet: bool) -> None:
        self._client = client
        self._collection = collection
        self._parallel = parallel
        self._priority = priority
        self._stop = Event()
        self._started = time.monotonic()
        console = Console(stderr=True)
        self._lines = not quiet and not console.is_terminal
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
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
        """Upload the files and return the result for each, in their order.

        Raises:
            Problem: If the collection cannot be used.
            NotReachable: If the API is away for more than five minutes.
        """
        self._ensure_collection()
        results = [UploadResult(str(path)) for path, _ in files]
        with self._progress, ThreadPoolExecutor(self._parallel) as pool:
            total = self._progress.add_task("all files", total=len(files), stage="")
            pending: set[Future[None]] = {
                pool.submit(self._upload, path, external_id, result)
                for (path, external_id), result in zip(files, results, strict=True)
            }
            try:
                while pending or (wait and _unfinished(results)):
                    if not pending:
                        time.sleep(_POLL_SECONDS)
                    done, pending = wait_for(pending, timeout=_POLL_SECONDS)
                    for future in done:
                        future.result()
                    if wait:
                        self._poll(results)
                    self._progress.update(total, completed=len(results) - _unfinished(results))
            except BaseException:
                self._stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return results

    def summarize(self, results: list[UploadResult]) -> None:
        """Print the number of files in each state, and every error with its hint."""
        states: dict[str, int] = {}
        for result in results:
            states[result.state] = states.get(result.state, 0) + 1
        counted = ", ".join(f"{count} {state}" for state, count in states.items())
        again = sum(result.deduplicated for result in results)
        known = f" ({again} uploaded before)" if again else ""
        took = seconds(time.monotonic() - self._started)
        sys.stdout.write(f"{len(results)} files: {counted}{known} in {took}\n")
        for result in results:
            if result.error:
                say(f"  {result.path}: {describe_error(result.error)}")

    def _ensure_collection(self) -> None:
        """Create the collection if there is none, with retries while the API is full or its database away."""
        deadline = time.monotonic() + _RETRY_SECONDS
        failures = 0
        while True:
            try:
                self._client.get(path_to("collections", self._collection))
            except Problem as exc:
                if exc.code == "collection_not_found":
                    self._client.request("POST", "/collections", json={"name": self._collection})
                    return
                if exc.status not in _FULL or time.monotonic() > deadline:
                    raise
                if not failures:
                    sys.stderr.write(f"{exc.message} Trying again for up to {_RETRY_SECONDS:.0f} s.\n")
                failures += 1
                time.sleep(exc.retry_after or _BACKOFF.pause_seconds(failures))
            else:
                return

    def _upload(self, path: Path, external_id: str, result: UploadResult) -> None:
        try:
            answer = self._send(path, external_id)
        except Problem as exc:
            result.error = {"code": exc.code, "message": exc.message, "hint": exc.hint}
        except OSError as exc:
            reason = f"The file cannot be read: {exc.strerror}."
            result.error = {"code": "invalid_request", "message": reason, "hint": "Check its permissions."}
        if result.error:
            self._end(result, "refused")
            return
        self.acknowledged += 1
        result.file_id, result.job_id = answer["file"]["id"], answer["job"]["id"]
        result.deduplicated = answer["deduplicated"]
        self._update(result, answer["job"])

    def _send(self, path: Path, external_id: str) -> dict[str, Any]:
        """Upload one file, with retries while the API is full or away."""
        url = path_to("collections", self._collection, "files")
        deadline = time.monotonic() + _RETRY_SECONDS
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

    def _poll(self, results: list[UploadResult]) -> None:
        """Get the state of the oldest jobs that have not ended."""
        for result in [one for one in results if one.job_id and one.state not in ENDED_STATES][
            :_POLLED_AT_ONCE
        ]:
            try:
                self._update(result, self._client.get(f"/jobs/{result.job_id}"))
            except Problem as exc:
                if exc.status not in _FULL:
                    raise

    def _update(self, result: UploadResult, job: dict[str, Any]) -> None:
        if job["state"] in ENDED_STATES:
            result.error = job["error"] if job["state"] != "completed" else None
            self._end(result, job["state"])
            return
        result.state = job["state"]
        if job["state"] != "processing":
            return
        bar = self._bars.get(result.path)
        if bar is None and len(self._bars) < _MOST_BARS:
            bar = self._bars[result.path] = self._progress.add_task(visible(Path(result.path).name), stage="")
        if bar is not None:
            progress = job["progress"]
            self._progress.update(
                bar, completed=progress["done"], total=progress["total"] or None, stage=job["stage"] or ""
            )

    def _end(self, result: UploadResult, state: str) -> None:
        result.state = state
        bar = self._bars.pop(result.path, None)
        if bar is not None:
            self._progress.remove_task(bar)
        if self._lines:
            reason = f": {result.error['code']}" if result.error else ""
            say(f"{state}  {result.path}{reason}", err=True)


def _unfinished(results: list[UploadResult]) -> int:
    return sum(result.state not in (*ENDED_STATES, "refused") for result in results)
