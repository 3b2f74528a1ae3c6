"""Objectives of `pretrain`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings

_VIEWS = ("dropout", "history", "knowledge")


@dataclass
class ObjectiveSettings(OptionSettings):
    """Settings of every objective; `implementation` is a function (settings, encoder, data, seed, device) -> Task."""

    in_words: ClassVar[str] = ""
    """Name of the objective on the report; empty for the option's name."""
    kind: str = ""
    """The option's name; choose with objective=<name>."""
    holdout_share: float = 0.1
    """Share of the corpus held out for the loss and accuracy before and after training, above 0 and at most 0.5."""

    def problems(self) -> Iterator[str]:
        yield from self.check("holdout_share", above=0, most=0.5)


@dataclass
class LanguageSettings(ObjectiveSettings):
    """Settings of objectives that predict tokens."""

    histories: bool = True
    """Also train on the users' training histories written as text."""
    history_length: int = 10
    """Most items of a history in a text, at least 1."""
    max_histories: int = 200
    """Most history texts, drawn at random, at least 1; training time grows with them."""
    knowledge: bool = False
    """Also train on each item's triples written as text; needs data with a knowledge graph."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("history_length", "max_histories", least=1)


@dataclass
class MaskedLanguageModelSettings(LanguageSettings):
    """Masked language model (Devlin et al. 2019): predict masked tokens from both sides."""

    implementation: ClassVar[str] = "llmrec_cli.training.mlm.masked_language_modelling"
    in_words: ClassVar[str] = "masked language model"
    kind: str = "mlm"
    mask_share: float = 0.15
    """Share of the tokens to predict, above 0 and at most 0.5."""
    whole_words: bool | None = None
    """Mask all pieces of a word together, so that no piece can be guessed from the others. null: true if the tokenizer
    has word boundaries. In scripts without spaces, such as Chinese, each token is a word."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("mask_share", above=0, most=0.5)


@dataclass
class CausalLanguageModelSettings(LanguageSettings):
    """Causal language model (Radford et al. 2018): predict each next token; for decoders (GPT-2, Qwen, Llama)."""

    implementation: ClassVar[str] = "llmrec_cli.training.clm.causal_language_modelling"
    in_words: ClassVar[str] = "causal language model"
    kind: str = "clm"


@dataclass
class NextSentenceSettings(ObjectiveSettings):
    """Next-sentence prediction (Devlin et al. 2019) on items: does this item follow this history?"""

    implementation: ClassVar[str] = "llmrec_cli.training.nsp.next_sentence_prediction"
    in_words: ClassVar[str] = "next-sentence prediction"
    kind: str = "nsp"
    history_length: int = 10
    """Number of newest items of a history, at least 1."""
    max_histories: int = 1000
    """Most histories to train on, drawn at random, at least 1; training time grows with them."""
    num_negatives: int = 1
    """Items that do not follow, per item that does, at least 1."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("history_length", "max_histories", "num_negatives", least=1)


@dataclass
class ContrastiveSettings(ObjectiveSettings):
    """Contrastive learning (InfoNCE): two views of an item get similar vectors, unlike the rest of the batch."""

    implementation: ClassVar[str] = "llmrec_cli.training.contrastive.contrastive"
    in_words: ClassVar[str] = "contrastive learning"
    kind: str = "contrastive"
    views: str = "history"
    """dropout | history | knowledge: the two views. dropout: an item's text twice with different dropout (SimCSE, Gao
    et al. 2021). history: an item's text and the history before it. knowledge: an item's text and its triples as
    text."""
    temperature: float = 0.05
    """Softmax temperature, above 0; lower is sharper."""
    history_length: int | None = None
    """With views=history: number of newest items of a history, at least 1; null for 10."""
    max_histories: int | None = None
    """With views=history: most histories to train on, drawn at random, at least 1; null for 1,000."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("views", among=_VIEWS)
        yield from self.check("temperature", above=0)
        yield from self.check("history_length", "max_histories", least=1)
        if self.views != "history":
            yield from (f"{key}={getattr(self, key)}: has no effect with views={self.views}; leave it out"
                        for key in ("history_length", "max_histories") if getattr(self, key) is not None)


OBJECTIVES = {"mlm": MaskedLanguageModelSettings, "clm": CausalLanguageModelSettings, "nsp": NextSentenceSettings,
              "contrastive": ContrastiveSettings}
