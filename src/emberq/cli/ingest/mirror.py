"""Deletions of a synchronization: what a collection has from a folder, and the folder has no longer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import typer

from emberq.cli.client import Problem, path_to
from emberq.cli.ingest.found import Found, is_shortened, shown_path
from emberq.cli.ingest.run import Run, show_paths
from emberq.cli.ingest.upload import UploadResult, skipped
from emberq.cli.output import counted

#: Deletions of more files than this, and of more than half of a folder's files, need a person's consent.
_FEW: Final = 10


def delete_gone(
    run: Run,
    folder: Path,
    source: str | None,
    found: Found,
    uploaded: Sequence[UploadResult],
    *,
    wanted: bool,
    yes: bool,
    notes: list[str],
) -> list[UploadResult]:
    """Delete the files of a source that are gone from its folder, and return the result for each.

    A file is gone if the collection has it from this source, and nothing lies at its path. Nothing is deleted
    if no file was found at all, or something could not be read: a disk may be missing.

    Args:
        run: The run, after the uploads.
        folder: The folder.
        source: The source of the folder's files; None if they cannot be taken.
        found: What was found in it.
        uploaded: The results of the uploads.
        wanted: Whether deletions were asked for.
        yes: Whether a person need not confirm them.
        notes: Gets a sentence if there is something to delete and it was not asked for.
    """
    gone, stored = _find_gone(run, folder, source, found) if source is not None else ([], 0)
    if not gone:
        return []
    paths = [shown_path(path) for path, _ in gone]
    reason = ""
    if not found.files:
        reason = (
            "The folder has no files: a disk may be missing. Delete the files or the collection yourself."
        )
    elif not found.is_complete or any(result.state == "unreadable" for result in uploaded):
        reason = "Nothing is deleted while something of the folder cannot be read."
    elif not wanted:
        notes.append(
            f"{counted(len(gone), 'file')} of the collection gone from the folder; --delete deletes them."
        )
        return []
    if reason:
        return [
            skipped(path, reason, file["external_id"]) for path, (_, file) in zip(paths, gone, strict=True)
        ]
    if not run.is_quiet:
        show_paths(f"Gone from the folder, and deleted: {len(gone)} of {counted(stored, 'file')}:", paths)
    if run.dry_run:
        return [_deleted(path, file, "planned") for path, file in gone]
    if not yes and not _may_delete(run, len(gone), stored):
        reason = "Not deleted; --yes deletes it without a question."
        return [
            skipped(path, reason, file["external_id"]) for path, (_, file) in zip(paths, gone, strict=True)
        ]
    return [_delete(run, path, file) for path, file in gone]


def _may_delete(run: Run, gone: int, stored: int) -> bool:
    """Ask the person at the terminal; without one, most of a folder is not deleted."""
    if run.may_ask:
        return typer.confirm("Delete them?", err=True)
    return gone <= _FEW or gone * 2 <= stored


def _find_gone(
    run: Run, folder: Path, source: str, found: Found
) -> tuple[list[tuple[Path, dict[str, Any]]], int]:
    """Return path and file of what is gone, and how many files the collection has from the source."""
    there = {file.external_id for file in found.files}
    gone, stored = [], 0
    path_of_files = path_to("collections", run.collection, "files")
    cursor: str | None = None
    while True:
        try:
            page = run.api.get(path_of_files, source=source, limit=200, cursor=cursor)
        except Problem as exc:
            if exc.code == "collection_not_found" and run.dry_run:
                return [], 0
            raise
        for file in page["items"]:
            below = _below(file["external_id"], source)
            if below is None:
                continue
            stored += 1
            # By its bytes, whatever encoding the locale has.
            path = folder / os.fsdecode(str(below).encode())
            if file["external_id"] not in there and _is_gone(path):
                gone.append((path, file))
        cursor = page["next_cursor"]
        if cursor is None:
            return gone, stored


def _below(external_id: str, source: str) -> PurePosixPath | None:
    """Return the path below the source that an id contains, if it does."""
    start = f"{source}/"
    if not external_id.startswith(start) or is_shortened(external_id):
        return None
    below = PurePosixPath(external_id.removeprefix(start))
    return None if below.is_absolute() or ".." in below.parts or not below.parts else below


def _is_gone(path: Path) -> bool:
    """Return whether there is nothing at a path, as far as that can be known."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _delete(run: Run, path: Path, file: dict[str, Any]) -> UploadResult:
    # It may have come back since the listing.
    if not _is_gone(path):
        return skipped(path, "It is there again; the next run takes it.", file["external_id"])
    try:
        run.api.send(lambda: run.api.client.request("DELETE", path_to("files", file["id"])))
    except Problem as exc:
        if exc.code != "file_not_found":
            failed = _deleted(path, file, "refused")
            failed.outcome = "failed"
            failed.error = {"code": exc.code, "message": exc.message, "hint": exc.hint}
            return failed
    return _deleted(path, file, "deleted")


def _deleted(path: Path, file: dict[str, Any], state: str) -> UploadResult:
    result = UploadResult(shown_path(path), file["external_id"], outcome="deleted", state=state)
    result.file_id = file["id"]
    return result
