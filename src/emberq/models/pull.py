"""Pulling a model: it is downloaded, checked, moved into place and given its graph."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from emberq.errors import EmbeddingUnavailable
from emberq.models.files import (
    MANIFEST,
    MODEL_FILES,
    ModelFiles,
    build_graph,
    find_model,
    hash_files,
    is_local,
    model_home,
    sha256_of,
    verify_model,
)
from emberq.models.pins import ALIASES, DEFAULT_MODEL, PINNED, Repository
from emberq.models.sources import fetch_from_hub, fetch_pinned
from emberq.system.file_lock import locked_file

_OFFLINE_FLAGS = ("EMBERQ_OFFLINE", "HF_HUB_OFFLINE")


def pull_model(
    name: str = DEFAULT_MODEL,
    *,
    directory: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ModelFiles:
    """Make a model ready on this machine; does nothing if its files are there and undamaged.

    Safe to run in several processes at once: one downloads, the others wait for it.

    Args:
        name: As in `find_model`. For a path, only the graph is built.
        directory: The folder of pulled models; `models_dir()` if not given.
        progress: Called with one line of text as each step begins.

    Raises:
        EmbeddingUnavailable: If no source has the model, `EMBERQ_OFFLINE` or `HF_HUB_OFFLINE` forbids
            downloads, or the files cannot be stored.
    """
    say = progress or (lambda _: None)
    name = ALIASES.get(name, name)
    home = model_home(name, directory)
    if is_local(name):
        build_graph(find_model(name))
        return find_model(name)
    # Without the lock first: it cannot be taken where the folder is read-only, as in an image.
    found = _find_undamaged(name, home.parent, say)
    if found is not None and found.graph.is_file():
        return found
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(home.with_name(f".{home.name}.lock"), mode=0o666):
            files = _find_undamaged(name, home.parent, say) or _install(name, home, say)
            build_graph(files)
    except OSError as exc:
        raise EmbeddingUnavailable(f"The model {name} cannot be stored in {home.parent}: {exc}.") from exc
    return files


def _find_undamaged(name: str, root: Path, say: Callable[[str], None]) -> ModelFiles | None:
    try:
        files = find_model(name, directory=root)
        say(f"Checking {name}")
        verify_model(files)
    except EmbeddingUnavailable:
        return None
    return files


def _install(name: str, home: Path, say: Callable[[str], None]) -> ModelFiles:
    """Download into a folder beside the final one, check the files, and rename the folder."""
    switched_off = [
        flag for flag in _OFFLINE_FLAGS if os.environ.get(flag, "").lower() in {"1", "true", "yes", "on"}
    ]
    if switched_off:
        raise EmbeddingUnavailable(
            f"The model {name} is not on this machine, and {switched_off[0]} forbids downloads.",
            hint=f"Unset {switched_off[0]}, or copy the model's folder to {home}.",
        )
    for leftover in home.parent.glob(f".{home.name}.partial-*"):
        shutil.rmtree(leftover)
    partial = Path(tempfile.mkdtemp(prefix=f".{home.name}.partial-", dir=home.parent))
    try:
        partial.chmod(0o755)
        _download(name, partial, say)
        if home.exists():
            home.rename(partial / "replaced")
        partial.rename(home)
        shutil.rmtree(home / "replaced", ignore_errors=True)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return find_model(name, directory=home.parent)


def _download(name: str, into: Path, say: Callable[[str], None]) -> None:
    pinned = PINNED.get(name)
    if pinned is None:
        repository = Repository(*name.split("@", 1))
        say(f"Downloading {name} from the model hub")
        commit = fetch_from_hub(repository, MODEL_FILES, into)
        manifest = {"name": name, "revision": commit, "files": hash_files(into)}
        (into / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        return
    fetch_pinned(name, pinned, into, say)
    for file, expected in pinned.files.items():
        if not (into / file).is_file() or sha256_of(into / file) != expected:
            raise EmbeddingUnavailable(f"The downloaded {file} of {name} does not have the expected hash.")
