"""The embedder: turns texts into vectors with a model's tokenizer and an ONNX Runtime session.

An embedder is loaded once, before the fork, and used after it. With one thread ONNX Runtime has no thread
pool, which a fork would lose, and the weights are memory pages that all children share.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable
from emberq.models.files import ModelFiles, build_graph
from emberq.telemetry import metrics

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


#: Most tokens of one batch, padding counted. Small batches fit the processor's cache and need little
#: padding: 1,024 gave 85 texts/s, 4,096 gave 71 (mixed texts, two threads).
_BATCH_TOKENS = 1024

#: Characters of a text that are tokenized, for each token that its model sees; in running text, a token has
#: less than ten. A tokenizer reads all of a text before it is truncated: 8 MB took half a minute and 4 GB.
TOKEN_CHARACTERS = 64

#: Texts that are tokenized and sorted together: enough for batches of similar lengths, and few enough
#: that their token ids stay under 10 MB for a document of any size.
_SORTED_TEXTS = 4096

#: The characters that both Python and the tokenizers treat as white space.
_SPACES = re.compile(r"[ \t\n\r]+")

#: Environment variables that the libraries read once, so they are set before the import. They switch off
#: the thread pool of tokenizers, whose locks a fork would copy, and the telemetry of ONNX Runtime.
_LIBRARY_SWITCHES = {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}


def _folds_space(tokenizer: Tokenizer) -> bool:
    """Return whether a tokenizer splits words at white space and drops the white space, as BERT's does."""
    splitter = json.loads(tokenizer.to_str()).get("pre_tokenizer") or {}
    return splitter.get("type") in {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}


