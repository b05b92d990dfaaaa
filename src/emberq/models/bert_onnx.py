"""Builds the ONNX graph of a BERT-family model from its files, without torch.

The graph file has the operators only. The weights are external data in `model.safetensors`: they are on
disk once, and are mapped into memory. Only standard operators are used; ONNX Runtime folds the transposes
and fuses GELU and the scaled attention product when it loads the graph.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from emberq.errors import EmbeddingUnavailable

#: The first opset with the operator Gelu; LayerNormalization came with opset 17.
_OPSET = 20
#: The file format of opset 20's first release; every supported ONNX Runtime reads it.
_IR_VERSION = 9
#: Added to the attention scores of padding before the softmax. It makes their weights exactly zero in
#: float32; infinity would make a row of only padding NaN.
_MASKED_SCORE = -10000.0

#: The supported model types, with the index of their first position embedding. RoBERTa's positions begin
#: at the padding id plus one, and the padding id is 1 in all published models of the kind.
_POSITION_OFFSETS = {"bert": 0, "roberta": 2, "camembert": 2, "xlm-roberta": 2}
#: `hidden_act` values and the `approximate` attribute of the Gelu operator that computes them.
_GELU_KINDS = {"gelu": "none", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
_STORED_TYPES = {"F32": TensorProto.FLOAT, "F16": TensorProto.FLOAT16, "BF16": TensorProto.BFLOAT16}


class _Shape(NamedTuple):
    """The architecture's parameters, from `config.json`."""

    layers: int
    heads: int
    hidden: int
    epsilon: float
    gelu: str
    position_offset: int
    pooling: str


def build_bert_onnx(directory: Path, target: Path) -> None:
    """Write the graph that turns token ids into sentence embeddings.

    The inputs are `input_ids` and `attention_mask`, int64 `[batch, tokens]`, padded on the right. The
    output `embedding` is float32 `[batch, hidden]`: the mean of the tokens, or the first token if the
    directory's `1_Pooling/config.json` says so, scaled to length 1.

    Args:
        directory: Contains `config.json` and `model.safetensors`.
        target: The file to write; it must be in `directory`, because it refers to the weights.

    Raises:
        EmbeddingUnavailable: If the directory is not a BERT-family model, or the file cannot be written.
    """
    try:
        shape = _read_shape(directory)
        model = _Graph(directory / "model.safetensors", target.parent).build(shape)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        partial.write_bytes(model.SerializeToString())
        partial.replace(target)
    except (OSError, ValueError, KeyError) as exc:
        raise EmbeddingUnavailable(
            f"No ONNX graph can be built from the model {directory.name}: {exc}.",
            hint="It must be a writable folder with a BERT-family config.json and model.safetensors.",
        ) from exc


