"""The default model, for real: its vectors, its limits, and its life after a fork."""

from __future__ import annotations

import json
import sys
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable
from emberq.models.embedder import Embedder
from emberq.models.files import ModelFiles
from emberq.models.pull import pull_model
from emberq.pipeline.document import Document, Segment, SegmentKind
from emberq.pipeline.split import embedding_text, split
from tests.harness.paths import DATA
from tests.harness.processes import run_program

REFERENCE = DATA / "reference_vectors.json"


@dataclass(frozen=True)
class Reference:
    texts: list[str]
    vectors: NDArray[np.float64]


@pytest.fixture(scope="module")
def files() -> ModelFiles:
    return pull_model()


@pytest.fixture(scope="module")
def embedder(files: ModelFiles) -> Embedder:
    return Embedder.load(files)


@pytest.fixture(scope="module")
def reference() -> Reference:
    entries = json.loads(REFERENCE.read_text(encoding="utf-8"))["texts"]
    vectors = np.array([entry["vector"] for entry in entries])
    return Reference(
        [entry["text"] for entry in entries], vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    )


def cosines(left: NDArray[np.float32], right: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.einsum("ij,ij->i", left.astype(np.float64), right)
    return result


def test_vectors_are_those_of_sentence_transformers(embedder: Embedder, reference: Reference) -> None:
    vectors = embedder.embed(reference.texts)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(reference.texts), embedder.dimensions) == (len(reference.texts), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert cosines(vectors, reference.vectors).min() >= 0.99999


@pytest.mark.parametrize(("batch_tokens", "max_batch"), [(1, None), (1024, 2), (8192, None)])
def test_a_vector_does_not_depend_on_its_batch(
    embedder: Embedder, reference: Reference, batch_tokens: int, max_batch: int | None
) -> None:
    vectors = embedder.embed(reference.texts, batch_tokens=batch_tokens, max_batch=max_batch)
    assert cosines(vectors, reference.vectors).min() >= 0.99999


def test_no_texts_have_no_vectors(embedder: Embedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_progress_counts_texts_up_to_all(embedder: Embedder) -> None:
    steps: list[tuple[int, int]] = []
    embedder.embed(["one", "two", "three"], max_batch=2, progress=lambda done, of: steps.append((done, of)))
    assert steps == [(2, 3), (3, 3)]


def test_more_texts_than_are_sorted_together_keep_their_order(embedder: Embedder) -> None:
    texts = ["a long text about pumps and valves", "b", "a text of some words", "d", "e and f"]
    whole = embedder.embed(texts)
    np.testing.assert_allclose(embedder.embed(texts, sorted_texts=2), whole, atol=1e-6)


def test_a_text_that_is_too_long_is_cut_and_counted(embedder: Embedder) -> None:
    before = embedder.texts_truncated
    just_fits, one_more = "word " * 254, "word " * 255
    vectors = embedder.embed([just_fits])
    assert embedder.texts_truncated == before
    np.testing.assert_allclose(embedder.embed([one_more]), vectors, atol=1e-6)
    assert embedder.texts_truncated == before + 1


def test_tokens_are_counted_without_padding(embedder: Embedder) -> None:
    before = embedder.tokens_embedded
    embedder.embed(["one", "one two three"])
    assert embedder.tokens_embedded == before + 3 + 5


def test_half_a_surrogate_pair_is_refused(embedder: Embedder) -> None:
    with pytest.raises(EmbeddingRejected):
        embedder.embed(["\ud83d"])


@given(text=st.text(alphabet=st.sampled_from("ab.\u00e9\x1c\u00a0 \t\n\r#"), max_size=30))
def test_texts_with_the_same_canonical_form_have_the_same_tokens(embedder: Embedder, text: str) -> None:
    def tokens(one: str) -> list[int]:
        return list(embedder.tokenizer.encode(one).ids)

    assert tokens(embedder.canonical(text)) == tokens(text)
    spread = text.replace(" ", " \n\t ")
    assert embedder.canonical(spread) == embedder.canonical(text)


def test_the_fingerprint_names_the_model(embedder: Embedder, files: ModelFiles) -> None:
    assert embedder.model == "all-MiniLM-L6-v2"
    assert embedder.fingerprint.startswith(f"{files.fingerprint}/")
    assert embedder.fingerprint != Embedder.load(replace(files, max_tokens=128)).fingerprint


@pytest.mark.parametrize("broken", ["graph", "tokenizer"])
def test_a_damaged_file_is_an_error_of_ours(files: ModelFiles, tmp_path: Path, broken: str) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(b"\x00not what it should be")
    broken_files = replace(files, **{broken: damaged})  # type: ignore[arg-type]
    with pytest.raises(EmbeddingUnavailable, match="cannot be loaded"):
        Embedder.load(broken_files)


CHILDREN = textwrap.dedent("""
    import os
    import sys

    import numpy as np

    from emberq.models.embedder import Embedder
    from emberq.models.files import find_model

    texts = ["the ferry leaves at seven", "a pump", "valves and pumps " * 40]
    embedder = Embedder.load(find_model())
    before = embedder.embed(texts)
    threads = len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 1
    assert threads == 1, f"{threads} threads before the fork"

    for attempt in range(3):
        child = os.fork()
        if child == 0:
            same = np.array_equal(embedder.embed(texts), before)
            os._exit(0 if same else 3)
        assert os.waitpid(child, 0)[1] == 0, "the child's vectors differ"
        assert np.array_equal(embedder.embed(texts), before), "the parent's vectors differ"
    print("same")
""")


def test_a_loaded_model_has_no_threads_and_works_in_forked_children(files: ModelFiles) -> None:
    # numpy's own pool is not ours to switch off; whoever forks sets OPENBLAS_NUM_THREADS.
    environment = {
        "OPENBLAS_NUM_THREADS": "1",
        "EMBERQ_MODELS_DIR": str(files.directory.parent),
        "PYTHONPATH": ":".join(sys.path),
        "TOKENIZERS_PARALLELISM": "true",
    }
    done = run_program(sys.executable, "-W", "error", "-c", CHILDREN, environment=environment)
    assert (done.stdout.strip(), done.returncode) == ("same", 0), done.stderr


words = st.one_of(
    st.sampled_from(
        ["harbour", "unbelievable", "x" * 130, "3.14159", "e.g.", "東京", "naïve", "[SEP]", "U+FDFA ﷺ"]
    ),
    st.text(max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.lists(words, max_size=60).map(" ".join), max_size=6),
    size=st.integers(16, 254),
    overlap=st.integers(0, 40),
)
def test_no_chunk_of_the_splitter_is_ever_cut_by_the_model(
    embedder: Embedder, parts: list[str], size: int, overlap: int
) -> None:
    text, segments = "", []
    for part in parts:
        segments.append(Segment(SegmentKind.PARAGRAPH, len(text), len(text) + len(part)))
        text += f"{part}\n\n"
    chunks = split(
        Document(text, "text/plain", tuple(segments)),
        embedder.tokenizer,
        chunk_size=size,
        chunk_overlap=overlap,
    )
    for chunk in chunks:
        assert chunk.tokens == len(embedder.tokenizer.encode(chunk.text, add_special_tokens=False)) <= size
        whole = embedding_text(chunk, embedder.tokenizer, max_tokens=embedder.max_tokens)
        assert len(embedder.tokenizer.encode(whole)) <= embedder.max_tokens
