"""Texts to vectors: the tokenizer and the ONNX Runtime session of one model.

An embedder is loaded once, before the fork, and used after it: with one thread ONNX Runtime has no pool
that a fork could lose, and the weights are shared pages in every child.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable
from emberq.models.files import ModelFiles, build_graph
from emberq.telemetry import metrics

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["LIBRARY_SWITCHES", "Embedder", "plan_batches"]

#: Tokens of one batch, padding counted. Small batches stay in the processor's cache and pad little:
#: 1,024 gave 85 texts/s where 4,096 gave 71 (mixed texts, two threads).
_BATCH_TOKENS = 1024

#: Texts tokenized and sorted together: enough that neighbours are of like length, and few enough that
#: their token ids stay under 10 MB whatever the size of the document.
_SORTED_TEXTS = 4096

#: Python and the tokenizers agree that these are white space.
_SPACES = re.compile(r"[ \t\n\r]+")

#: Read once by the libraries, so set before their import. tokenizers: no thread pool, whose locks a
#: fork would copy. ONNX Runtime: no reports to its maker, and no thread that uploads them.
LIBRARY_SWITCHES = {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}


def _folds_space(tokenizer: Tokenizer) -> bool:
    """Tell whether a tokenizer separates words at white space and keeps none of it, as BERT's does."""
    splitter = json.loads(tokenizer.to_str()).get("pre_tokenizer") or {}
    return splitter.get("type") in {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}


