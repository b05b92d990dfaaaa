"""One attempt at one file, and the attempt that this process runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from emberq.errors import Cancelled, EmberqError
from emberq.openwebui.worker.rows import OpenWebUIFileRows
from emberq.worker.job.progress import progress

#: Seconds between two checks that the attempt still owns its file.
_CHECK_SECONDS = 1.0

#: The attempt that this process runs; a horse runs one job at a time.
_current: FileAttempt | None = None


class FileAttempt:
    """One attempt at one file.

    Attributes:
        id: The attempt's id, written to the file's row.
        file_id: The file.
        rows: The rows of files.
        tenant: The tenant whose embedding settings are used; None for Open WebUI's own.
        stage: The current stage: `extracting`, `embedding` or `storing`.
        chunks: Number of chunks stored so far.
        has_started: Whether the attempt has become the file's owner.
        failure: The first error of ours, before Open WebUI turned it into text.
    """

    def __init__(
        self, attempt_id: str, file_id: str, rows: OpenWebUIFileRows, *, tenant: str | None = None
    ) -> None:
        self.id = attempt_id
        self.file_id = file_id
        self.rows = rows
        self.tenant = tenant
        self.stage = "extracting"
        self.chunks = 0
        self.has_started = False
        self.failure: EmberqError | None = None
        self._is_cancelled = False
        self._checked_at = 0.0
        self._lock = threading.Lock()

    def report(self, done: int, total: int, stage: str) -> None:
        """Report progress; thread-safe."""
        with self._lock:
            self.stage = stage
            progress(done, total, stage=stage)

    def cancel(self) -> None:
        """Make every further `check_owner` raise."""
        self._is_cancelled = True

    def check_owner(self, *, now: bool = False) -> None:
        """Check about once a second that the attempt owns its file.

        Args:
            now: Check even if that was done less than a second ago.

        Raises:
            Cancelled: If the attempt was cancelled, the file was deleted, or another attempt has started.
        """
        if self._is_cancelled:
            raise Cancelled(file_id=self.file_id)
        if now or self.is_check_due:
            # Set before the query, so that concurrent callers do not query as well.
            self._checked_at = time.monotonic()
            self.rows.check_owner(self.file_id, self.id)

    @property
    def is_check_due(self) -> bool:
        """Whether `check_owner` would query the database, or raise."""
        return self._is_cancelled or time.monotonic() - self._checked_at > _CHECK_SECONDS

    @contextlib.contextmanager
    def recording_failure(self) -> Iterator[None]:
        """Record the block's error in `failure`, because Open WebUI passes on only its text.

        An error caused by `cancel` is not recorded: it does not say why the attempt was cancelled.
        """
        try:
            yield
        except EmberqError as exc:
            if not self._is_cancelled:
                self.failure = self.failure or exc
            raise


def current_attempt() -> FileAttempt | None:
    """Return the attempt that this process runs; None between jobs."""
    return _current


@contextlib.contextmanager
def running(attempt: FileAttempt) -> Iterator[None]:
    """Make an attempt the current one for the length of the block."""
    global _current  # noqa: PLW0603 - one per process is the point
    _current = attempt
    try:
        yield
    finally:
        _current = None
