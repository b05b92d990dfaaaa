"""Collecting: what uploads, deletions and dead processes left in the blob store goes, a little at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from emberq.store.files.blob_gc import collect_blobs, collect_drafts, old_blobs, prefixes, restore_discarded
from emberq.store.services import Services
from emberq.telemetry.logs import get_logger

__all__ = ["BlobGarbageCollector"]

log = get_logger(__name__)

#: Seconds that bytes nobody refers to are kept, and that a dead process's draft is.
_GRACE_SECONDS = 3600.0
#: Seconds one turn may take: the same thread beats for the host's lease, every two seconds.
_TURN_SECONDS = 0.5
#: Blobs looked up at once; each that goes takes three short statements.
_BATCH = 50


class BlobGarbageCollector:
    """Walks through the blob store, turn by turn, from its beginning again after its end.

    Any number of them may walk side by side: see `emberq.store.files.blob_gc`.
    """

    def __init__(self, services: Services, *, grace_seconds: float = _GRACE_SECONDS) -> None:
        """Begin at the beginning.

        Args:
            services: The blobs, and the database that knows which are needed.
            grace_seconds: How long what nobody refers to is kept.
        """
        self._services = services
        self._grace_seconds = grace_seconds
        self._walk = self._batches()

    def turn(self) -> int:
        """Go on for a while and return how many drafts and blobs were deleted.

        Raises:
            DatabaseUnavailable: If PostgreSQL does not answer.
            StorageUnavailable: If the blob store does not work.
        """
        deadline = time.monotonic() + _TURN_SECONDS
        database, store, grace = self._services.database, self._services.blobs, self._grace_seconds
        drafts = collect_drafts(store, older_than_seconds=grace)
        restored = restore_discarded(database, store, older_than_seconds=grace)
        blobs = 0
        for batch in self._walk:
            blobs += collect_blobs(database, store, batch, older_than_seconds=grace)
            if time.monotonic() > deadline:
                break
        else:
            self._walk = self._batches()
        if drafts or blobs or restored:
            log.info("orphans_collected", drafts=drafts, blobs=blobs, restored=restored)
        return drafts + blobs

    def _batches(self) -> Iterator[Sequence[str]]:
        store = self._services.blobs
        for prefix in prefixes(store):
            hashes = old_blobs(store, prefix, older_than_seconds=self._grace_seconds)
            for start in range(0, len(hashes), _BATCH):
                yield hashes[start : start + _BATCH]
