"""What an import has to do, from what is in the folder and what the server has: decisions without requests.

Invariant: once the steps are done, the knowledge base has each content of the folder exactly once, under the
path it was brought in by, however often the import was cut off before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from emberq.openwebui.sidecar.records import StoredFile

__all__ = ["LocalFile", "Plan", "Step", "make_plan"]

#: Which of several uploads of the same file is kept, the first first.
_RANKS = {"completed": 1, "processing": 2, "pending": 3, "failed": 4, "none": 5}


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the folder.

    Attributes:
        path: Its path below the folder, with slashes.
        sha256: Of its bytes.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to do for one file of the folder.

    Attributes:
        local: The file.
        act: `present`: nothing. `same`: nothing, as other bytes like these are or will be there. `upload`.
            `follow`: an earlier upload that the server may be at work on. `again`: one that failed, or was
            never processed. `link`: one that only its place in the knowledge base is missing of.
        file: The earlier upload.
        twin: For `same`: the name of the one with the same bytes.
        outdated: Uploads of the same path with other bytes, to be deleted once this one is there.
    """

    local: LocalFile
    act: Literal["present", "same", "upload", "follow", "again", "link"]
    file: StoredFile | None = None
    twin: str = ""
    outdated: tuple[StoredFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps, one for each file of the folder in its order, and uploads that are there twice.

    Attributes:
        steps: What to do for each file.
        extras: Further uploads of what a step keeps, each with the id of the one that is kept.
    """

    steps: tuple[Step, ...]
    extras: tuple[tuple[StoredFile, str], ...]


def make_plan(
    folder: Sequence[LocalFile], mine: Iterable[StoredFile], linked: Iterable[StoredFile], knowledge_id: str
) -> Plan:
    """Decide what to do for each file of a folder.

    Args:
        folder: The folder's files.
        mine: The importing account's files.
        linked: The files in the knowledge base, whoever uploaded them.
        knowledge_id: The knowledge base.
    """
    by_path: dict[str, list[StoredFile]] = defaultdict(list)
    for file in mine:
        if file.import_path and file.knowledge_id == knowledge_id:
            by_path[file.import_path].append(file)
    linked = list(linked)
    linked_ids = {file.id for file in linked}
    outdated_ids = {
        file.id for one in folder for file in by_path[one.path] if file.import_sha256 != one.sha256
    }
    there = {file.bytes_hash: file.name for file in linked if file.bytes_hash and file.id not in outdated_ids}
    coming: dict[str, str] = {}
    steps: list[Step] = []
    extras: list[tuple[StoredFile, str]] = []
    for one in folder:
        same = [file for file in by_path[one.path] if file.import_sha256 == one.sha256]
        same.sort(key=lambda file: (file.id not in linked_ids, _RANKS[file.status], file.created_at, file.id))
        outdated = tuple(file for file in by_path[one.path] if file.id in outdated_ids)
        if same:
            kept = same[0]
            extras += [(file, kept.id) for file in same[1:]]
            steps.append(Step(one, _act(kept, is_linked=kept.id in linked_ids), kept, outdated=outdated))
            coming.setdefault(one.sha256, one.path)
        elif twin := there.get(one.sha256) or coming.get(one.sha256):
            steps.append(Step(one, "same", twin=twin, outdated=outdated))
        else:
            steps.append(Step(one, "upload", outdated=outdated))
            coming[one.sha256] = one.path
    return Plan(tuple(steps), tuple(extras))


def _act(file: StoredFile, *, is_linked: bool) -> Literal["present", "follow", "again", "link"]:
    if is_linked:
        return "present"
    if file.status == "completed":
        return "link"
    return "follow" if file.status in ("pending", "processing") else "again"
