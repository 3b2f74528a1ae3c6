"""The text vectors of a catalogue while the encoder that makes them is trained.

Shapes: N items, L items encoded in a step, R items of a step, S tokens of a text, D hidden size, T size of a vector.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec_cli.encoders.text_bank import TextBank
from llmrec_cli.encoders.text_encoder import TextEncoder, load_encoder
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.peft import Frozen, PeftSettings

Loss = Callable[[torch.Tensor], torch.Tensor]


class ItemTexts(nn.Module):
    """A table of item text vectors, centred and normalised, kept as fresh as the training can afford.

    `raw_table` (N, T) is what the encoder said last of each text; it is part of checkpoints, so that a resumed run
    sees the same vectors. `mean` is fixed at the start. A loaded model scores from the table and loads the encoder when
    a new text comes.
    """

    raw_table: torch.Tensor
    mean: torch.Tensor

    def __init__(self, settings: EncoderSettings, peft: PeftSettings, device: torch.device, raw_NT: torch.Tensor,
                 mean_T: torch.Tensor, bank: TextBank | None = None,
                 trained_arrays: dict[str, np.ndarray] | None = None) -> None:
        super().__init__()
        self.settings, self.peft, self.device = settings, peft, device
        self.trained = not isinstance(peft, Frozen)
        self.bank = bank
        self.encoder: TextEncoder | None = None if bank is None else bank.encoder
        self.trained_arrays = trained_arrays or {}
        self.register_buffer("raw_table", raw_NT)
        self.register_buffer("mean", mean_T)

    @classmethod
    def encoded(cls, settings: EncoderSettings, peft: PeftSettings, texts: np.ndarray, device: torch.device, seed: int,
                memo: dict[str, np.ndarray]) -> "ItemTexts":
        """Return the vectors of texts (N,), ready to be trained. `memo` keeps those of frozen encoders in a run."""
        if isinstance(peft, Frozen):
            key = str(settings)
            if key not in memo:
                memo[key] = load_encoder(settings, peft, device).encode(list(texts))
            raw_NT = torch.from_numpy(memo[key]).to(device, copy=True)
            return cls(settings, peft, device, raw_NT, raw_NT.mean(dim=0))
        bank = TextBank(load_encoder(settings, peft, device, seed=seed), list(texts), device)
        raw_NT = bank.vectors()
        return cls(settings, peft, device, raw_NT, raw_NT.mean(dim=0), bank)

    @classmethod
    def loaded(cls, settings: EncoderSettings, peft: PeftSettings, state: dict[str, np.ndarray],
               device: torch.device) -> "ItemTexts":
        """Return the vectors of a saved model; the encoder waits until it is needed."""
        trained = {name.removeprefix("encoder."): value for name, value in state.items() if name.startswith("encoder.")}
        return cls(settings, peft, device, torch.from_numpy(state["texts.raw_table"]).to(device),
                   torch.from_numpy(state["texts.mean"]).to(device), trained_arrays=trained)

    @property
    def size(self) -> int:
        """T."""
        return self.raw_table.shape[1]

    @property
    def table(self) -> torch.Tensor:
        """The finished vectors (N, T)."""
        return self._finish(self.raw_table)

    def refresh(self) -> None:
        """Encode every text at the encoder's present weights."""
        if self.bank is not None:
            self.raw_table.copy_(self.bank.vectors())

    def loss_with(self, live_L: torch.Tensor, rows_R: torch.Tensor, of: Loss, adversarial: Any,
                  attacked: Callable[[Loss, torch.Tensor, Any], torch.Tensor]) -> torch.Tensor:
        """Return the loss `of` the table, with gradients to the encoder through the texts `live_L`.

        The adversary perturbs the input of the lowest trained layer: the kept hidden states under the encoder's trained
        layers, or with a frozen encoder the vectors of the step's items `rows_R`.
        """
        if self.bank is None:
            table_NT = self.table
            return attacked(lambda rows_RT: of(table_NT.index_copy(0, rows_R, rows_RT)), table_NT[rows_R], adversarial)
        hidden_LSD, mask_LS = self.bank.batch(live_L)
        encoder, passes = self.bank.encoder, []

        def through_encoder(hidden: torch.Tensor) -> torch.Tensor:
            passes.append(encoder.upper(hidden, mask_LS))
            return of(self._finish(self.raw_table.index_copy(0, live_L, passes[-1])))

        value = attacked(through_encoder, hidden_LSD, adversarial)
        # The first pass is the clean one, before the attack: that is the vector to remember.
        self.raw_table[live_L] = passes[0].detach()
        return value

    def vectors(self, texts: list[str]) -> torch.Tensor:
        """Return the finished vectors of new texts (num_texts, T)."""
        return self._finish(self._raw(texts))

    def add(self, texts: list[str]) -> None:
        """Append the texts of new items."""
        self.raw_table = torch.cat([self.raw_table, self._raw(texts)])

    def _raw(self, texts: list[str]) -> torch.Tensor:
        if self.encoder is None:
            self.encoder = load_encoder(self.settings, self.peft, self.device)
            if self.trained:
                self.encoder.load_trained_state(self.trained_arrays)
        return torch.from_numpy(self.encoder.encode(texts)).to(self.device)

    def state(self) -> dict[str, np.ndarray]:
        """Return the table, the mean and what was trained of the encoder."""
        arrays = self.trained_arrays if self.encoder is None else self.encoder.trained_state() if self.trained else {}
        return {"texts.raw_table": self.raw_table.cpu().numpy(), "texts.mean": self.mean.cpu().numpy(),
                **{f"encoder.{name}": value for name, value in arrays.items()}}

    def _finish(self, raw_NT: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(raw_NT - self.mean, dim=1)
