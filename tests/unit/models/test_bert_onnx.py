"""The graph against the architecture written down in numpy, for every variant it takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from emberq.errors import EmbeddingUnavailable
from emberq.models.bert_onnx import build_bert_onnx

Array = NDArray[np.float64]
CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "hidden_size": 12,
    "intermediate_size": 20,
    "layer_norm_eps": 1e-7,
    "hidden_act": "gelu",
}
WORDS, POSITIONS = 30, 16


def random_weights() -> dict[str, Array]:
    random = np.random.default_rng(3)
    hidden, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (WORDS, hidden),
        "embeddings.position_embeddings.weight": (POSITIONS, hidden),
        "embeddings.token_type_embeddings.weight": (2, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    for layer in range(CONFIG["num_hidden_layers"]):
        linear = [(f"attention.self.{part}", hidden, hidden) for part in ("query", "key", "value")]
        linear += [
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", inner, hidden),
            ("output.dense", hidden, inner),
        ]
        for name, outputs, inputs in linear:
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (outputs, inputs)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (outputs,)
        for name in ("attention.output", "output"):
            shapes[f"encoder.layer.{layer}.{name}.LayerNorm.weight"] = (hidden,)
            shapes[f"encoder.layer.{layer}.{name}.LayerNorm.bias"] = (hidden,)
    return {name: random.standard_normal(shape) for name, shape in shapes.items()}


def gelu(value: Array, kind: str) -> Array:
    if kind == "gelu":
        share: Array = np.vectorize(math.erf)(value / math.sqrt(2))
    else:
        share = np.tanh(math.sqrt(2 / math.pi) * (value + 0.044715 * value**3))
    return 0.5 * value * (1 + share)


def embed_one(
    weights: Mapping[str, Array], config: Mapping[str, Any], ids: list[int], offset: int, pooling: str
) -> Array:
    """Embed one text without padding, as the architecture's paper and its authors' code have it."""

    def linear(name: str, value: Array) -> Array:
        result: Array = value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        return result

    def normalize(name: str, value: Array) -> Array:
        centred = value - value.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config["layer_norm_eps"])
        result: Array = scaled * weights[f"{name}.LayerNorm.weight"] + weights[f"{name}.LayerNorm.bias"]
        return result

    words, positions, types = (
        weights[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
    )
    hidden = normalize("embeddings", words[ids] + positions[offset : offset + len(ids)] + types[0])
    heads = config["num_attention_heads"]
    for layer in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        query, key, value = (
            linear(f"{name}.attention.self.{part}", hidden).reshape(len(ids), heads, -1).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = (shares @ value).transpose(1, 0, 2).reshape(len(ids), -1)
        hidden = normalize(
            f"{name}.attention.output", linear(f"{name}.attention.output.dense", mixed) + hidden
        )
        wide = gelu(linear(f"{name}.intermediate.dense", hidden), config["hidden_act"])
        hidden = normalize(f"{name}.output", linear(f"{name}.output.dense", wide) + hidden)
    pooled: Array = hidden.mean(0) if pooling == "mean" else hidden[0]
    return pooled / np.linalg.norm(pooled)


def write_model(folder: Path, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> Path:
    (folder / "config.json").write_text(json.dumps(dict(config)))
    save_file(dict(weights), folder / "model.safetensors")
    return folder


def write_pooling(folder: Path, **modes: bool) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {"word_embedding_dimension": 12} | {f"pooling_mode_{name}": on for name, on in modes.items()}
        )
    )


def run(folder: Path, texts: list[list[int]]) -> NDArray[np.float32]:
    """Build the graph and run it on one padded batch."""
    import onnxruntime

    build_bert_onnx(folder, folder / "graph.onnx")
    session = onnxruntime.InferenceSession(str(folder / "graph.onnx"), providers=["CPUExecutionProvider"])
    longest = max(map(len, texts))
    ids = np.array([text + [0] * (longest - len(text)) for text in texts], np.int64)
    mask = np.array([[1] * len(text) + [0] * (longest - len(text)) for text in texts], np.int64)
    vectors: NDArray[np.float32] = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
    return vectors


TEXTS = [[2, 7, 9, 11, 3], [2, 3], [2, 29, 3, 3]]


@pytest.mark.parametrize("prefix", ["", "bert.", "model.roberta."])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_the_graph_computes_the_architecture(tmp_path: Path, prefix: str, activation: str) -> None:
    config, weights = {**CONFIG, "hidden_act": activation}, random_weights()
    stored = {prefix + name: value.astype(np.float32) for name, value in weights.items()}
    vectors = run(write_model(tmp_path, config, stored), TEXTS)
    expected = [embed_one(weights, config, text, 0, "mean") for text in TEXTS]
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_roberta_counts_positions_from_its_padding_id(tmp_path: Path, kind: str) -> None:
    config, weights = {**CONFIG, "model_type": kind}, random_weights()
    vectors = run(write_model(tmp_path, config, {k: v.astype(np.float32) for k, v in weights.items()}), TEXTS)
    expected = [embed_one(weights, config, text, 2, "mean") for text in TEXTS]
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_a_model_pooled_by_its_first_token_is(tmp_path: Path) -> None:
    weights = random_weights()
    write_pooling(tmp_path, cls_token=True, mean_tokens=False)
    vectors = run(write_model(tmp_path, CONFIG, {k: v.astype(np.float32) for k, v in weights.items()}), TEXTS)
    expected = [embed_one(weights, CONFIG, text, 0, "cls") for text in TEXTS]
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


@pytest.mark.parametrize("stored_as", [np.float16, ml_dtypes.bfloat16])
def test_weights_of_half_the_width_are_widened(tmp_path: Path, stored_as: type) -> None:
    stored: dict[str, NDArray[Any]] = {
        name: value.astype(stored_as) for name, value in random_weights().items()
    }
    vectors = run(write_model(tmp_path, CONFIG, stored), TEXTS)
    weights = {name: value.astype(np.float64) for name, value in stored.items()}
    expected = [embed_one(weights, CONFIG, text, 0, "mean") for text in TEXTS]
    np.testing.assert_allclose(vectors, expected, atol=2e-6)


def test_the_weights_are_not_written_a_second_time(tmp_path: Path) -> None:
    weights = {name: value.astype(np.float32) for name, value in random_weights().items()}
    weights["embeddings.word_embeddings.weight"] = np.ones((100_000, 12), np.float32)
    write_model(tmp_path, CONFIG, weights)
    build_bert_onnx(tmp_path, tmp_path / "graph.onnx")
    assert (tmp_path / "graph.onnx").stat().st_size < 50_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "graph.onnx",
        "model.safetensors",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "t5"}, "model_type 't5'"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"position_embedding_type": "relative_key"}, "not absolute"),
        ({"num_hidden_layers": 3}, r"encoder\.layer\.2"),
    ],
)
def test_another_architecture_is_refused_with_its_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    weights = {name: value.astype(np.float32) for name, value in random_weights().items()}
    write_model(tmp_path, CONFIG | change, weights)
    with pytest.raises(EmbeddingUnavailable, match=reason):
        build_bert_onnx(tmp_path, tmp_path / "graph.onnx")


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, CONFIG, {k: v.astype(np.float32) for k, v in random_weights().items()})
    write_pooling(tmp_path, max_tokens=True)
    with pytest.raises(EmbeddingUnavailable, match="neither mean nor cls"):
        build_bert_onnx(tmp_path, tmp_path / "graph.onnx")


def test_weights_of_another_type_are_refused(tmp_path: Path) -> None:
    write_model(tmp_path, CONFIG, random_weights())
    with pytest.raises(EmbeddingUnavailable, match="is of type F64"):
        build_bert_onnx(tmp_path, tmp_path / "graph.onnx")


def test_a_file_that_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(EmbeddingUnavailable, match="cut short"):
        build_bert_onnx(tmp_path, tmp_path / "graph.onnx")