def plan_batches(
    lengths: Sequence[int], *, batch_tokens: int = _BATCH_TOKENS, max_batch: int | None = None
) -> list[list[int]]:
    """Group texts of similar length, longest first, so that batches need little padding.

    Args:
        lengths: Tokens of each text.
        batch_tokens: Most tokens of a batch: its number of texts times the longest of them. A text
            that alone has more gets a batch of its own.
        max_batch: Most texts of a batch; no limit if left out.

    Returns:
        Batches of indices into `lengths`; every index is in exactly one.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room == 0:
            batches.append([])
            room = max(1, batch_tokens // max(1, lengths[index]))
            room = min(room, max_batch) if max_batch else room
        batches[-1].append(index)
        room -= 1
    return batches


def load_session(name: str, graph: Path, tokenizer: Path) -> tuple[Any, Tokenizer]:
    """Load a model into an ONNX Runtime session, and its tokenizer, which neither truncates nor pads.

    Args:
        name: The model's name, for the error message.
        graph: The ONNX graph.
        tokenizer: The `tokenizers` library's file.

    Raises:
        EmbeddingUnavailable: If a file is damaged or missing.
    """
    os.environ.update(_LIBRARY_SWITCHES)
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    # One thread: a thread pool would not survive a fork.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    # One pattern is kept for each input shape, and nearly every batch has a new shape.
    options.enable_mem_pattern = False
    try:
        session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as exc:  # both libraries raise plain `Exception`
        raise EmbeddingUnavailable(f"The model {name} cannot be loaded: {exc}") from exc
    # Published tokenizer files may truncate and pad to another length than the model's.
    loaded.no_truncation()
    loaded.no_padding()
    return session, loaded


def _shrink_options() -> Any:
    """Return run options with which ONNX Runtime returns its memory to the system after the run.

    By default it keeps some 10 MB for the next run, in every idle horse. To return them after each batch
    would cost 5 % of the time, so it is done after the last batch of a call.
    """
    from onnxruntime import RunOptions

    options = RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


class Embedder:
    """A loaded embedding model.

    Attributes:
        model: The model's name.
        dimensions: Length of its vectors.
        max_tokens: Most tokens of one text, special ones counted; the rest is cut off.
        fingerprint: A text that changes with anything that changes a vector; part of the cache keys.
        tokenizer: The model's tokenizer, which neither truncates nor pads.
        tokens_embedded: Tokens embedded in this process, padding not counted.
        texts_truncated: Texts in this process that were longer than `max_tokens`.
    """

    def __init__(self, files: ModelFiles, session: Any, tokenizer: Tokenizer) -> None:
        self.model = files.name
        self.dimensions = files.dimensions
        self.max_tokens = files.max_tokens
        self.fingerprint = f"{files.fingerprint}/{files.max_tokens}/l2"
        self.tokenizer = tokenizer
        self.tokens_embedded = 0
        self.texts_truncated = 0
        self._session = session
        self._shrink_options = _shrink_options()
        self._special_tokens = tokenizer.num_special_tokens_to_add(is_pair=False)
        self._folds_space = _folds_space(tokenizer)

    @classmethod
    def load(cls, files: ModelFiles) -> Self:
        """Load a model, and build its graph if it is missing; the embedder may be used after a fork.

        Raises:
            EmbeddingUnavailable: If the files are damaged or the model's kind is not supported.
        """
        build_graph(files)
        session, tokenizer = load_session(files.name, files.graph, files.tokenizer)
        return cls(files, session, tokenizer)

    def embed(
        self,
        texts: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        batch_tokens: int = _BATCH_TOKENS,
        max_batch: int | None = None,
        sorted_texts: int = _SORTED_TEXTS,
    ) -> NDArray[np.float32]:
        """Return one vector of length 1 per text.

        A text longer than `max_tokens` is truncated and counted in `texts_truncated`.

        Args:
            texts: Any number of texts, in any order; an empty text has a vector too.
            progress: Called after each batch with the number of embedded texts and of all texts.
            batch_tokens: Most tokens of a batch, padding counted; does not change the vectors.
            max_batch: Most texts of a batch; no limit if left out.
            sorted_texts: Texts that are sorted by length together, so that batches need little padding.

        Returns:
            An array of `[len(texts), dimensions]`, in the order of `texts`.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), sorted_texts):
            part = slice(start, start + sorted_texts)
            tokens = [self._token_ids(text) for text in texts[part]]
            batches = plan_batches(
                [len(ids) for ids in tokens], batch_tokens=batch_tokens, max_batch=max_batch
            )
            done = start
            for batch in batches:
                is_last = done + len(batch) == len(texts)
                vectors[part][batch] = self._run_counted([tokens[i] for i in batch], shrink=is_last)
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
        return vectors

    def canonical(self, text: str) -> str:
        """Return the text with single spaces if the tokenizer drops white space, else unchanged."""
        return _SPACES.sub(" ", text).strip(" ") if self._folds_space else text

    def compute(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        """Return the vectors of a few texts and the number of tokens of each; safe in several threads.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        tokens = [self._token_ids(text) for text in texts]
        lengths = [len(ids) for ids in tokens]
        for batch in plan_batches(lengths):
            # The memory stays with ONNX Runtime for the next call: an API has many calls.
            vectors[batch] = self._run_counted([tokens[i] for i in batch], shrink=False)
        return vectors, lengths

    def warm_up(self, texts: Sequence[str]) -> None:
        """Run the model on each text and drop the vectors; nothing is counted.

        Called before a fork, it lets the children share the memory that a model's first runs allocate.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        for text in texts:
            self._run([self._token_ids(text)], shrink=True)

    def _token_ids(self, text: str) -> NDArray[np.int64]:
        # One call per text: encode_batch would start threads, which a fork would lose.
        seen = text[: self.max_tokens * TOKEN_CHARACTERS]
        try:
            encoding: Encoding = self.tokenizer.encode(seen, add_special_tokens=False)
        except TypeError as exc:
            raise EmbeddingRejected(
                "The text is not valid Unicode: it has half of a surrogate pair.", hint="Send valid UTF-8."
            ) from exc
        room = self.max_tokens - self._special_tokens
        if len(encoding) > room:
            encoding.truncate(room)
            self.texts_truncated += 1
        elif len(seen) < len(text):
            self.texts_truncated += 1
        return np.array(self.tokenizer.post_process(encoding).ids, np.int64)

    def _run_counted(self, rows: Sequence[NDArray[np.int64]], *, shrink: bool) -> NDArray[np.float32]:
        vectors = self._run(rows, shrink=shrink)
        number = sum(len(row) for row in rows)
        self.tokens_embedded += number
        metrics.count_embedded_tokens(tokens=number)
        return vectors

    def _run(self, rows: Sequence[NDArray[np.int64]], *, shrink: bool) -> NDArray[np.float32]:
        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        # Not `Exception`: a signal handler raises a job's time-out anywhere, and it must not be caught here.
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

        try:
            result: NDArray[np.float32] = self._session.run(
                None, {"input_ids": ids, "attention_mask": mask}, self._shrink_options if shrink else None
            )[0]
        except (Fail, RuntimeException) as exc:
            raise EmbeddingUnavailable(f"The model {self.model} failed on a batch: {exc}") from exc
        return result
