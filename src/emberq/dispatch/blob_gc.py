"""The garbage collector of the blob store, a few blobs at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from emberq.store.files.blob_gc import (
    delete_abandoned_drafts,
    delete_unreferenced_blobs,
    old_blobs,
    prefixes,
    restore_discarded_blobs,
)
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Seconds for which unreferenced bytes, and the draft of a dead process, are kept.
_GRACE_SECONDS = 3600.0
#: Seconds after which a run ends: the same thread also renews the host's lease, every two seconds.
_RUN_SECONDS = 0.5
#: Blobs looked up at once; each that is deleted takes three short statements.
_BATCH = 50


class BlobGarbageCollector:
    """Walks through the blob store, a little in each run, and starts again at its end.

    Any number of collectors may run side by side: see `emberq.store.files.blob_gc`.
    """

    def __init__(
        self,
        services: Services,
        *,
        grace_seconds: float = _GRACE_SECONDS,
        run_seconds: float = _RUN_SECONDS,
    ) -> None:
        self._services = services
        self._grace_seconds = grace_seconds
        self._run_seconds = run_seconds
        self._walk = self._batches()

    def run(self) -> int:
        """Continue for a while and return how many drafts and blobs were deleted.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
            StorageUnavailable: If the blob store does not work.
        """
        deadline = time.monotonic() + self._run_seconds
        database, store, grace = self._services.database, self._services.blobs, self._grace_seconds
        drafts = delete_abandoned_drafts(store, older_than_seconds=grace)
        restored = restore_discarded_blobs(database, store, older_than_seconds=grace)
        blobs = 0
        for batch in self._walk:
            blobs += delete_unreferenced_blobs(database, store, batch, older_than_seconds=grace)
            if time.monotonic() > deadline:
                break
        else:
            self._walk = self._batches()
        if drafts or blobs or restored:
            log.info("blobs_garbage_collected", drafts=drafts, blobs=blobs, restored=restored)
        return drafts + blobs

    def _batches(self) -> Iterator[Sequence[str]]:
        store = self._services.blobs
        for prefix in prefixes(store):
            hashes = old_blobs(store, prefix, older_than_seconds=self._grace_seconds)
            for start in range(0, len(hashes), _BATCH):
                yield hashes[start : start + _BATCH]
