"""The optimiser and the length of training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from llmrec_cli.settings.base import OptionSettings


@dataclass
class OptimSettings(OptionSettings):
    """Settings of every optimiser: rates, schedule and length of training.

    `implementation` is a function (parameter groups, settings) -> torch.optim.Optimizer.
    """

    kind: str = ""
    """The option's name; choose with optim=<name>."""
    learning_rate: float | None = None
    """Peak learning rate, above 0. null: 0.01 for mf, neural_cf, factorization_machine and the temperatures of
    features.tuned, 0.004 for peft=embedding_adapter, 0.001 otherwise."""
    encoder_learning_rate: float = 2e-4
    """Peak learning rate of the text encoder's parameters, above 0; encoder=scratch uses learning_rate instead."""
    epochs: int = 20
    """Maximum number of passes over the training data, at least 1."""
    batch_size: int = 1024
    """Maximum number of interactions (finetune) or texts (pretrain) per batch, at least 1."""
    accumulate: int = 1
    """Batches whose gradients are averaged for a step, at least 1: the effect of a larger batch without more memory."""
    schedule: str = "linear"
    """linear | cosine | constant: learning rate after the warm-up; linear and cosine decay to 0."""
    warmup_share: float = 0.1
    """Share of all steps used for the warm-up, in which the learning rate rises, 0 to 1."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each layer of the text encoder to the one below, above 0, at most 1; 1 for the
    same rate in all."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, at least 0 and below 1, for example 0.999; the average is
    validated and saved. 0: no average."""
    precision: str = "float32"
    """float32 | bfloat16 | auto: precision of matrix products in training; weights, gradients and moments are always
    float32. auto takes bfloat16 if the first steps of training are faster in it, so results depend on the machine."""
    max_gradient_norm: float = 1.0
    """Gradients are clipped to this norm, above 0."""
    patience: int = 3
    """Validations without improvement before training stops, at least 1."""
    checkpoint_every: int = 50
    """Steps between two checkpoints, at least 1."""

    def rate(self, usual: float = 1e-3) -> float:
        """Return the peak learning rate, `usual` if the setting is null."""
        return usual if self.learning_rate is None else self.learning_rate

    def problems(self) -> Iterator[str]:
        yield from self.check("learning_rate", "encoder_learning_rate", "max_gradient_norm", above=0)
        yield from self.check("epochs", "batch_size", "accumulate", "patience", "checkpoint_every", least=1)
        yield from self.check("warmup_share", least=0, most=1)
        yield from self.check("layer_decay", above=0, most=1)
        yield from self.check("ema", least=0)
        if self.ema >= 1:
            yield f"ema={self.ema}: must be below 1; at 1 the weights would never change"
        yield from self.check("schedule", among=("linear", "cosine", "constant"))
        yield from self.check("precision", among=("float32", "bfloat16", "auto"))


@dataclass
class AdamWSettings(OptimSettings):
    """AdamW (Loshchilov and Hutter 2019) with warm-up and a schedule."""

    implementation: ClassVar[str] = "llmrec_cli.training.optim.adamw"
    kind: str = "adamw"
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices, at least 0; biases and the weights of norms do not decay."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        yield from self.check("weight_decay", least=0)


OPTIMS = {"adamw": AdamWSettings}
