"""The files of embedding models: where they lie, whether they are right, how they get there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberq.errors import EmbeddingUnavailable
from emberq.models.pins import ALIASES, DEFAULT_MODEL, PINNED, Repository
from emberq.models.sources import fetch_from_hub, fetch_pinned
from emberq.system.file_lock import locked_file

__all__ = [
    "DEFAULT_MODEL",
    "ModelFiles",
    "build_graph",
    "find_model",
    "list_models",
    "models_dir",
    "pull_model",
    "verify_model",
]

#: Counts up when `build_bert_onnx` writes another graph, so that older graphs are built anew.
_GRAPH_VERSION = 1
#: What a pulled model records about itself: name, commit, and the hash of every file.
_MANIFEST = "emberq.json"
_REQUIRED = ("config.json", "model.safetensors", "tokenizer.json")
#: How texts are pooled and cut.
_OPTIONAL = ("1_Pooling/config.json", "sentence_bert_config.json")
_OFFLINE_FLAGS = ("EMBERQ_OFFLINE", "HF_HUB_OFFLINE")
_LOCAL_PREFIXES = ("/", "./", "../", "~")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine.

    Attributes:
        name: What settings call it.
        directory: Where its files lie.
        weights: The safetensors file.
        tokenizer: The `tokenizers` library's file.
        config: The architecture's parameters.
        graph: The ONNX graph over the weights; built when first needed.
        dimensions: Length of its vectors.
        max_tokens: Most tokens of one text, special ones counted; what is beyond is not seen.
        fingerprint: `name@` and 16 hex digits that change with every byte of its files.
        hashes: SHA-256 of each file, in hex, by its name in the directory.
    """

    name: str
    directory: Path
    weights: Path
    tokenizer: Path
    config: Path
    graph: Path
    dimensions: int
    max_tokens: int
    fingerprint: str
    hashes: Mapping[str, str]


def models_dir() -> Path:
    """Return `$EMBERQ_MODELS_DIR`, else `emberq/models` in `$XDG_CACHE_HOME`, by default `~/.cache`."""
    given = os.environ.get("EMBERQ_MODELS_DIR")
    if given:
        return Path(given).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emberq" / "models"


def find_model(name: str = DEFAULT_MODEL, *, directory: Path | None = None) -> ModelFiles:
    """Return the files of a model that is on this machine.

    Args:
        name: A pinned model, `organisation/name[@revision]` of a pulled one, or the path of a folder
            with the files of a BERT-family model, beginning with `/`, `./`, `../` or `~`.
        directory: Where pulled models lie; `models_dir()` if not given.

    Raises:
        EmbeddingUnavailable: If the model is not there or not whole, or the name is no model's name.
    """
    name = ALIASES.get(name, name)
    home = _home(name, directory)
    missing = [file for file in _REQUIRED if not (home / file).is_file()]
    if missing:
        raise EmbeddingUnavailable(
            f"The model {name} lacks {', '.join(missing)} in {home}.",
            hint="Put the files there." if _is_local(name) else f"Run `emberq models pull {name}`.",
        )
    try:
        hashes = _hashes(name, home)
        config = _read_json(home / "config.json")
        dimensions, max_tokens = int(config["hidden_size"]), _max_tokens(name, home, config)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise EmbeddingUnavailable(f"The model {name} in {home} cannot be read: {exc!r}.") from exc
    digest = hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()[:16]
    return ModelFiles(
        name=name,
        directory=home,
        weights=home / "model.safetensors",
        tokenizer=home / "tokenizer.json",
        config=home / "config.json",
        graph=home / f"emberq-{_GRAPH_VERSION}-{digest}.onnx",
        dimensions=dimensions,
        max_tokens=max_tokens,
        fingerprint=f"{name}@{digest}",
        hashes=hashes,
    )


def list_models(*, directory: Path | None = None) -> list[ModelFiles]:
    """Return the pulled models that are whole, by name.

    Args:
        directory: Where they lie; `models_dir()` if not given.
    """
    root, found = directory or models_dir(), []
    for home in root.iterdir() if root.is_dir() else ():
        name = home.name.replace("--", "/", 1)
        if name in PINNED or _HUB_NAME.fullmatch(name):
            try:
                found.append(find_model(name, directory=root))
            except EmbeddingUnavailable:
                continue
    return sorted(found, key=lambda files: files.name)


