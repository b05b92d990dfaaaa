"""The files of embedding models on this machine: finding, listing and verifying them."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emberq.errors import EmbeddingUnavailable
from emberq.models.pins import ALIASES, DEFAULT_MODEL, PINNED
from emberq.telemetry.logs import get_logger

log = get_logger(__name__)

#: Increased whenever `build_bert_onnx` writes a different graph, so that older graphs are rebuilt.
_GRAPH_VERSION = 1
#: The file in which a pulled model keeps its name, its commit and the hash of every file.
MANIFEST = "emberq.json"
#: The files without which a model cannot be loaded.
_REQUIRED = ("config.json", "model.safetensors", "tokenizer.json")
#: All files of a model; the last two, which say how texts are pooled and cut, are optional.
MODEL_FILES = (*_REQUIRED, "1_Pooling/config.json", "sentence_bert_config.json")
_LOCAL_PREFIXES = ("/", "./", "../", "~")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[A-Za-z0-9][\w.-]*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model on this machine.

    Attributes:
        name: Its name in settings.
        directory: The folder of its files.
        weights: The safetensors file.
        tokenizer: The `tokenizers` library's file.
        config: The architecture's parameters.
        graph: The ONNX graph over the weights; built when first needed.
        dimensions: Length of its vectors.
        max_tokens: Most tokens of one text, special ones counted; the model ignores the rest.
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
        directory: The folder of pulled models; `models_dir()` if not given.

    Raises:
        EmbeddingUnavailable: If the model is missing or incomplete, or the name is not valid.
    """
    name = ALIASES.get(name, name)
    home = model_home(name, directory)
    missing = [file for file in _REQUIRED if not (home / file).is_file()]
    if missing:
        # The folder is the operator's to know; the error is shown to tenants.
        log.warning("model_incomplete", model=name, folder=str(home), missing=missing)
        raise EmbeddingUnavailable(
            f"The model {shown_name(name)} lacks {', '.join(missing)}; the log names its folder.",
            hint="Put the files there." if is_local(name) else f"Run `emberq models pull {name}`.",
        )
    try:
        hashes = _hashes(name, home)
        config = _read_json(home / "config.json")
        dimensions, max_tokens = int(config["hidden_size"]), _max_tokens(name, home, config)
    except (OSError, ValueError, KeyError, TypeError) as exc:
        log.warning("model_unreadable", model=name, folder=str(home), error=repr(exc))
        raise EmbeddingUnavailable(f"The model {shown_name(name)} cannot be read.") from exc
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
    """Return the complete pulled models, ordered by name.

    Args:
        directory: The folder of pulled models; `models_dir()` if not given.
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
    """Compare every file with its expected hash.

    Raises:
        EmbeddingUnavailable: If a file is missing or has changed; the message names it.
    """
    for name, expected in files.hashes.items():
        path = files.directory / name
        if not path.is_file() or sha256_of(path) != expected:
            raise EmbeddingUnavailable(
                f"{path} is missing, or has changed since {files.name} was pulled.",
                hint=f"Run `emberq models pull {files.name}`.",
            )


def build_graph(files: ModelFiles) -> None:
    """Build the model's ONNX graph if it is not there; takes about a second.

    Raises:
        EmbeddingUnavailable: If the model's kind is not supported, or its folder is not writable.
    """
    if files.graph.is_file():
        return
    from emberq.models.bert_onnx import build_bert_onnx

    build_bert_onnx(files.directory, files.graph)


def is_local(name: str) -> bool:
    """Return whether a model's name is a path."""
    return name.startswith(_LOCAL_PREFIXES)


def shown_name(name: str) -> str:
    """Return a model's name as clients see it: of a path, which is the server's own matter, the last part."""
    return Path(name).name if is_local(name) else name


def model_home(name: str, directory: Path | None) -> Path:
    """Return the folder of a model, which may not exist yet.

    Raises:
        EmbeddingUnavailable: If the name is not valid.
    """
    if is_local(name):
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
    if (home / MANIFEST).is_file():
        return dict(_read_json(home / MANIFEST)["files"])
    return hash_files(home)


def _max_tokens(name: str, home: Path, config: Mapping[str, Any]) -> int:
    if name in PINNED:
        return PINNED[name].max_tokens
    # RoBERTa and its relatives leave the first positions, up to the padding id, unused.
    unused = 0 if config.get("model_type") == "bert" else int(config.get("pad_token_id", 1)) + 1
    positions = int(config["max_position_embeddings"]) - unused
    sentence = home / "sentence_bert_config.json"
    stated = _read_json(sentence).get("max_seq_length") if sentence.is_file() else None
    return min(positions, int(stated)) if stated else positions


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def hash_files(home: Path) -> dict[str, str]:
    """Return the SHA-256, in hex, of each file of a model that is in its folder."""
    return {file: sha256_of(home / file) for file in MODEL_FILES if (home / file).is_file()}


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
