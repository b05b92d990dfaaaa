"""The plan of an import: compares a folder with the files on the server. Decides only, sends no requests.

Invariant: when the steps are done, the knowledge base has each content of the folder exactly once, under
the path of its import, however often earlier imports were interrupted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from emberq.openwebui.sidecar.records import StoredFile

#: Which of several uploads of the same file is kept: the one whose status has the lowest rank.
_RANKS = {"completed": 1, "processing": 2, "pending": 3, "failed": 4, "none": 5}


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of the folder.

    Attributes:
        path: Its path below the folder, with slashes.
        sha256: sha256 of its bytes.
    """

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Step:
    """The step for one file of the folder.

    Attributes:
        local: The file.
        action: `already_there`: nothing to do. `same_content`: nothing to do, because the knowledge base has
            or will have the same bytes under another name. `upload`. `follow`: wait for the end of an
            earlier upload. `reprocess`: an earlier upload failed or was never processed. `link`: uploaded
            and processed, but not yet linked.
        upload: The earlier upload, if there is one.
        same_as: For `same_content`: the other name.
        outdated: Uploads of the same path with other bytes, deleted after this file's import.
    """

    local: LocalFile
    action: Literal["already_there", "same_content", "upload", "follow", "reprocess", "link"]
    upload: StoredFile | None = None
    same_as: str = ""
    outdated: tuple[StoredFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of an import.

    Attributes:
        steps: One step for each file of the folder, in the folder's order.
        duplicates: Redundant uploads of a file, each with the id of the upload that is kept.
    """

    steps: tuple[Step, ...]
    duplicates: tuple[tuple[StoredFile, str], ...]


def make_plan(
    folder: Sequence[LocalFile], own: Iterable[StoredFile], linked: Iterable[StoredFile], knowledge_id: str
) -> Plan:
    """Decide what to do for each file of a folder.

    Args:
        folder: The folder's files.
        own: The importing account's files on the server.
        linked: The files linked to the knowledge base, of all accounts.
        knowledge_id: The knowledge base.
    """
    uploads: dict[str, list[StoredFile]] = defaultdict(list)
    for file in own:
        if file.import_path and file.knowledge_id == knowledge_id:
            uploads[file.import_path].append(file)
    linked = list(linked)
    linked_ids = {file.id for file in linked}
    outdated_ids = {
        file.id for local in folder for file in uploads[local.path] if file.import_sha256 != local.sha256
    }
    present = {
        file.bytes_hash: file.name for file in linked if file.bytes_hash and file.id not in outdated_ids
    }
    planned: dict[str, str] = {}
    steps: list[Step] = []
    duplicates: list[tuple[StoredFile, str]] = []
    for local in folder:
        same = [file for file in uploads[local.path] if file.import_sha256 == local.sha256]
        same.sort(key=lambda file: (file.id not in linked_ids, _RANKS[file.status], file.created_at, file.id))
        outdated = tuple(file for file in uploads[local.path] if file.id in outdated_ids)
        if same:
            kept = same[0]
            duplicates += [(file, kept.id) for file in same[1:]]
            action = _action(kept, is_linked=kept.id in linked_ids)
            steps.append(Step(local, action, kept, outdated=outdated))
            planned.setdefault(local.sha256, local.path)
        elif same_as := present.get(local.sha256) or planned.get(local.sha256):
            steps.append(Step(local, "same_content", same_as=same_as, outdated=outdated))
        else:
            steps.append(Step(local, "upload", outdated=outdated))
            planned[local.sha256] = local.path
    return Plan(tuple(steps), tuple(duplicates))


def _action(
    upload: StoredFile, *, is_linked: bool
) -> Literal["already_there", "follow", "reprocess", "link"]:
    if is_linked:
        return "already_there"
    if upload.status == "completed":
        return "link"
    return "follow" if upload.status in ("pending", "processing") else "reprocess"
