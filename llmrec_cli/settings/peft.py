"""Trained parameters of the encoder: its own, or added ones in their place."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings


@dataclass
class PeftSettings(OptionSettings):
    """Settings of every choice."""

    trains: ClassVar[bool] = True
    """True if anything of the texts' vectors is trained."""
    trains_layers: ClassVar[bool] = True
    """True if layers of the encoder are trained or adapted, for which it has to be a transformer."""
    trains_all: ClassVar[bool] = False
    """True if all parameters of the encoder are trained."""
    kind: str = ""
    """The option's name; choose with peft=<name>."""

    @property
    def starting_adapter(self) -> str:
        """The folder of the adapter that training starts from; empty to start anew."""
        return ""

    @property
    def saves_encoder(self) -> bool:
        """True if the encoder is written with the trained weights in it."""
        return False

    @property
    def tokens_drawn(self) -> int | None:
        """Tokens of each text that are drawn in training; None for all."""
        return None

    def as_fitted(self) -> "PeftSettings":
        """Return the settings that a fitted model keeps: where it started, and what else was written, is no part."""
        return self


@dataclass
class FrozenSettings(PeftSettings):
    """No parameter of the encoder is trained; its vectors are computed once."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.FrozenPeft"
    trains: ClassVar[bool] = False
    trains_layers: ClassVar[bool] = False
    kind: str = "frozen"


@dataclass
class TrainedPeftSettings(PeftSettings):
    """Settings of every choice that trains something."""

    adapter: str = ""
    """Weights to start from: the `adapter` folder of an earlier run with the same encoder and the same `peft`; empty to
    start anew."""
    merge: bool = False
    """Also write `encoder/` in the run directory: the encoder with what was trained in it, for AutoModel and
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
    """Every parameter of the encoder is trained."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.FullPeft"
    trains_all: ClassVar[bool] = True
    kind: str = "none"


@dataclass
class LayerPeftSettings(TrainedPeftSettings):
    """Settings that train the top layers only: the hidden states below them are computed once and kept."""

    num_layers: int | None = 2
    """Top layers that are trained or get an adapter, at least 1; null for all layers (slower: nothing can be kept)."""
    sampled_tokens: int | None = None
    """Tokens of each text, at least 2, drawn anew each time, that go through the trained layers while training; null
    for all of them. 16 of 64 are about three times as fast."""

    @property
    def tokens_drawn(self) -> int | None:
        return self.sampled_tokens

    def problems(self) -> Iterator[str]:
        yield from self.check("num_layers", least=1)
        yield from self.check("sampled_tokens", least=2)
        if self.sampled_tokens is not None and self.num_layers is None:
            yield (f"sampled_tokens={self.sampled_tokens}: tokens are drawn from the kept hidden states, and with "
                   f"num_layers=null none are kept; set num_layers, or leave it out")


@dataclass
class TopLayersSettings(LayerPeftSettings):
    """The top layers themselves are trained."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.TopLayersPeft"
    kind: str = "top_layers"

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.num_layers is None:
            yield "num_layers=null: all layers are trained by peft=none"


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
    """Weight-decomposed low-rank adaptation (Liu et al. 2024): LoRA on the direction, a length of its own."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.DoraPeft"
    kind: str = "dora"


@dataclass
class AdaLoraSettings(LoraSettings):
    """Adaptive budget (Zhang et al. 2023): LoRA as a singular value decomposition, pruned to the ranks that matter."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.adalora.AdaLoraPeft"
    kind: str = "adalora"
    target_rank: int = 4
    """Mean rank that is left in the end, at least 1 and below `rank`."""
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
    """Infused adapters (Liu et al. 2022): a factor for each key, value and feed-forward activation."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.peft.Ia3Peft"
    kind: str = "ia3"


@dataclass
class BottleneckSettings(LayerPeftSettings):
    """Bottleneck adapters (Houlsby et al. 2019; one behind each layer, as in Pfeiffer et al. 2021)."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.bottleneck.BottleneckPeft"
    kind: str = "bottleneck"
    size: int = 32
    """Width of the bottleneck, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("size", least=1)
        if self.merge:
            yield "merge=true: a bottleneck is a layer of its own and cannot be merged into the encoder's"


@dataclass
class VirtualTokensSettings(TrainedPeftSettings):
    """Settings that put trained vectors before the text; every layer runs in every step, since all see them."""

    num_virtual_tokens: int = 8
    """Vectors put before each text, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from self.check("num_virtual_tokens", least=1)
        if self.merge:
            yield "merge=true: virtual tokens are no weights of the encoder and cannot be merged into it"


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
    """A residual low-rank map on the frozen, centred vectors: z = norm(x + dropout(x) A B). Works with any encoder."""

    implementation: ClassVar[str] = "llmrec_cli.encoders.embedding_adapter.EmbeddingAdapterPeft"
    trains_layers: ClassVar[bool] = False
    kind: str = "embedding_adapter"
    rank: int = 128
    """Rank of the map, at least 1."""
    dropout: float = 0.1
    """Dropout on what goes into the map, 0 to 1."""

    def problems(self) -> Iterator[str]:
        yield from self.check("rank", least=1)
        yield from self.check("dropout", least=0, most=0.99)
        if self.merge:
            yield "merge=true: the map works on finished vectors and is no part of the encoder"


PEFTS = {"none": NoPeftSettings, "frozen": FrozenSettings, "top_layers": TopLayersSettings, "lora": LoraSettings,
         "dora": DoraSettings, "adalora": AdaLoraSettings,
         "ia3": Ia3Settings, "prefix": PrefixSettings, "prompt": PromptSettings, "bottleneck": BottleneckSettings,
         "embedding_adapter": EmbeddingAdapterSettings}
