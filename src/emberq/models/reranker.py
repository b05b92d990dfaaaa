"""The reranker: relevances, from 0 to 1, of texts to a query; by a cross-encoder, or by cosine similarity."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable
from emberq.models.embedder import TOKEN_CHARACTERS, load_session, plan_batches
from emberq.models.files import models_dir, sha256_of
from emberq.telemetry import metrics
from emberq.telemetry.logs import get_logger

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


log = get_logger(__name__)

#: The places where exporters put the graph.
_GRAPHS = ("model.onnx", "onnx/model.onnx")
#: Most tokens of a query and a text together, if the model's files do not say.
_MAX_TOKENS = 512


def find_reranker(name: str) -> Path:
    """Return the folder of a reranking model.

    Args:
        name: Its path, or its name in `models_dir()`, with `--` or `/` after the organisation.

    Raises:
        EmbeddingUnavailable: If the folder lacks `model.onnx` or `tokenizer.json`.
    """
    given = Path(name).expanduser()
    home = given if given.is_absolute() else models_dir() / name.replace("/", "--")
    missing = [] if _graph(home) else ["model.onnx"]
    missing += [] if (home / "tokenizer.json").is_file() else ["tokenizer.json"]
    if missing or ".." in given.parts:
        # The folder is the operator's to know; the error is shown to tenants.
        log.warning("model_incomplete", model=name, folder=str(home), missing=missing)
        raise EmbeddingUnavailable(
            f"The reranking model {home.name} lacks {' and '.join(missing)}; the log names its folder.",
            hint="Put an ONNX export of a cross-encoder there, or unset rag_reranking_model.",
        )
    return home


def _graph(home: Path) -> Path | None:
    return next((home / name for name in _GRAPHS if (home / name).is_file()), None)


def cosine_relevances(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the relevances of texts, by the cosine similarity of their vectors to the query's.

    The similarity, from -1 to 1, is mapped to 0 to 1.

    Args:
        rows: Vectors of length 1: the query's, then those of the texts.
    """
    cosines: NDArray[np.float32] = rows[1:] @ rows[0]
    return np.clip((cosines + 1) / 2, 0, 1)


class CrossEncoder:
    """A loaded cross-encoder: a model that reads a query and a text together.

    Attributes:
        model: Its name.
        fingerprint: A text that changes with the model's files.
        max_tokens: Most tokens of a query and a text together; the longer one is truncated.
    """

    def __init__(
        self, name: str, session: Any, tokenizer: Tokenizer, *, fingerprint: str, max_tokens: int
    ) -> None:
        self.model = name
        self.fingerprint = fingerprint
        self.max_tokens = max_tokens
        self._session = session
        self._inputs = {one.name for one in session.get_inputs()}
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, name: str, home: Path) -> Self:
        """Load a model; it may be used after a fork, and by several threads.

        Raises:
            EmbeddingUnavailable: If its files are damaged or not those of a cross-encoder.
        """
        graph = _graph(home) or home / _GRAPHS[0]
        session, tokenizer = load_session(name, graph, home / "tokenizer.json")
        try:
            max_tokens = _read_max_tokens(home)
            digest = sha256_of(graph)[:16]
        except (OSError, ValueError, TypeError) as exc:
            raise EmbeddingUnavailable(f"The reranking model {name} cannot be loaded: {exc}") from exc
        unknown = {one.name for one in session.get_inputs()} - {
            "input_ids",
            "attention_mask",
            "token_type_ids",
        }
        if unknown:
            raise EmbeddingUnavailable(
                f"The reranking model {name} is not a cross-encoder: it needs {', '.join(sorted(unknown))}."
            )
        tokenizer.enable_truncation(max_tokens, strategy="longest_first")
        return cls(name, session, tokenizer, fingerprint=f"{name}@{digest}", max_tokens=max_tokens)

    def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return the relevance of each text for a query, from 0 to 1.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        rows, _ = self.compute([(query, text) for text in texts])
        return rows[:, 0]

    def canonical(self, pair: tuple[str, str]) -> tuple[str, str]:
        """Return the pair itself: the model may tell any two pairs apart."""
        return pair

    def compute(self, pairs: Sequence[tuple[str, str]]) -> tuple[NDArray[np.float32], list[int]]:
        """Return the relevances of pairs of query and text, `[pairs, 1]`, and the tokens of each pair.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        most = self.max_tokens * TOKEN_CHARACTERS
        try:
            encodings = [self._tokenizer.encode(query[:most], text[:most]) for query, text in pairs]
        except TypeError as exc:
            raise EmbeddingRejected(
                "A text is not valid Unicode: it has half of a surrogate pair.", hint="Send valid UTF-8."
            ) from exc
        lengths = [len(encoding) for encoding in encodings]
        rows = np.empty((len(pairs), 1), np.float32)
        for batch in plan_batches(lengths):
            rows[batch, 0] = self._run([encodings[index] for index in batch])
        metrics.count_embedded_tokens(tokens=sum(lengths))
        return rows, lengths

    def _run(self, encodings: Sequence[Encoding]) -> NDArray[np.float32]:
        shape = (len(encodings), max(1, *(len(encoding) for encoding in encodings)))
        values = {name: np.zeros(shape, np.int64) for name in self._inputs}
        for index, encoding in enumerate(encodings):
            for name, numbers in (
                ("input_ids", encoding.ids),
                ("attention_mask", encoding.attention_mask),
                ("token_type_ids", encoding.type_ids),
            ):
                if name in values:
                    values[name][index, : len(numbers)] = numbers
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

        try:
            logits = np.asarray(self._session.run(None, values)[0], np.float64).reshape(len(encodings), -1)
        except (Fail, InvalidArgument, RuntimeException, ValueError) as exc:
            raise EmbeddingUnavailable(f"The reranking model {self.model} failed on a batch: {exc}") from exc
        # A model with two classes scores "not relevant" and "relevant".
        score = logits[:, -1] - logits[:, 0] if logits.shape[1] > 1 else logits[:, 0]
        return (1 / (1 + np.exp(-np.clip(score, -60, 60)))).astype(np.float32)


def _read_max_tokens(home: Path) -> int:
    path = home / "tokenizer_config.json"
    stated = json.loads(path.read_text(encoding="utf-8")).get("model_max_length") if path.is_file() else None
    return min(int(stated), _MAX_TOKENS) if stated else _MAX_TOKENS
