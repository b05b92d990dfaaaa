"""The files of folders, each with the external id that the chosen rule gives it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from emberq.cli.output import counted
from emberq.visible import visible

#: Most bytes of an external id; the API has the same limit.
_MOST_ID_BYTES: Final = 2000


class IdRule(StrEnum):
    """What a file's external id is made of."""

    PATH = "path"
    HASH = "hash"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to upload.

    Attributes:
        path: Where it lies.
        name: Its name, for people.
        external_id: What identifies it in a collection.
        source: The root that it was found in.
    """

    path: Path
    name: str
    external_id: str
    source: str


@dataclass(slots=True)
class Found:
    """What was found.

    Attributes:
        files: The files to upload.
        not_taken: Path and reason of each file and folder that cannot be taken.
        subfolders: Folders left out because the search was not recursive.
        hidden: Files and folders left out because their names begin with a dot.
        links: Links to folders, which are not followed.
        is_complete: Whether every folder could be read.
    """

    files: list[FoundFile] = field(default_factory=list)
    not_taken: list[tuple[str, str]] = field(default_factory=list)
    subfolders: int = 0
    hidden: int = 0
    links: int = 0
    is_complete: bool = True

    def notes(self) -> list[str]:
        """Return what was left out as it should be, in sentences."""
        notes = []
        if self.subfolders:
            notes.append(f"{counted(self.subfolders, 'subfolder')} left out; use --recursive.")
        if self.hidden:
            notes.append(
                f"{counted(self.hidden, 'hidden file or folder', 'hidden files and folders')} left out."
            )
        if self.links:
            notes.append(f"{counted(self.links, 'linked folder')} left out; give them by their own paths.")
        return notes


def shown_path(path: Path) -> str:
    r"""Return a path as text for people and JSON: bytes that are not UTF-8 as `\xNN`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def root_id(root: Path, prefix: str | None) -> str:
    """Return what begins the external ids of a root: the prefix, or the host and the real path."""
    if prefix:
        return prefix
    return f"{socket.gethostname()}:{os.path.realpath(root)}".rstrip("/")


def source_of(root: Path, prefix: str | None) -> str | None:
    """Return the source that the files of a root have in a collection; None if they cannot be taken."""
    try:
        return _shortened(os.fsencode(root_id(root, prefix)).decode())
    except UnicodeDecodeError:
        return None


def find_files(
    paths: Sequence[Path], *, recursive: bool, rule: IdRule = IdRule.PATH, prefix: str | None = None
) -> Found:
    """Return the files to upload, each once, and what of the paths cannot be taken.

    Hidden files and folders inside a folder are left out; a file given by its own path is always included.

    Args:
        paths: Files, and folders, which are the roots of their files.
        recursive: Whether files of subfolders are included.
        rule: What the external ids are made of. `path`: the root's id and the path below the root; a file
            that is given by itself has the root that it lies in.
        prefix: Begins all ids; with the rule `path` in place of the root's host and path.
    """
    found = Found()
    seen: set[str] = set()
    for path in paths:
        root = path.parent if path.is_file() else path
        source = root_id(root, prefix)
        below = iter([path]) if path.is_file() else _walk(path, found, recursive=recursive)
        for file in below:
            real = os.path.join(os.path.realpath(file.parent), file.name)  # noqa: PTH118 - a link stays a link
            if real in seen:
                continue
            seen.add(real)
            try:
                _add(found, file, source, file.relative_to(root).as_posix(), rule=rule, prefix=prefix)
            except OSError as exc:
                found.not_taken.append((shown_path(file), f"It cannot be read: {exc.strerror}."))
                found.is_complete = False
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(found: Found, file: Path, source: str, below: str, *, rule: IdRule, prefix: str | None) -> None:
    start = f"{prefix}/" if prefix else ""
    if rule is IdRule.PATH:
        external_id = f"{source}/{below}"
    else:
        external_id = start + (digest(file) if rule is IdRule.HASH else file.name)
    try:
        # The bytes of the names count, whatever encoding the locale has.
        name, external_id, source = (os.fsencode(one).decode() for one in (file.name, external_id, source))
    except UnicodeDecodeError:
        found.not_taken.append((shown_path(file), "Its name or path is not valid UTF-8; rename it."))
        return
    found.files.append(FoundFile(file, name, _shortened(external_id), _shortened(source)))


def _shortened(external_id: str) -> str:
    """Return an id that is not too long: of a longer one the beginning and the hash of the whole."""
    data = external_id.encode()
    if len(data) <= _MOST_ID_BYTES:
        return external_id
    mark = f"…{hashlib.sha256(data).hexdigest()}"
    return data[: _MOST_ID_BYTES - len(mark.encode())].decode(errors="ignore") + mark


def is_shortened(external_id: str) -> bool:
    """Return whether an id may be one of those whose path was too long."""
    return len(external_id.encode()) > _MOST_ID_BYTES - 4


def _walk(root: Path, found: Found, *, recursive: bool) -> Iterator[Path]:
    """Yield a folder's files in order, and note what is left out and what cannot be read."""
    folders = [root]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as exc:
            found.not_taken.append((shown_path(folder), f"The folder cannot be read: {exc.strerror}."))
            found.is_complete = False
            continue
        below: list[Path] = []
        for entry in listed:
            if entry.name.startswith("."):
                found.hidden += 1
            elif _is_folder(entry):
                if entry.is_symlink():
                    found.links += 1
                elif recursive:
                    below.append(folder / entry.name)
                else:
                    found.subfolders += 1
            elif (reason := _reason_not_to_take(entry)) is not None:
                found.not_taken.append((shown_path(folder / entry.name), reason))
            else:
                yield folder / entry.name
        folders += reversed(below)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _reason_not_to_take(entry: os.DirEntry[str]) -> str | None:
    try:
        if entry.is_file():
            return None
    except OSError as exc:
        return f"It cannot be read: {exc.strerror}."
    return "It is a link that leads nowhere." if entry.is_symlink() else "It is no regular file."


def describe_rule(paths: Sequence[Path], *, rule: IdRule, prefix: str | None) -> str:
    """Return in a sentence what the external ids are."""
    start = f"{prefix}/" if prefix else ""
    match rule:
        case IdRule.NAME:
            ids = f"{start}NAME, the files' names"
        case IdRule.HASH:
            ids = f"{start}HASH, the SHA-256 of the files' bytes"
        case IdRule.PATH:
            roots = dict.fromkeys(root_id(path.parent if path.is_file() else path, prefix) for path in paths)
            ids = ", ".join(f"{root}/PATH" for root in roots)
    return visible(f"External ids: {ids}.")
