"""`emberq openwebui import`: a folder into a knowledge base, with a bar that shows how far it is."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from emberq.openwebui.sidecar.client import OpenWebUIClient
    from emberq.openwebui.sidecar.importer import Importer, ImportResult
    from emberq.openwebui.sidecar.records import Knowledge

__all__ = ["find_paths", "resolve_knowledge", "run_import", "summarize"]


def find_paths(folder: Path, *, include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Return the paths of a folder's files below it, in order; hidden ones are left out.

    Args:
        folder: The folder.
        include: Patterns of which a path or a name has to match one, if there are any.
        exclude: Patterns of which none may match.
    """
    found = []
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in below.parts):
            continue
        name = below.as_posix()
        if (not include or _matches(name, include)) and not _matches(name, exclude):
            found.append(name)
    return found


def resolve_knowledge(client: OpenWebUIClient, name: str, *, create: bool) -> Knowledge:
    """Return the knowledge base of a name or id.

    Raises:
        InvalidRequest: If there is none and it shall not be made, there are several, or it is external.
    """
    from emberq.errors import InvalidRequest

    found = client.knowledge_named(name)
    if not found and create:
        return client.create_knowledge(name)
    if not found:
        raise InvalidRequest(f"There is no knowledge base named {name!r}.", hint="--create makes it.")
    if len(found) > 1:
        ids = ", ".join(one.id for one in found)
        raise InvalidRequest(
            f"There are several knowledge bases named {name!r}.", hint=f"Name one by its id: {ids}"
        )
    if found[0].is_external:
        raise InvalidRequest(
            f"{name!r} only searches another database.", hint="Name a knowledge base with files of its own."
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
        importer.tell = lambda _: progress.advance(bar)
        return importer.run(paths)


def summarize(outcomes: Sequence[ImportResult]) -> None:
    """Print how many files came to which end, and for the others than the good ones, why."""
    counted = Counter(outcome.state for outcome in outcomes)
    sys.stdout.write(f"{len(outcomes)} files: " + ", ".join(_words(counted.items())) + "\n")
    for outcome in outcomes:
        if outcome.reason:
            sys.stdout.write(f"  {outcome.state.replace('_', ' ')}  {outcome.path}: {outcome.reason}\n")


def _words(counted: Iterable[tuple[str, int]]) -> list[str]:
    return [f"{number} {state.replace('_', ' ')}" for state, number in counted]


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) or fnmatch(path.rsplit("/", 1)[-1], pattern) for pattern in patterns)
