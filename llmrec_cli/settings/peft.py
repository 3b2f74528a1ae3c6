"""Parameter-efficient fine-tuning: the parameters of the encoder that are trained, or adapters added to it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings


@dataclass
class PeftSettings(OptionSettings):
    """Settings of every option."""

    trains: ClassVar[bool] = True
    """True if training changes the text vectors."""
    trains_layers: ClassVar[bool] = True
    """True if layers of the encoder are trained or adapted; the encoder must be a transformer."""
    trains_all: ClassVar[bool] = False
    """True if all parameters of the encoder are trained."""
    kind: str = ""
    """The option's name; choose with peft=<name>."""

    @property
    def starting_adapter(self) -> str:
        """The folder of the adapter that training starts from; empty for a new adapter."""
        return ""

    @property
    def saves_encoder(self) -> bool:
        """True if the encoder is saved with the trained weights merged."""
        return False

    @property
    def tokens_drawn(self) -> int | None:
        """Number of tokens sampled from each text in training; None for all tokens."""
        return None

    def as_fitted(self) -> "PeftSettings":
        """Return the settings that a fitted model keeps."""
        return self


@dataclass
class FrozenSettings(PeftSettings):
    """Frozen encoder: text vectors are computed once."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.FrozenPeft"
    trains: ClassVar[bool] = False
    trains_layers: ClassVar[bool] = False
    kind: str = "frozen"


@dataclass
class TrainedPeftSettings(PeftSettings):
    """Settings of every option that trains something."""

    adapter: str = ""
    """Initial weights: the `adapter` folder of an earlier run with the same encoder and the same `peft`; empty for a
    new adapter."""
    merge: bool = False
    """Also save the encoder with the trained weights merged, as `encoder/` in the run directory, for AutoModel and
    sentence-transformers."""

    @property
    def starting_adapter(self) -> str:
        return self.adapter

    @property
    def saves_encoder(self) -> bool:
        return self.merge

    def as_fitted(self) -> "PeftSettings":
        return replace(self, adapter="", merge=False)


@dataclass
class NoPeftSettings(TrainedPeftSettings):
    """Full fine-tuning: every parameter of the encoder is trained."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.FullPeft"
    trains_all: ClassVar[bool] = True
    kind: str = "none"


@dataclass
class LayerPeftSettings(TrainedPeftSettings):
    """Settings of options on the top layers; the hidden states below are computed once and cached."""

    num_layers: int | None = 2
    """Number of top layers that are trained or get an adapter, at least 1; null for all layers (slower: no hidden
    states can be cached)."""
    sampled_tokens: int | None = None
    """Number of tokens, at least 2, sampled from each text in every training step for the trained layers; null for all
    tokens. 16 of 64 tokens are about three times as fast."""

    @property
    def tokens_drawn(self) -> int | None:
        return self.sampled_tokens

    def problems(self) -> Iterator[str]:
        yield from self.check("num_layers", least=1)
        yield from self.check("sampled_tokens", least=2)
        if self.sampled_tokens is not None and self.num_layers is None:
            yield (f"sampled_tokens={self.sampled_tokens}: tokens are sampled from cached hidden states, and with "
                   f"num_layers=null none are cached; set num_layers, or leave it out")


@dataclass
class TopLayersSettings(LayerPeftSettings):
    """The top layers of the encoder are trained."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.TopLayersPeft"
    kind: str = "top_layers"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.num_layers is None:
            yield "num_layers=null: not possible with peft=top_layers; choose peft=none to train all layers"


@dataclass
class LoraSettings(LayerPeftSettings):
    """Low-rank adaptation (Hu et al. 2022) of the linear layers."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.LoraPeft"
    kind: str = "lora"
    rank: int = 8
    """Rank of the update, at least 1."""
    alpha: float = 16.0
    """Scale: the update is multiplied by alpha / rank; above 0."""
    dropout: float = 0.0
    """Dropout on the input of the update, 0 to 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("rank", least=1)
        yield from self.check("alpha", above=0)
        yield from self.check("dropout", least=0, most=0.99)


@dataclass
class DoraSettings(LoraSettings):
    """Weight-decomposed low-rank adaptation (Liu et al. 2024): LoRA on the directions of the weights, with trained
    norms."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.DoraPeft"
    kind: str = "dora"


