"""A cross-encoder small enough to be made in a test: it counts the words that query and text share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

__all__ = ["make_cross_encoder"]

_WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "terns", "fly", "far", "tax", "law", "is", "dull"]
#: What the count is compared with: no shared word is less likely relevant than not.
_BIAS = -1.5


def make_cross_encoder(home: Path, *, classes: int = 1) -> Path:
    """Write `model.onnx` and `tokenizer.json`.

    Args:
        home: The folder; made if it is not there.
        classes: 1 for one score per pair, 2 for the opposite score of "no" beside it.
    """
    home.mkdir(parents=True, exist_ok=True)
    _tokenizer().save(str(home / "tokenizer.json"))
    onnx.save(_graph(classes), str(home / "model.onnx"))
    return home


def _tokenizer() -> Tokenizer:
    ids = {word: number for number, word in enumerate(_WORDS)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    return tokenizer


def _graph(classes: int) -> onnx.ModelProto:
    def constant(name: str, value: object, kind: type = np.int64) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(value, kind), name)

    node = helper.make_node
    nodes = [
        node("Unsqueeze", ["input_ids", "two"], ["down"]),
        node("Unsqueeze", ["input_ids", "one"], ["across"]),
        node("Equal", ["down", "across"], ["same"]),
        node("Greater", ["input_ids", "separator"], ["is_word"]),
        node("Cast", ["is_word"], ["words"], to=TensorProto.FLOAT),
        node("Cast", ["token_type_ids"], ["second"], to=TensorProto.FLOAT),
        node("Cast", ["attention_mask"], ["present"], to=TensorProto.FLOAT),
        node("Sub", ["present", "second"], ["first"]),
        node("Mul", ["first", "words"], ["query_words"]),
        node("Mul", ["second", "words"], ["text_words"]),
        node("Unsqueeze", ["query_words", "two"], ["query_down"]),
        node("Unsqueeze", ["text_words", "one"], ["text_across"]),
        node("Mul", ["query_down", "text_across"], ["pairs"]),
        node("Cast", ["same"], ["same_float"], to=TensorProto.FLOAT),
        node("Mul", ["pairs", "same_float"], ["shared"]),
        node("ReduceSum", ["shared", "both"], ["count"], keepdims=0),
        node("Unsqueeze", ["count", "one"], ["column"]),
        node("Add", ["column", "bias"], ["score"]),
        node("Neg", ["score"], ["irrelevant"]),
        node("Concat", ["irrelevant", "score"] if classes == 2 else ["score"], ["logits"], axis=1),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    constants = [
        constant("one", [1]),
        constant("two", [2]),
        constant("both", [1, 2]),
        constant("separator", _WORDS.index("[SEP]")),
        constant("bias", _BIAS, np.float32),
    ]
    graph = helper.make_graph(nodes, "shared_words", inputs, [output], constants)
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])
