"""The uploader: sends many files at the same time and follows their jobs to the end."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from emberq.cli.client import Problem, path_to
from emberq.cli.ingest.found import shown_path
from emberq.cli.ingest.patience import Patience
from emberq.cli.ingest.plan import Planned, Step
from emberq.cli.output import counted, describe_error, describe_warnings, say, seconds
from emberq.store.schema.job_states import ENDED_STATES
from emberq.visible import visible

#: Seconds between two polls of the jobs.
_POLL_SECONDS = 0.2
#: Jobs polled at once, oldest first; they end in about that order.
_POLLED_AT_ONCE = 16
#: Most progress bars shown at the same time.
_MOST_BARS = 8
#: The outcomes that every summary counts, and those that it counts where there are any.
_COUNTED: Final = ("new", "replaced", "unchanged", "skipped", "failed")
_ALSO_COUNTED: Final = ("updated", "retried", "deleted")
#: The states of files without a job.
_WITHOUT_JOB: Final = ("refused", "unreadable", "skipped", "deleted", "planned")


@dataclass(slots=True)
class UploadResult:
    """The result for one file.

    Attributes:
        path: The file.
        outcome: `new`, `replaced`, `updated`, `unchanged` or `retried`, as the API says; `skipped` or
            `failed`; of a synchronization `deleted` too.
        state: The job's state; `refused`, `unreadable`, `skipped`, `planned` or `deleted` if there is none.
        reason: Why it was skipped.
        error: `{code, message, hint, stage?}` if the upload or the job failed.
        deduplicated: Whether the collection had the same bytes under the same id before.
        warnings: What of the file is not in its text.
    """

    path: str
    external_id: str = ""
    outcome: str = ""
    state: str = "uploading"
    file_id: str | None = None
    job_id: str | None = None
    deduplicated: bool = False
    reason: str | None = None
    error: dict[str, Any] | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        """Whether it is, or will be, what searches find."""
        return self.outcome not in ("skipped", "failed")

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return asdict(self)


def skipped(path: Path | str, reason: str, external_id: str = "") -> UploadResult:
    """Return the result of a file that is not sent."""
    shown = path if isinstance(path, str) else shown_path(path)
    return UploadResult(shown, external_id, outcome="skipped", state="skipped", reason=reason)


class Uploader:
    """One run of uploads into a collection.

    Invariant: `acknowledged` is the number of files that will be processed even if this process ends.
    """

    def __init__(self, api: Patience, collection: str, *, parallel: int, priority: str, quiet: bool) -> None:
        self._api = api
        self._collection = collection
        self._parallel = parallel
        self._priority = priority
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

    def run(self, planned: Sequence[Planned], *, wait: bool) -> list[UploadResult]:
        """Upload the files that are to be sent, and return the result for each, in their order.

        Raises:
            Problem: If the collection cannot be used.
            NotReachable: If the API is away for more than five minutes.
        """
        results = [self._begin(one) for one in planned]
        with self._progress, ThreadPoolExecutor(self._parallel) as pool:
            total = self._progress.add_task("all files", total=len(results), stage="")
            pending: set[Future[None]] = {
                pool.submit(self._upload, one, result)
                for one, result in zip(planned, results, strict=True)
                if result.state == "uploading"
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
                self._api.stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return results

    def _begin(self, planned: Planned) -> UploadResult:
        """Return the result as it is before anything is sent."""
        file, known = planned.file, planned.known
        if planned.step is Step.SKIP:
            return skipped(file.path, planned.reason, file.external_id)
        result = UploadResult(shown_path(file.path), file.external_id)
        if planned.step is Step.KEEP and known is not None:
            result.outcome, result.deduplicated = "unchanged", True
            result.file_id, result.job_id = known["id"], known["job_id"]
            result.state, result.warnings = known["state"], known["warnings"]
        return result

    def _upload(self, planned: Planned, result: UploadResult) -> None:
        file = planned.file
        form = {
            "external_id": file.external_id,
            "source": file.source,
            "name": file.name,
            "priority": self._priority,
        }
        try:
            answer = self._api.send(lambda: self._send(file.path, form))
        except Problem as exc:
            result.error = {"code": exc.code, "message": exc.message, "hint": exc.hint}
        except OSError as exc:
            reason = f"The file cannot be read: {exc.strerror}."
            result.error = {"code": "invalid_request", "message": reason, "hint": "Check its permissions."}
            self._end(result, "unreadable")
            return
        if result.error:
            self._end(result, "refused")
            return
        self.acknowledged += 1
        result.file_id, result.job_id = answer["file"]["id"], answer["job"]["id"]
        result.deduplicated = answer["deduplicated"]
        result.outcome = "new" if answer["outcome"] == "created" else answer["outcome"]
        self._update(result, answer["job"])

    def _send(self, path: Path, form: Mapping[str, str]) -> dict[str, Any]:
        url = path_to("collections", self._collection, "files")
        with path.open("rb") as file:
            # The name is in the form, where every character of it stays as it is.
            answer = self._api.client.request("POST", url, files={"file": ("file", file)}, data=form)
        return dict(answer.json())

    def _poll(self, results: list[UploadResult]) -> None:
        """Get the state of the oldest jobs that have not ended."""
        open_ = [one for one in results if one.job_id and one.state not in ENDED_STATES]
        for result in open_[:_POLLED_AT_ONCE]:
            try:
                self._update(result, self._api.get(path_to("jobs", result.job_id or "")))
            except Problem as exc:
                result.error = {"code": exc.code, "message": exc.message, "hint": exc.hint}
                self._end(result, "refused")

    def _update(self, result: UploadResult, job: dict[str, Any]) -> None:
        if job["state"] in ENDED_STATES:
            result.error = job["error"] if job["state"] != "completed" else None
            result.warnings = job["warnings"]
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
        if state != "completed":
            result.outcome = "failed"
        bar = self._bars.pop(result.path, None)
        if bar is not None:
            self._progress.remove_task(bar)
        if self._lines:
            reason = f": {result.error['code']}" if result.error else ""
            warned = f" ({describe_warnings(result.warnings)})" if result.warnings else ""
            say(f"{state}  {result.path}{reason}{warned}", err=True)


def summarize(results: Sequence[UploadResult], *, notes: Sequence[str], started: float) -> None:
    """Print how many files had each outcome and state, and everything that a person should know.

    Args:
        results: The results.
        notes: What was left out as it should be.
        started: When the run began, on the monotonic clock.
    """
    counts = Counter(result.outcome for result in results)
    named = [*_COUNTED, *(name for name in _ALSO_COUNTED if counts[name])]
    outcomes = ", ".join(f"{counts[name]} {name}" for name in named)
    states = Counter(result.state for result in results if result.state not in _WITHOUT_JOB)
    jobs = ", ".join(f"{count} {state}" for state, count in states.items())
    took = seconds(time.monotonic() - started)
    sys.stdout.write(f"{counted(len(results), 'file')}: {outcomes}{'; ' if jobs else ''}{jobs} in {took}\n")
    for note in notes:
        say(note)
    for result in results:
        if result.error:
            say(f"  {result.path}: {describe_error(result.error)}")
        elif result.state == "planned" and result.outcome != "unchanged":
            say(f"  {result.path}: {result.outcome}. {result.reason or ''}".rstrip(". ") + ".")
        elif result.reason:
            say(f"  {result.path}: {result.outcome}. {result.reason}")
        elif result.warnings:
            say(f"  {result.path}: {describe_warnings(result.warnings)}")


def _unfinished(results: Sequence[UploadResult]) -> int:
    return sum(result.state not in (*ENDED_STATES, *_WITHOUT_JOB) for result in results)
