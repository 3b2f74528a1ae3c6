"""Text vectors of a catalogue, frozen or trained.

Shapes: N items, L items encoded in a step, R items of a step, S tokens of a text, D hidden size, T size of a vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from llmrec_cli.data.tensors import BOOL, FLOAT, TensorReader
from llmrec_cli.encoders.base import Encoder, encoder_class, open_encoder
from llmrec_cli.encoders.embedding_adapter import EmbeddingMap
from llmrec_cli.encoders.frozen_layer_cache import FrozenLayerCache
from llmrec_cli.encoders.layer_split import find_layers
from llmrec_cli.encoders.peft import build_peft
from llmrec_cli.encoders.saving import load_adapter, save_adapter
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.encoders.vector_cache import encode_cached
from llmrec_cli.encoders.whitening import fit_whitening
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.shared.tensor_files import load_parameters
from llmrec_cli.settings.encoder import EncoderSettings
from llmrec_cli.settings.optim import OptimSettings
from llmrec_cli.settings.peft import PeftSettings
from llmrec_cli.training.allocator import return_freed_memory
from llmrec_cli.training.optim import layer_rates

Loss = Callable[[torch.Tensor], torch.Tensor]
_BUFFERS = ("raw_table", "mean", "matrix", "said")
_CENTRING = ("centring.mean", "centring.matrix")


class ItemTexts(nn.Module):
    """A table of item text vectors, centred and normalised, refreshed during training.

    Centring removes what all texts of a catalogue have in common; with normalisation it accounts for most of the gain
    from text (docs/experiments.md). An empty text has zeros, because two items without text are not similar.
    `raw_table` (N, T) has the encoder's last output for each text; it is part of checkpoints, so that a resumed run
    sees the same vectors. `said` (bool, N) marks non-empty texts. `mean`, and `matrix` if the encoder's settings ask
    for whitening or a projection, are fixed at the start and fitted again by `recentre`. A loaded model scores from the
    table and opens the encoder only for new texts.

    Attributes
    ----------
    trained : True if training changes the vectors
    bank : the texts, cached for the trained layers; None if no layer is trained
    map : the adapter of peft=embedding_adapter; None for other peft
    """

    raw_table: torch.Tensor
    mean: torch.Tensor
    matrix: torch.Tensor
    said: torch.Tensor

    def __init__(self, settings: EncoderSettings, peft: PeftSettings, device: torch.device, seed: int = 0) -> None:
        super().__init__()
        self.settings, self.peft, self.device = settings, peft, device
        self.trained = peft.trains
        self.bank: FrozenLayerCache | None = None
        self.encoder: Any = None
        self.map: EmbeddingMap | None = None
        self.seed = seed
        self.encoder_state: dict[str, np.ndarray] = {}
        for name in _BUFFERS:
            self.register_buffer(name, torch.zeros(0))

    @classmethod
    def encode(cls, settings: EncoderSettings, peft: PeftSettings, texts: np.ndarray, device: torch.device, seed: int,
               memo: dict[str, np.ndarray], in_training: np.ndarray | None = None, cache: Path | None = None,
               precision: str = "float32") -> "ItemTexts":
        """Encode texts (N,), ready for training.

        `in_training` (bool, N) marks the items for centring and for fitting encoders that learn from texts. `memo`
        keeps vectors of frozen encoders within a run, the folder `cache` across runs. `precision` is the precision of
        the cached hidden states below the trained layers.
        """
        new = cls(settings, peft, device, seed)
        new.said = torch.from_numpy(_has_text(texts)).to(device)
        fit_rows = new.said.cpu().numpy() & (np.ones(len(texts), bool) if in_training is None else in_training)
        if peft.trains_layers:
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            new.encoder = load_encoder(settings, peft, device, seed=seed)
            new.bank = FrozenLayerCache(new.encoder, list(texts), device, dtype, cache, peft.tokens_drawn)
        else:
            new.raw_table = new._frozen(texts, fit_rows, memo, cache)
        new._start(fit_rows)
        # The buffers of encoding are no longer needed. The heap would keep them beside the arrays of the fit.
        return_freed_memory()
        return new.eval()

    def _start(self, fit_rows: np.ndarray) -> None:
        """Initialise weights, table, mean and map: from scratch, or from `peft.adapter`."""
        weights: dict[str, np.ndarray] | None = None
        if self.peft.starting_adapter:
            adapter = load_adapter(self.peft, self.base_identity)
            size = adapter.shape(_CENTRING[0])[0]
            matrix = (0,) if adapter.shape(_CENTRING[1]) == (0,) else (size, None)
            self.mean, self.matrix = (torch.from_numpy(adapter.take(name, FLOAT, shape)).to(self.device)
                                      for name, shape in zip(_CENTRING, ((size,), matrix), strict=True))
            weights = adapter.take_all()
        if self.bank is not None:
            if weights is not None:
                self.encoder.load_trained_state(weights)
            self.raw_table = self.bank.vectors()
        if weights is not None and len(self.mean) != self.raw_table.shape[1]:
            raise ArtifactError(f"peft.adapter={self.peft.starting_adapter}: is for vectors of {len(self.mean)} "
                                f"dimensions, but those of encoder={self.settings.kind} have "
                                f"{self.raw_table.shape[1]}; remove the setting")
        if weights is None:
            self.mean, self.matrix = self._fit_centring(fit_rows)
        self._add_map()
        if self.map is not None and weights is not None:
            self.map.load_arrays(weights)

    def _frozen(self, texts: np.ndarray, fit_rows: np.ndarray, memo: dict[str, np.ndarray],
                cache: Path | None) -> torch.Tensor:
        key = str(self.settings)
        # An encoder that learns from texts may differ in the next fit, so its vectors are not kept.
        uses_memo = not encoder_class(self.settings).learns
        if not uses_memo or key not in memo:
            self.encoder = open_encoder(self.settings, self.device, cache)
            self.encoder.fit([str(text) for text in texts[fit_rows]])
            self.encoder_state = self.encoder.state()
            vectors = encode_cached(self.encoder, list(texts), cache)
            if not uses_memo:
                return torch.from_numpy(vectors).to(self.device)
            memo[key] = vectors
        return torch.from_numpy(memo[key]).to(self.device, copy=True)

    @classmethod
    def read(cls, settings: EncoderSettings, peft: PeftSettings, tensors: TensorReader, num_items: int,
             device: torch.device) -> "ItemTexts":
        """Restore the vectors of a saved model; the encoder is opened when first needed."""
        new, size = cls(settings, peft, device), tensors.shape("texts.raw_table")[-1]
        # Without whitening and projection the matrix is empty.
        matrix = (0,) if tensors.shape("texts.matrix") == (0,) else (size, None)
        shapes = {"raw_table": (num_items, size), "mean": (size,), "matrix": matrix, "said": (num_items,)}
        new.raw_table, new.mean, new.matrix, new.said = (
            torch.from_numpy(tensors.take(f"texts.{name}", BOOL if name == "said" else FLOAT, shapes[name])).to(device)
            for name in _BUFFERS)
        encoder = tensors.inside("encoder.")
        # Only the opened encoder knows which weights are trained; it refuses others.
        new.encoder_state = (encoder.take_all() if peft.trains_layers else
                             encoder_class(settings).read(settings, encoder))
        build_peft(peft).check_map(tensors.inside("texts.map."), new.size)
        new._add_map()
        if new.map is not None:
            load_parameters(new.map, tensors, "texts.map", "embedding adapter of the")
        return new.eval()

    def _add_map(self) -> None:
        embedding_map = build_peft(self.peft).embedding_map(self.size, self.seed)
        self.map = None if embedding_map is None else embedding_map.to(self.device)

    @property
    def size(self) -> int:
        """Size of a vector, T."""
        return self.matrix.shape[1] if len(self.matrix) else self.raw_table.shape[1]

    @property
    def table(self) -> torch.Tensor:
        """The finished vectors (N, T)."""
        return self._finish(self.raw_table, self.said)

    @torch.no_grad()
    def newest(self, num_items: int) -> torch.Tensor:
        """Return the finished vectors of the last items (num_items, T)."""
        start = len(self.said) - num_items
        return self._finish(self.raw_table[start:], self.said[start:])

    def rates(self, optim: OptimSettings) -> list[tuple[nn.Module, float]]:
        """Return the trained modules with their peak learning rates."""
        if not self.trained:
            return []
        if self.map is not None:
            return [(self, optim.rate(usual=4e-3))]
        if optim.layer_decay == 1 or self.bank is None:
            return [(self, optim.encoder_learning_rate)]
        layers = find_layers(self.bank.encoder.model, self.peft.kind).layers
        return layer_rates(self, list(layers), optim.encoder_learning_rate, optim.layer_decay)

    def plan(self, total_steps: int) -> None:
        """Announce the number of steps, which AdaLoRA's pruning schedule needs."""
        if self.bank is not None and self.bank.encoder.budget is not None:
            self.bank.encoder.budget.plan(total_steps)

    def after_step(self, step: int) -> None:
        """Prune AdaLoRA ranks; call after each optimiser step, before gradients are cleared."""
        if self.bank is not None and self.bank.encoder.budget is not None:
            self.bank.encoder.budget.after_step(step)

    def shrink(self) -> bool:
        """Halve the encoder's batch after running out of memory; return False if it cannot get smaller."""
        if self.bank is None:
            return False
        settings = self.bank.encoder.settings
        if settings.batch_tokens <= settings.max_length:
            return False
        self.bank.encoder.settings = replace(settings, batch_tokens=settings.batch_tokens // 2)
        return True

    def _fit_centring(self, fit_rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and matrix of the raw vectors in `fit_rows` (bool, N); an empty matrix if there is none."""
        whitening = fit_whitening(self.settings, self.raw_table.cpu().numpy(), fit_rows)
        matrix = np.zeros(0, np.float32) if whitening.matrix_DK is None else whitening.matrix_DK
        return torch.from_numpy(whitening.mean_D).to(self.device), torch.from_numpy(matrix).to(self.device)

    def recentre(self, in_training: np.ndarray) -> None:
        """Fit centring and whitening again, to the current raw vectors of the items in training (bool, N).

        Training of layers changes the directions of largest variance. A map keeps the centring it was trained on.
        """
        if self.bank is not None:
            self.mean, self.matrix = self._fit_centring(self.said.cpu().numpy() & in_training)

    def recentred_table(self, in_training: np.ndarray) -> torch.Tensor:
        """Return the table (N, T) as it would be after `recentre`, which is not done."""
        before = self.mean, self.matrix
        self.recentre(in_training)
        table_NT = self.table
        self.mean, self.matrix = before
        return table_NT

    def refresh(self) -> None:
        """Encode every text with the encoder's current weights."""
        if self.bank is not None:
            self.raw_table.copy_(self.bank.vectors())

    def loss_with(self, live_L: torch.Tensor, rows_R: torch.Tensor, of: Loss, adversarial: Any,
                  attacked: Callable[[Loss, torch.Tensor, Any, Loss | None], torch.Tensor],
                  logits: Loss | None = None) -> torch.Tensor:
        """Return the loss `of` the table, with gradients to the encoder through the texts `live_L`.

        The adversary perturbs the input of the lowest trained layer: the cached hidden states, or with a frozen encoder
        the vectors of the step's items `rows_R`. adversarial=virtual compares the `logits` of the table.
        """
        if self.bank is None:
            return self._loss_of_vectors(rows_R, of, adversarial, attacked, logits)
        states_LSD, mask_LS = self.bank.batch(live_L)
        encoder, passes = self.bank.encoder, []

        def through_encoder(states_LSD: torch.Tensor, function: Loss = of) -> torch.Tensor:
            passes.append(encoder.upper(states_LSD, mask_LS))
            return function(self._finish(self.raw_table.index_copy(0, live_L, passes[-1].float()), self.said))

        value = attacked(through_encoder, states_LSD, adversarial,
                         None if logits is None else lambda states_LSD: through_encoder(states_LSD, logits))
        # Keep the vectors of the first pass, which is the unperturbed one.
        self.raw_table[live_L] = passes[0].detach().float()
        return value if encoder.budget is None else value + encoder.budget.penalty()

    def _loss_of_vectors(self, rows_R: torch.Tensor, of: Loss, adversarial: Any,
                         attacked: Callable[[Loss, torch.Tensor, Any, Loss | None], torch.Tensor],
                         logits: Loss | None) -> torch.Tensor:
        centred_NT = self._centred(self.raw_table, self.said)

        def of_rows(function: Loss) -> Loss:
            # The map runs inside, so that each pass of an adversary has its own graph.
            return lambda rows_RT: function(self._mapped(centred_NT.index_copy(0, rows_R, rows_RT)))

        return attacked(of_rows(of), centred_NT[rows_R], adversarial, logits and of_rows(logits))

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the finished vectors of text queries (num_texts, T)."""
        has_text = torch.from_numpy(_has_text(texts)).to(self.device)
        return self._finish(self._raw(texts, "query"), has_text)

    def similarities(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the cosine of each text with each item (num_texts, N), -1 to 1."""
        return self.vectors(texts) @ self.table.T

    def add(self, texts: Sequence[str]) -> torch.Tensor:
        """Append the texts of new items and return their finished vectors (num_new, T)."""
        raw_KT, has_text_K = self._raw(texts, "item"), torch.from_numpy(_has_text(texts)).to(self.device)
        self.raw_table = torch.cat([self.raw_table, raw_KT])
        self.said = torch.cat([self.said, has_text_K])
        return self._finish(raw_KT, has_text_K)

    def reread(self, texts: Sequence[str] | np.ndarray) -> None:
        """Replace all texts (N,)."""
        self.raw_table, self.said = self._raw(list(texts), "item"), torch.from_numpy(_has_text(texts)).to(self.device)

    def _raw(self, texts: Sequence[str], entity: str) -> torch.Tensor:
        if self.encoder is None:
            self.encoder = self._open_encoder()
        return torch.from_numpy(self.encoder.encode([str(text) for text in texts], entity)).to(self.device)

    def _open_encoder(self) -> Encoder:
        encoder = (load_encoder(self.settings, self.peft, self.device) if self.peft.trains_layers else
                   open_encoder(self.settings, self.device))
        encoder.load(self.encoder_state)
        if encoder.embedding_size != self.raw_table.shape[1]:
            raise ArtifactError(f"encoder={self.settings.kind}: its vectors have {encoder.embedding_size} dimensions, "
                                f"but those of the model's items {self.raw_table.shape[1]}; train the model again")
        return encoder

    def state(self) -> dict[str, np.ndarray]:
        """Return the table, the mean, the map and the learned state of the encoder."""
        encoder_state = self.encoder.trained_state() if self.bank is not None else self.encoder_state
        map_arrays = {} if self.map is None else self.map.arrays()
        return {**{f"texts.{name}": getattr(self, name).cpu().numpy() for name in _BUFFERS},
                **{f"texts.map.{name}": array for name, array in map_arrays.items()},
                **{f"encoder.{name}": value for name, value in encoder_state.items()}}

    def _finish(self, raw_NT: torch.Tensor, has_text_N: torch.Tensor) -> torch.Tensor:
        return self._mapped(self._centred(raw_NT, has_text_N))

    def _centred(self, raw_NT: torch.Tensor, has_text_N: torch.Tensor) -> torch.Tensor:
        centred_NT = (raw_NT - self.mean) * has_text_N[:, None]
        return nn.functional.normalize(centred_NT @ self.matrix if len(self.matrix) else centred_NT, dim=1)

    def _mapped(self, centred_NT: torch.Tensor) -> torch.Tensor:
        return centred_NT if self.map is None else self.map(centred_NT)

    @property
    def base_identity(self) -> str:
        """Identity of the encoder below the trained weights."""
        if self.encoder is None:
            self.encoder = self._open_encoder()
        return str(self.encoder.identity if self.bank is None else self.encoder.base_identity)

    def save_adapter(self, folder: Path) -> None:
        """Write the trained weights as a separate adapter."""
        assert self.trained
        weights = self.map.arrays() if self.map is not None else self.encoder.trained_state()
        # Vectors move during training, so the next run must centre with the same mean.
        centring = {name: buffer.cpu().numpy() for name,
                    buffer in zip(_CENTRING, (self.mean, self.matrix), strict=True)}
        save_adapter(folder, weights | centring, self.peft, self.base_identity)

    def save_encoder(self, folder: Path) -> None:
        """Write the encoder with its trained weights, for AutoModel and sentence-transformers."""
        if self.encoder is None:
            self.encoder = self._open_encoder()
        self.encoder.save_pretrained(folder)


def _has_text(texts: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the mask of non-empty texts, bool (num_texts,)."""
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts))