def _read_shape(directory: Path) -> _Shape:
    config: dict[str, Any] = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    kind = config.get("model_type")
    if kind not in _POSITION_OFFSETS:
        raise ValueError(f"model_type {kind!r} is not one of {', '.join(_POSITION_OFFSETS)}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise ValueError("its position embeddings are not absolute")
    activation = config.get("hidden_act", "gelu")
    if activation not in _GELU_KINDS:
        raise ValueError(f"hidden_act {activation!r} is not one of {', '.join(_GELU_KINDS)}")
    return _Shape(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["hidden_size"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        gelu=_GELU_KINDS[activation],
        position_offset=_POSITION_OFFSETS[kind],
        pooling=_read_pooling(directory),
    )


def _read_pooling(directory: Path) -> str:
    path = directory / "1_Pooling" / "config.json"
    if not path.exists():
        return "mean"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    modes = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    if modes == ["pooling_mode_mean_tokens"]:
        return "mean"
    if modes == ["pooling_mode_cls_token"]:
        return "cls"
    raise ValueError(f"its pooling {modes} is neither mean nor cls")


class _Graph:
    """A graph under construction: nodes in order, references to weights, and small constants."""

    def __init__(self, weights: Path, base: Path) -> None:
        self._location = str(weights.relative_to(base))
        self._stored, self._data_start = _read_header(weights)
        words = "embeddings.word_embeddings.weight"
        self._prefix = next((name.removesuffix(words) for name in self._stored if name.endswith(words)), "")
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def build(self, shape: _Shape) -> onnx.ModelProto:
        """Return the complete model."""
        mask = self._op("Cast", "attention_mask", to=TensorProto.FLOAT)
        hidden = self._embeddings(shape)
        for layer in range(shape.layers):
            hidden = self._layer(f"encoder.layer.{layer}.", hidden, mask, shape)
        self._nodes.append(
            helper.make_node(
                "LpNormalization", [self._pool(hidden, mask, shape)], ["embedding"], axis=-1, p=2
            )
        )
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
            for name in ("input_ids", "attention_mask")
        ]
        output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", shape.hidden])
        graph = helper.make_graph(
            self._nodes, "sentence_embedding", inputs, [output], list(self._initializers.values())
        )
        return helper.make_model(
            graph,
            producer_name="emberq",
            ir_version=_IR_VERSION,
            opset_imports=[helper.make_opsetid("", _OPSET)],
        )

    def _embeddings(self, shape: _Shape) -> str:
        words = self._op("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        first = self._constant(np.array([shape.position_offset]))
        length = self._op("Shape", "input_ids", start=1, end=2)
        positions = self._op(
            "Slice",
            self._weight("embeddings.position_embeddings.weight"),
            first,
            self._op("Add", length, first),
            self._constant(np.array([0])),
        )
        segment = self._op(
            "Gather", self._weight("embeddings.token_type_embeddings.weight"), self._constant(np.array(0))
        )
        total = self._op("Add", words, self._op("Add", positions, segment))
        return self._normalize("embeddings.LayerNorm", total, shape)

    def _layer(self, name: str, hidden: str, mask: str, shape: _Shape) -> str:
        attended = self._linear(f"{name}attention.output.dense", self._attention(name, hidden, mask, shape))
        hidden = self._normalize(
            f"{name}attention.output.LayerNorm", self._op("Add", attended, hidden), shape
        )
        wide = self._op("Gelu", self._linear(f"{name}intermediate.dense", hidden), approximate=shape.gelu)
        narrow = self._linear(f"{name}output.dense", wide)
        return self._normalize(f"{name}output.LayerNorm", self._op("Add", narrow, hidden), shape)

    def _attention(self, name: str, hidden: str, mask: str, shape: _Shape) -> str:
        per_head = shape.hidden // shape.heads
        split = self._constant(np.array([0, 0, shape.heads, per_head]))
        query, key, value = (
            self._op("Reshape", self._linear(f"{name}attention.self.{part}", hidden), split)
            for part in ("query", "key", "value")
        )
        scores = self._op(
            "Div",
            self._op(
                "MatMul",
                self._op("Transpose", query, perm=[0, 2, 1, 3]),
                self._op("Transpose", key, perm=[0, 2, 3, 1]),
            ),
            self._constant(np.array(per_head**0.5, np.float32)),
        )
        weights = self._op("Softmax", self._op("Add", scores, self._padding_scores(mask)), axis=-1)
        mixed = self._op("MatMul", weights, self._op("Transpose", value, perm=[0, 2, 1, 3]))
        joined = self._op("Transpose", mixed, perm=[0, 2, 1, 3])
        return self._op("Reshape", joined, self._constant(np.array([0, 0, shape.hidden])))

    def _padding_scores(self, mask: str) -> str:
        """Return scores of 0 for tokens and `_MASKED_SCORE` for padding; computed once for all layers."""
        absent = self._op("Sub", self._constant(np.array(1, np.float32)), mask)
        scores = self._op("Mul", absent, self._constant(np.array(_MASKED_SCORE, np.float32)))
        return self._op("Unsqueeze", scores, self._constant(np.array([1, 2])))

    def _pool(self, hidden: str, mask: str, shape: _Shape) -> str:
        if shape.pooling == "cls":
            return self._op("Gather", hidden, self._constant(np.array(0)), axis=1)
        # The sum serves as the mean: the normalisation that follows scales both to the same vector.
        row = self._constant(np.array([1]))
        return self._op("Squeeze", self._op("MatMul", self._op("Unsqueeze", mask, row), hidden), row)

    def _linear(self, name: str, value: str) -> str:
        transposed = self._op("Transpose", self._weight(f"{name}.weight"), perm=[1, 0])
        return self._op("Add", self._op("MatMul", value, transposed), self._weight(f"{name}.bias"))

    def _normalize(self, name: str, value: str, shape: _Shape) -> str:
        scale, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op("LayerNormalization", value, scale, bias, axis=-1, epsilon=shape.epsilon)

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, value: np.ndarray[Any, Any]) -> str:
        name = f"constant_{value.dtype}_{value.tolist()}"
        self._initializers.setdefault(name, numpy_helper.from_array(value, name))
        return name

    def _weight(self, name: str) -> str:
        """Return a reference to a tensor of the weights file, converted to float32 if necessary."""
        stored = self._stored[self._prefix + name]
        kind = _STORED_TYPES.get(stored["dtype"])
        if kind is None:
            raise ValueError(f"{name} is of type {stored['dtype']}, not one of {', '.join(_STORED_TYPES)}")
        begin, end = stored["data_offsets"]
        if name not in self._initializers:
            tensor = TensorProto(name=name, data_type=kind, dims=stored["shape"])
            tensor.data_location = TensorProto.EXTERNAL
            place = {"location": self._location, "offset": self._data_start + begin, "length": end - begin}
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            self._initializers[name] = tensor
        return name if kind == TensorProto.FLOAT else self._op("Cast", name, to=TensorProto.FLOAT)


def _read_header(weights: Path) -> tuple[dict[str, Any], int]:
    """Return the description of each tensor by name, and the offset of the data in the file.

    The format is eight bytes of little-endian length, that many bytes of JSON, and the data.
    """
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= weights.stat().st_size - 8:
            raise ValueError(f"{weights.name} is cut short or not a safetensors file")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length