def plan_batches(
    lengths: Sequence[int], *, batch_tokens: int = _BATCH_TOKENS, max_batch: int | None = None
) -> list[list[int]]:
    """Group texts of like length, longest first, so that a batch wastes little on padding.

    Args:
        lengths: Tokens of each text.
        batch_tokens: Most tokens of a batch: its number of texts times the longest of them. A text
            that alone exceeds it gets a batch of its own.
        max_batch: Most texts of a batch; no limit if not given.

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


def _options_that_give_back() -> Any:
    """Return run options that give the memory of a call back to the system after it.

    ONNX Runtime keeps it for the next call: some 10 MB that every idle horse would hold. Giving it back
    after every batch costs 5 % of the time, so it is done after a call's last one.
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
        max_tokens: Most tokens of one text, special ones counted; what is beyond is not seen.
        fingerprint: Changes with anything that changes a vector; the key of cached vectors.
        tokenizer: The model's tokenizer, which neither cuts nor pads.
        tokens_embedded: Tokens that went through the model in this process, padding not counted.
        texts_truncated: Texts in this process that were longer than `max_tokens` and lost their end.
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
        self._give_back = _options_that_give_back()
        self._special_tokens = tokenizer.num_special_tokens_to_add(is_pair=False)
        self._folds_space = _folds_space(tokenizer)

    @classmethod
    def load(cls, files: ModelFiles, *, threads: int = 1) -> Self:
        """Load a model; the embedder may be used after a fork if it has one thread.

        Args:
            files: The model; its graph is built if it is not there.
            threads: Processor threads of one call. More than one makes a thread pool, which does not
                survive a fork.

        Raises:
            EmbeddingUnavailable: If the files are damaged or not a model of a supported kind.
        """
        os.environ.update(LIBRARY_SWITCHES)
        import onnxruntime
        from tokenizers import Tokenizer

        build_graph(files)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        # Patterns are kept per input shape, and nearly every batch has its own: they only grow.
        options.enable_mem_pattern = False
        try:
            session = onnxruntime.InferenceSession(
                str(files.graph), options, providers=["CPUExecutionProvider"]
            )
            tokenizer = Tokenizer.from_file(str(files.tokenizer))
        except Exception as exc:  # both libraries raise bare exceptions of their own
            raise EmbeddingUnavailable(f"The model {files.name} cannot be loaded: {exc}") from exc
        # Published tokenizer files may cut and pad to a length that is not the model's.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(files, session, tokenizer)

    def embed(
        self,
        texts: Sequence[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        batch_tokens: int = _BATCH_TOKENS,
        max_batch: int | None = None,
    ) -> NDArray[np.float32]:
        """Return one vector of length 1 per text.

        A text longer than `max_tokens` is cut there and counted in `texts_truncated`.

        Args:
            texts: Any number of texts, in any order; an empty text has a vector too.
            progress: Called with the number of texts done and of all texts after each batch.
            batch_tokens: Most tokens of a batch, padding counted; does not change the vectors.
            max_batch: Most texts of a batch; no limit if not given.

        Returns:
            An array of `[len(texts), dimensions]`, in the order of `texts`.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        for start in range(0, len(texts), _SORTED_TEXTS):
            part = slice(start, start + _SORTED_TEXTS)
            tokens = [self._token_ids(text) for text in texts[part]]
            batches = plan_batches(
                [len(ids) for ids in tokens], batch_tokens=batch_tokens, max_batch=max_batch
            )
            done = start
            for batch in batches:
                is_last = done + len(batch) == len(texts)
                vectors[part][batch] = self._run_counted([tokens[i] for i in batch], give_back=is_last)
                done += len(batch)
                if progress is not None:
                    progress(done, len(texts))
        return vectors

    def canonical(self, text: str) -> str:
        """Return the text with single spaces if the model's tokenizer drops them, else as it is."""
        return _SPACES.sub(" ", text).strip(" ") if self._folds_space else text

    def compute(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], list[int]]:
        """Return the vectors of a few texts and the number of tokens of each.

        May be called from several threads at once.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        tokens = [self._token_ids(text) for text in texts]
        lengths = [len(ids) for ids in tokens]
        for batch in plan_batches(lengths):
            # Kept for the next call: who serves requests has many more of them.
            vectors[batch] = self._run_counted([tokens[i] for i in batch], give_back=False)
        return vectors, lengths

    def warm_up(self, texts: Sequence[str]) -> None:
        """Run the model on each text and forget the outcome; nothing is counted.

        Before a fork it lets the children share what a model's first runs leave in memory.

        Raises:
            EmbeddingRejected: If a text is not valid Unicode.
            EmbeddingUnavailable: If the model fails while it runs.
        """
        for text in texts:
            self._run([self._token_ids(text)], give_back=True)

    def _token_ids(self, text: str) -> NDArray[np.int64]:
        # One call per text: encode_batch would start the threads that must not be there.
        try:
            encoding: Encoding = self.tokenizer.encode(text, add_special_tokens=False)
        except TypeError as exc:
            raise EmbeddingRejected(
                "The text is not valid Unicode: it has half of a surrogate pair.", hint="Send valid UTF-8."
            ) from exc
        room = self.max_tokens - self._special_tokens
        if len(encoding) > room:
            self.texts_truncated += 1
            encoding.truncate(room)
        return np.array(self.tokenizer.post_process(encoding).ids, np.int64)

    def _run_counted(self, rows: Sequence[NDArray[np.int64]], *, give_back: bool) -> NDArray[np.float32]:
        vectors = self._run(rows, give_back=give_back)
        number = sum(len(row) for row in rows)
        self.tokens_embedded += number
        metrics.texts_embedded(tokens=number)
        return vectors

    def _run(self, rows: Sequence[NDArray[np.int64]], *, give_back: bool) -> NDArray[np.float32]:
        longest = max(len(row) for row in rows)
        ids = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        # Named, not `Exception`: a job's time-out is raised by a signal, anywhere, and must get through.
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

        try:
            result: NDArray[np.float32] = self._session.run(
                None, {"input_ids": ids, "attention_mask": mask}, self._give_back if give_back else None
            )[0]
        except (Fail, RuntimeException) as exc:
            raise EmbeddingUnavailable(f"The model {self.model} failed on a batch: {exc}") from exc
        return result