def verify_model(files: ModelFiles) -> None:
    """Compare every file with the hash it should have.

    Raises:
        EmbeddingUnavailable: If a file is gone or holds other bytes; the message names it.
    """
    for name, expected in files.hashes.items():
        path = files.directory / name
        if not path.is_file() or _sha256(path) != expected:
            raise EmbeddingUnavailable(
                f"{path} is not the file that {files.name} was pulled with.",
                hint=f"Run `emberq models pull {files.name}`.",
            )


def build_graph(files: ModelFiles) -> None:
    """Build the model's ONNX graph if it is not there; takes about a second.

    Raises:
        EmbeddingUnavailable: If the model is of no supported kind, or its folder is not writable.
    """
    if files.graph.is_file():
        return
    from emberq.models.bert_onnx import build_bert_onnx

    build_bert_onnx(files.directory, files.graph)


def pull_model(
    name: str = DEFAULT_MODEL,
    *,
    directory: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> ModelFiles:
    """Make a model ready on this machine; does nothing if it is already there and right.

    Safe to run in several processes at once: one downloads, the others wait and find it done.

    Args:
        name: As in `find_model`. A path is used where it is, and only gets its graph.
        directory: Where pulled models lie; `models_dir()` if not given.
        progress: Called with one line of text as each step begins.

    Raises:
        EmbeddingUnavailable: If no source has the model, the network is switched off by
            `EMBERQ_OFFLINE` or `HF_HUB_OFFLINE`, or the files cannot be stored.
    """
    say = progress or (lambda _: None)
    name = ALIASES.get(name, name)
    home = _home(name, directory)
    if _is_local(name):
        build_graph(find_model(name))
        return find_model(name)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with locked_file(home.with_name(f".{home.name}.lock"), mode=0o666):
            files = _present(name, home.parent, say) or _install(name, home, say)
            build_graph(files)
    except OSError as exc:
        raise EmbeddingUnavailable(f"The model {name} cannot be stored in {home.parent}: {exc}.") from exc
    return files


def _present(name: str, root: Path, say: Callable[[str], None]) -> ModelFiles | None:
    try:
        files = find_model(name, directory=root)
        say(f"Checking {name}")
        verify_model(files)
    except EmbeddingUnavailable:
        return None
    return files


def _install(name: str, home: Path, say: Callable[[str], None]) -> ModelFiles:
    """Download into a folder beside the final one, check, and move it into place in one step."""
    switched_off = [
        flag for flag in _OFFLINE_FLAGS if os.environ.get(flag, "").lower() in {"1", "true", "yes", "on"}
    ]
    if switched_off:
        raise EmbeddingUnavailable(
            f"The model {name} is not here, and {switched_off[0]} forbids to download it.",
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
        commit = fetch_from_hub(repository, (*_REQUIRED, *_OPTIONAL), into)
        hashes = {file: _sha256(into / file) for file in (*_REQUIRED, *_OPTIONAL) if (into / file).exists()}
        manifest = {"name": name, "revision": commit, "files": hashes}
        (into / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        return
    fetch_pinned(name, pinned, into, say)
    for file, expected in pinned.files.items():
        if not (into / file).is_file() or _sha256(into / file) != expected:
            raise EmbeddingUnavailable(f"The downloaded {file} of {name} is not the file it should be.")


def _is_local(name: str) -> bool:
    return name.startswith(_LOCAL_PREFIXES)


def _home(name: str, directory: Path | None) -> Path:
    if _is_local(name):
        return Path(name).expanduser().absolute()
    if name not in PINNED and not _HUB_NAME.fullmatch(name):
        raise EmbeddingUnavailable(
            f"{name!r} is not the name of a model.",
            hint=f"Use {DEFAULT_MODEL}, a hub model as organisation/name[@revision], or a path.",
        )
    return (directory or models_dir()) / name.replace("/", "--")


def _hashes(name: str, home: Path) -> Mapping[str, str]:
    if name in PINNED:
        return PINNED[name].files
    if (home / _MANIFEST).is_file():
        return dict(_read_json(home / _MANIFEST)["files"])
    return {file: _sha256(home / file) for file in (*_REQUIRED, *_OPTIONAL) if (home / file).is_file()}


def _max_tokens(name: str, home: Path, config: Mapping[str, Any]) -> int:
    if name in PINNED:
        return PINNED[name].max_tokens
    # The RoBERTa line spends the first positions, up to its padding id, on nothing.
    unused = 0 if config.get("model_type") == "bert" else int(config.get("pad_token_id", 1)) + 1
    positions = int(config["max_position_embeddings"]) - unused
    sentence = home / "sentence_bert_config.json"
    stated = _read_json(sentence).get("max_seq_length") if sentence.is_file() else None
    return min(positions, int(stated)) if stated else positions


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