@dataclass
class AdaLoraSettings(LoraSettings):
    """AdaLoRA (Zhang et al. 2023): LoRA in the form of a singular value decomposition, pruned to the most important
    ranks."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.adalora.AdaLoraPeft"
    kind: str = "adalora"
    target_rank: int = 4
    """Mean rank after pruning, at least 1 and below `rank`."""
    warmup_share: float = 0.1
    """Share of the steps before pruning begins, 0 to 1."""
    final_share: float = 0.3
    """Share of the steps after pruning has ended, 0 to 1; together with `warmup_share` below 1."""
    orthogonality: float = 0.5
    """Weight of the penalty that keeps the singular vectors orthogonal, at least 0."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("target_rank", least=1, most=self.rank - 1)
        yield from self.check("warmup_share", "final_share", "orthogonality", least=0)
        if self.warmup_share + self.final_share >= 1:
            yield f"final_share={self.final_share}: together with warmup_share={self.warmup_share} must be below 1"


@dataclass
class Ia3Settings(LayerPeftSettings):
    """IA3 adapters (Liu et al. 2022): a trained factor for each key, value and feed-forward activation."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.Ia3Peft"
    kind: str = "ia3"


@dataclass
class BottleneckSettings(LayerPeftSettings):
    """Bottleneck adapters (Houlsby et al. 2019), an adapter after each layer as in Pfeiffer et al. 2021."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.bottleneck.BottleneckPeft"
    kind: str = "bottleneck"
    size: int = 32
    """Width of the bottleneck, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("size", least=1)
        if self.merge:
            yield "merge=true: bottlenecks are extra layers and cannot be merged into the encoder; leave it out"


@dataclass
class VirtualTokensSettings(TrainedPeftSettings):
    """Settings of options that put trained vectors before the text. Every layer runs in every step, since all layers
    depend on them."""

    num_virtual_tokens: int = 8
    """Number of trained vectors before each text, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from self.check("num_virtual_tokens", least=1)
        if self.merge:
            yield "merge=true: virtual tokens are inputs and cannot be merged into the encoder; leave it out"


@dataclass
class PrefixSettings(VirtualTokensSettings):
    """Prefix tuning (Li and Liang 2021): trained keys and values in every layer."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.PrefixPeft"
    kind: str = "prefix"


@dataclass
class PromptSettings(VirtualTokensSettings):
    """Prompt tuning (Lester et al. 2021): trained token embeddings before the text."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.PromptPeft"
    kind: str = "prompt"


@dataclass
class EmbeddingAdapterSettings(TrainedPeftSettings):
    """A residual low-rank map of the frozen, centred text vectors, z = norm(x + dropout(x) A B). Works with any
    encoder."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.embedding_adapter.EmbeddingAdapterPeft"
    trains_layers: ClassVar[bool] = False
    kind: str = "embedding_adapter"
    rank: int = 128
    """Rank of the map, at least 1."""
    dropout: float = 0.1
    """Dropout on the input of the map, 0 to 1."""

    def problems(self) -> Iterator[str]:
        yield from self.check("rank", least=1)
        yield from self.check("dropout", least=0, most=0.99)
        if self.merge:
            yield "merge=true: the map works on text vectors and cannot be merged into the encoder; leave it out"


PEFTS = {"none": NoPeftSettings, "frozen": FrozenSettings, "top_layers": TopLayersSettings, "lora": LoraSettings,
         "dora": DoraSettings, "adalora": AdaLoraSettings,
         "ia3": Ia3Settings, "prefix": PrefixSettings, "prompt": PromptSettings, "bottleneck": BottleneckSettings,
         "embedding_adapter": EmbeddingAdapterSettings}
