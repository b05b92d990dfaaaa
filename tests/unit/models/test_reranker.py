"""Cross-encoders: what they are loaded from, what they say, and that batches change nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberq.errors import EmbeddingRejected, EmbeddingUnavailable
from emberq.models.reranker import CrossEncoder, cosine_relevances, find_reranker
from tests.harness.tiny_cross_encoder import make_cross_encoder

WORDS = ["terns", "fly", "far", "tax", "law", "is", "dull"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def model(home: Path) -> CrossEncoder:
    return CrossEncoder.load("tiny", home)


def sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


@pytest.mark.parametrize("classes", [1, 2])
def test_relevances_are_the_logits_between_0_and_1(tmp_path: Path, classes: int) -> None:
    model = CrossEncoder.load("tiny", make_cross_encoder(tmp_path, classes=classes))
    scores = model.rerank("terns fly far", ["tax law is dull", "terns fly", "far terns fly", ""])
    assert scores == pytest.approx([sigmoid(classes * x) for x in (-1.5, 0.5, 1.5, -1.5)])


@given(texts=st.lists(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join), min_size=1, max_size=60))
def test_a_relevance_does_not_depend_on_the_batch(model: CrossEncoder, texts: list[str]) -> None:
    query = "terns fly far"
    together = model.rerank(query, texts)
    assert together == pytest.approx([model.rerank(query, [text])[0] for text in texts], abs=1e-6)


def test_a_long_text_is_cut_where_the_model_ends(model: CrossEncoder) -> None:
    _, tokens = model.compute([("terns", "far " * 5000)])
    assert tokens == [model.max_tokens] == [512]


def test_the_fingerprint_is_that_of_the_files(model: CrossEncoder, tmp_path: Path) -> None:
    other = CrossEncoder.load("tiny", make_cross_encoder(tmp_path, classes=2))
    assert other.fingerprint != model.fingerprint


def test_half_a_surrogate_pair_is_refused(model: CrossEncoder) -> None:
    with pytest.raises(EmbeddingRejected):
        model.rerank("terns", ["\ud800"])


def test_a_model_is_found_by_path_and_by_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBERQ_MODELS_DIR", str(home.parent))
    assert find_reranker(str(home)) == home
    (home.parent / "maker--tiny").symlink_to(home)
    assert find_reranker("maker/tiny") == home.parent / "maker--tiny"
    with pytest.raises(EmbeddingUnavailable, match=r"lacks model\.onnx and tokenizer\.json"):
        find_reranker("maker/none")


def test_damaged_files_are_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    (tmp_path / "tokenizer.json").write_bytes((home / "tokenizer.json").read_bytes())
    with pytest.raises(EmbeddingUnavailable, match="cannot be loaded"):
        CrossEncoder.load("tiny", tmp_path)


def test_cosines_become_relevances() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1], [-1, 0]], np.float32)
    assert cosine_relevances(rows).tolist() == [1.0, 0.5, 0.0]
