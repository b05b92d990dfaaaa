"""What an upload of found files will do: which are new, unchanged, or replace what the collection has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from emberq.cli.client import Problem, path_to
from emberq.cli.ingest.found import FoundFile, digest, shown_path
from emberq.cli.ingest.patience import Patience
from emberq.store.schema.job_states import LIVE_STATES, JobState

#: Most ids of one request, and most characters of them in its address.
_IDS, _ID_CHARACTERS = 50, 8000
#: States of files that need no other upload of the same bytes.
_FINE: Final = (*LIVE_STATES, JobState.COMPLETED)


class Step(StrEnum):
    """What to do with a file."""

    #: Send it; the collection has no file with its id.
    ADD = "add"
    #: Send it; the collection has other bytes under its id.
    REPLACE = "replace"
    #: Send it; the collection has these bytes, but another name, source or a failed job.
    UPDATE = "update"
    #: Do not send it; the collection has it.
    KEEP = "keep"
    #: Do not send it; another file of the run has the same id.
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Planned:
    """A file and what to do with it.

    Attributes:
        file: The file.
        step: What to do.
        known: The file of the collection with its id, as the API shows it.
        reason: Why it is skipped.
    """

    file: FoundFile
    step: Step
    known: Mapping[str, Any] | None = None
    reason: str = ""


def ensure_collection(api: Patience, collection: str, *, make: bool) -> bool:
    """Return whether there was the collection; make it if there is none and that is wanted.

    Raises:
        Problem: If it cannot be used or made.
    """
    try:
        api.get(path_to("collections", collection))
    except Problem as exc:
        if exc.code != "collection_not_found":
            raise
        if make:
            api.send(lambda: api.client.request("POST", "/collections", json={"name": collection}))
        return False
    return True


def make_plan(
    api: Patience | None, collection: str, files: Sequence[FoundFile], *, parallel: int
) -> list[Planned]:
    """Compare found files with a collection; the plan has their order.

    Args:
        api: Where the collection is; None if there is none yet.
        collection: Its name.
        files: The files.
        parallel: Number of files to read and requests to send at the same time.

    Raises:
        Problem: If the collection cannot be read.
    """
    first: dict[str, FoundFile] = {}
    for file in files:
        first.setdefault(file.external_id, file)
    with ThreadPoolExecutor(parallel) as pool:
        answers: Iterable[list[dict[str, Any]]] = ()
        if api is not None:
            answers = pool.map(partial(_known, api, collection), list(_batches(first)))
        known = {file["external_id"]: file for answer in answers for file in answer}
        steps = pool.map(lambda file: _compare(file, known.get(file.external_id)), first.values())
        planned = dict(zip(first, steps, strict=True))
    return [
        planned[file.external_id]
        if first[file.external_id] is file
        else Planned(file, Step.SKIP, reason=_same_id(file, first[file.external_id]))
        for file in files
    ]


def _compare(file: FoundFile, known: Mapping[str, Any] | None) -> Planned:
    if known is None:
        return Planned(file, Step.ADD)
    try:
        is_same = digest(file.path) == known["sha256"]
    except OSError:
        # Its upload will fail for the same reason, and say so.
        return Planned(file, Step.UPDATE, known)
    if not is_same:
        return Planned(file, Step.REPLACE, known)
    is_fine = known["state"] in _FINE and (known["name"], known["source"]) == (file.name, file.source)
    return Planned(file, Step.KEEP if is_fine else Step.UPDATE, known)


def _known(api: Patience, collection: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    path = path_to("collections", collection, "files")
    found: list[dict[str, Any]] = api.get(path, external_id=list(ids), limit=len(ids))["items"]
    return found


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for one in ids:
        length = len(quote(one, safe=""))
        if batch and (len(batch) == _IDS or size + length > _ID_CHARACTERS):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += length
    if batch:
        yield batch


def _same_id(file: FoundFile, first: FoundFile) -> str:
    return f"It has the same id as {shown_path(first.path)}: {file.external_id}"
