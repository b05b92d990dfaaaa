"""Steps of `emberq openwebui import`: find files and knowledge base, show progress, print the results."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from emberq.cli.ingest.found import find_files
from emberq.cli.output import say

if TYPE_CHECKING:
    from emberq.openwebui.sidecar.client import OpenWebUIClient
    from emberq.openwebui.sidecar.file_import import ImportResult
    from emberq.openwebui.sidecar.importer import Importer
    from emberq.openwebui.sidecar.records import Knowledge


def find_paths(
    folder: Path, *, include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[str], list[ImportResult]]:
    """Return the sorted paths of a folder's files, relative to it, without hidden ones.

    What cannot be taken is returned with the reason: a name that is not UTF-8, a folder that cannot be read.

    Args:
        folder: The folder.
        include: Patterns; a file is included if its path or name matches one, or if there are none.
        exclude: Patterns; a file is left out if its path or name matches one.
    """
    from emberq.openwebui.sidecar.file_import import ImportResult

    def is_wanted(path: str) -> bool:
        return (not include or _matches(path, include)) and not _matches(path, exclude)

    found = find_files([folder], recursive=True, prefix="folder")
    paths = sorted(file.path.relative_to(folder).as_posix() for file in found.files)
    refused = [
        ImportResult(path, "failed", reason=reason) for path, reason in found.not_taken if is_wanted(path)
    ]
    return [path for path in paths if is_wanted(path)], refused


def find_knowledge(client: OpenWebUIClient, name: str, *, create: bool) -> Knowledge:
    """Return the knowledge base with a name or id; with `create`, create it if it does not exist.

    Raises:
        InvalidRequest: If it does not exist, several have the name, or it is external.
    """
    from emberq.errors import InvalidRequest

    found = client.knowledge_named(name)
    if not found and create:
        return client.create_knowledge(name)
    if not found:
        raise InvalidRequest(f"There is no knowledge base named {name!r}.", hint="--create creates it.")
    if len(found) > 1:
        ids = ", ".join(knowledge.id for knowledge in found)
        raise InvalidRequest(
            f"There are several knowledge bases named {name!r}.", hint=f"Name one by its id: {ids}"
        )
    if found[0].is_external:
        raise InvalidRequest(
            f"{name!r} searches another database and has no files.", hint="Name another knowledge base."
        )
    return found[0]


def run_import(importer: Importer, paths: Sequence[str], *, quiet: bool) -> list[ImportResult]:
    """Run an import under a progress bar on stderr; Ctrl-C and SIGTERM stop it gracefully."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: importer.stop.set())
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet or not sys.stderr.isatty(),
    )
    with progress:
        bar = progress.add_task("files", total=len(paths))
        importer.on_result = lambda _: progress.advance(bar)
        return importer.run(paths)


def summarize(results: Sequence[ImportResult]) -> None:
    """Print the number of files in each state, and each reason."""
    states = Counter(result.state.replace("_", " ") for result in results)
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    sys.stdout.write(f"{len(results)} files: {counts}\n")
    for result in results:
        if result.reason:
            say(f"  {result.state.replace('_', ' ')}  {result.path}: {result.reason}")


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) or fnmatch(path.rsplit("/", 1)[-1], pattern) for pattern in patterns)
