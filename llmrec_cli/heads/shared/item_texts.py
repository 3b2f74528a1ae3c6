"""The text vectors of a catalogue, and what is trained of them.

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
from llmrec_cli.training.optim import layer_rates

Loss = Callable[[torch.Tensor], torch.Tensor]
_BUFFERS = ("raw_table", "mean", "matrix", "said")
_CENTRING = ("centring.mean", "centring.matrix")


class ItemTexts(nn.Module):
    """A table of item text vectors, centred and normalised, kept as fresh as the training can afford.

    Centring removes what all texts of a catalogue have in common and, with the norm, gained most of what text brings
    (docs/experiments.md). An empty text has zeros: two items of which nothing is said are not alike. `raw_table` (N, T)
    is what the encoder said last of each text; it is part of checkpoints, so that a resumed run sees the same vectors.
    `mean`, and `matrix` where the encoder's settings ask for whitening or a projection, are fixed at the start. A
    loaded model scores from the table and opens the encoder when a new text comes.

    Attributes
    ----------
    trained : whether anything of the vectors is trained
    bank : the texts, ready for the trained layers; None where no layer is trained
    map : what peft=embedding_adapter trains; None elsewhere
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
        self.learned: dict[str, np.ndarray] = {}
        for name in _BUFFERS:
            self.register_buffer(name, torch.zeros(0))

    @classmethod
    def encoded(cls, settings: EncoderSettings, peft: PeftSettings, texts: np.ndarray, device: torch.device, seed: int,
                memo: dict[str, np.ndarray], trained_on: np.ndarray | None = None, cache: Path | None = None,
                precision: str = "float32") -> "ItemTexts":
        """Return the vectors of texts (N,), ready to be trained.

        `trained_on` (bool, N) marks the items in training: what the vectors are centred by, and what an encoder that
        learns from texts learns from. `memo` keeps those of frozen encoders in a run, the folder `cache` across runs.
        `precision` is that of the hidden states of frozen layers that are kept for the trained ones.
        """
        new = cls(settings, peft, device, seed)
        new.said = torch.from_numpy(_said(texts)).to(device)
        known = new.said.cpu().numpy() & (np.ones(len(texts), bool) if trained_on is None else trained_on)
        if peft.trains_layers:
            dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
            new.encoder = load_encoder(settings, peft, device, seed=seed)
            new.bank = FrozenLayerCache(new.encoder, list(texts), device, dtype, cache, peft.tokens_drawn)
        else:
            new.raw_table = new._frozen(texts, known, memo, cache)
        new._start(known)
        return new.eval()

    def _start(self, known: np.ndarray) -> None:
        """Set weights, table, mean and map to where training begins: anew, or where an adapter was left."""
        weights: dict[str, np.ndarray] | None = None
        if self.peft.starting_adapter:
            started = load_adapter(self.peft, self.base_identity)
            size = started.shape(_CENTRING[0])[0]
            matrix = (0,) if started.shape(_CENTRING[1]) == (0,) else (size, None)
            self.mean, self.matrix = (torch.from_numpy(started.take(name, FLOAT, shape)).to(self.device)
                                      for name, shape in zip(_CENTRING, ((size,), matrix), strict=True))
            weights = started.take_all()
        if self.bank is not None:
            if weights is not None:
                self.encoder.load_trained_state(weights)
            self.raw_table = self.bank.vectors()
        if weights is not None and len(self.mean) != self.raw_table.shape[1]:
            raise ArtifactError(f"peft.adapter={self.peft.starting_adapter}: is for vectors of {len(self.mean)} "
                                f"dimensions and those of encoder={self.settings.kind} have {self.raw_table.shape[1]}; "
                                f"leave it out")
        if weights is None:
            whitening = fit_whitening(self.settings, self.raw_table.cpu().numpy(), known)
            self.mean = torch.from_numpy(whitening.mean_D).to(self.device)
            if whitening.matrix_DK is not None:
                self.matrix = torch.from_numpy(whitening.matrix_DK).to(self.device)
        self._add_map()
        if self.map is not None and weights is not None:
            self.map.load_arrays(weights)

    def _frozen(self, texts: np.ndarray, known: np.ndarray, memo: dict[str, np.ndarray],
                cache: Path | None) -> torch.Tensor:
        key = str(self.settings)
        # An encoder that learns from texts may learn something else in the next fit.
        keeps = not encoder_class(self.settings).learns
        if not keeps or key not in memo:
            self.encoder = open_encoder(self.settings, self.device, cache)
            self.encoder.fit([str(text) for text in texts[known]])
            self.learned = self.encoder.state()
            vectors = encode_cached(self.encoder, list(texts), cache)
            if not keeps:
                return torch.from_numpy(vectors).to(self.device)
            memo[key] = vectors
        return torch.from_numpy(memo[key]).to(self.device, copy=True)

    @classmethod
    def read(cls, settings: EncoderSettings, peft: PeftSettings, tensors: TensorReader, num_items: int,
             device: torch.device) -> "ItemTexts":
        """Return the vectors of a saved model; the encoder waits until it is needed."""
        new, size = cls(settings, peft, device), tensors.shape("texts.raw_table")[-1]
        # Without whitening and projection the matrix is empty.
        matrix = (0,) if tensors.shape("texts.matrix") == (0,) else (size, None)
        shapes = {"raw_table": (num_items, size), "mean": (size,), "matrix": matrix, "said": (num_items,)}
        new.raw_table, new.mean, new.matrix, new.said = (
            torch.from_numpy(tensors.take(f"texts.{name}", BOOL if name == "said" else FLOAT, shapes[name])).to(device)
            for name in _BUFFERS)
        encoder = tensors.inside("encoder.")
        # Which weights are trained only the opened encoder knows, and it refuses others.
        new.learned = encoder.take_all() if peft.trains_layers else encoder_class(settings).read(settings, encoder)
        build_peft(peft).check_map(tensors.inside("texts.map."), new.size)
        new._add_map()
        if new.map is not None:
            load_parameters(new.map, tensors, "texts.map", "embedding adapter of the")
        return new.eval()

    def _add_map(self) -> None:
        added = build_peft(self.peft).embedding_map(self.size, self.seed)
        self.map = None if added is None else added.to(self.device)

    @property
    def size(self) -> int:
        """T."""
        return self.matrix.shape[1] if len(self.matrix) else self.raw_table.shape[1]

    @property
    def table(self) -> torch.Tensor:
        """The finished vectors (N, T)."""
        return self._finish(self.raw_table, self.said)

    def rates(self, optim: OptimSettings) -> list[tuple[nn.Module, float]]:
        """Return what is trained here with its peak learning rate."""
        if not self.trained:
            return []
        if self.map is not None:
            return [(self, optim.rate(usual=4e-3))]
        if optim.layer_decay == 1 or self.bank is None:
            return [(self, optim.encoder_learning_rate)]
        layers = find_layers(self.bank.encoder.model, self.peft.kind).layers
        return layer_rates(self, list(layers), optim.encoder_learning_rate, optim.layer_decay)

    def plan(self, total_steps: int) -> None:
        """Tell what prunes while training how many steps there will be."""
        if self.bank is not None and self.bank.encoder.budget is not None:
            self.bank.encoder.budget.plan(total_steps)

    def after_step(self, step: int) -> None:
        """Prune, where something is to be pruned; call after each step of the optimiser, gradients still there."""
        if self.bank is not None and self.bank.encoder.budget is not None:
            self.bank.encoder.budget.after_step(step)

    def shrink(self) -> bool:
        """Let the encoder run half as many tokens at a time, and return whether it could: out of memory."""
        if self.bank is None:
            return False
        settings = self.bank.encoder.settings
        if settings.batch_tokens <= settings.max_length:
            return False
        self.bank.encoder.settings = replace(settings, batch_tokens=settings.batch_tokens // 2)
        return True

    def refresh(self) -> None:
        """Encode every text at the encoder's present weights."""
        if self.bank is not None:
            self.raw_table.copy_(self.bank.vectors())

    def loss_with(self, live_L: torch.Tensor, rows_R: torch.Tensor, of: Loss, adversarial: Any,
                  attacked: Callable[[Loss, torch.Tensor, Any, Loss | None], torch.Tensor],
                  logits: Loss | None = None) -> torch.Tensor:
        """Return the loss `of` the table, with gradients to the encoder through the texts `live_L`.

        The adversary perturbs the input of the lowest trained layer: the kept hidden states under the encoder's trained
        layers, or with a frozen encoder the vectors of the step's items `rows_R`. `logits` of the table are what
        adversarial=virtual compares.
        """
        if self.bank is None:
            return self._loss_of_vectors(rows_R, of, adversarial, attacked, logits)
        hidden_LSD, mask_LS = self.bank.batch(live_L)
        encoder, passes = self.bank.encoder, []

        def through_encoder(hidden: torch.Tensor, what: Loss = of) -> torch.Tensor:
            passes.append(encoder.upper(hidden, mask_LS))
            return what(self._finish(self.raw_table.index_copy(0, live_L, passes[-1].float()), self.said))

        value = attacked(through_encoder, hidden_LSD, adversarial,
                         None if logits is None else lambda hidden: through_encoder(hidden, logits))
        # The first pass is the clean one, before the attack: that is the vector to remember.
        self.raw_table[live_L] = passes[0].detach().float()
        return value if encoder.budget is None else value + encoder.budget.penalty()

    def _loss_of_vectors(self, rows_R: torch.Tensor, of: Loss, adversarial: Any,
                         attacked: Callable[[Loss, torch.Tensor, Any, Loss | None], torch.Tensor],
                         logits: Loss | None) -> torch.Tensor:
        centred_NT = self._centred(self.raw_table, self.said)

        def of_rows(what: Loss) -> Loss:
            # The map runs inside, so that each pass of an adversary has a graph of its own.
            return lambda rows_RT: what(self._mapped(centred_NT.index_copy(0, rows_R, rows_RT)))

        return attacked(of_rows(of), centred_NT[rows_R], adversarial, logits and of_rows(logits))

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the finished vectors (num_texts, T) of what users say in words."""
        said = torch.from_numpy(_said(texts)).to(self.device)
        return self._finish(self._raw(texts, "query"), said)

    def similarities(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the cosine of each text with each item (num_texts, N), -1 to 1."""
        return self.vectors(texts) @ self.table.T

    def add(self, texts: Sequence[str]) -> torch.Tensor:
        """Append the texts of new items and return their finished vectors (num_new, T)."""
        raw_KT, said_K = self._raw(texts, "item"), torch.from_numpy(_said(texts)).to(self.device)
        self.raw_table = torch.cat([self.raw_table, raw_KT])
        self.said = torch.cat([self.said, said_K])
        return self._finish(raw_KT, said_K)

    def reread(self, texts: Sequence[str] | np.ndarray) -> None:
        """Put other texts (N,) in place of all that there are."""
        self.raw_table, self.said = self._raw(list(texts), "item"), torch.from_numpy(_said(texts)).to(self.device)

    def _raw(self, texts: Sequence[str], entity: str) -> torch.Tensor:
        if self.encoder is None:
            self.encoder = self._opened()
        return torch.from_numpy(self.encoder.encode([str(text) for text in texts], entity)).to(self.device)

    def _opened(self) -> Encoder:
        opened = (load_encoder(self.settings, self.peft, self.device) if self.peft.trains_layers else
                  open_encoder(self.settings, self.device))
        opened.load(self.learned)
        if opened.embedding_size != self.raw_table.shape[1]:
            raise ArtifactError(f"encoder={self.settings.kind}: its vectors have {opened.embedding_size} dimensions "
                                f"and those of the model's items {self.raw_table.shape[1]}, so they do not belong "
                                f"together; train the model again")
        return opened

    def state(self) -> dict[str, np.ndarray]:
        """Return the table, the mean, the map and what was learned of the encoder."""
        learned = self.encoder.trained_state() if self.bank is not None else self.learned
        mapped = {} if self.map is None else self.map.arrays()
        return {**{f"texts.{name}": getattr(self, name).cpu().numpy() for name in _BUFFERS},
                **{f"texts.map.{name}": array for name, array in mapped.items()},
                **{f"encoder.{name}": value for name, value in learned.items()}}

    def _finish(self, raw_NT: torch.Tensor, said_N: torch.Tensor) -> torch.Tensor:
        return self._mapped(self._centred(raw_NT, said_N))

    def _centred(self, raw_NT: torch.Tensor, said_N: torch.Tensor) -> torch.Tensor:
        centred_NT = (raw_NT - self.mean) * said_N[:, None]
        return nn.functional.normalize(centred_NT @ self.matrix if len(self.matrix) else centred_NT, dim=1)

    def _mapped(self, centred_NT: torch.Tensor) -> torch.Tensor:
        return centred_NT if self.map is None else self.map(centred_NT)

    @property
    def base_identity(self) -> str:
        """Identity of the encoder below the trained weights."""
        if self.encoder is None:
            self.encoder = self._opened()
        return str(self.encoder.identity if self.bank is None else self.encoder.base_identity)

    def save_adapter(self, folder: Path) -> None:
        """Write what was trained here, on its own."""
        assert self.trained
        weights = self.map.arrays() if self.map is not None else self.encoder.trained_state()
        # Vectors move while they are trained: those of the next run are centred as these were.
        centring = {name: buffer.cpu().numpy() for name,
                    buffer in zip(_CENTRING, (self.mean, self.matrix), strict=True)}
        save_adapter(folder, weights | centring, self.peft, self.base_identity)

    def save_encoder(self, folder: Path) -> None:
        """Write the encoder with what was trained in it, for AutoModel and sentence-transformers."""
        if self.encoder is None:
            self.encoder = self._opened()
        self.encoder.save_pretrained(folder)


def _said(texts: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return bool (num_texts,): whether a text says anything."""
    return np.fromiter((bool(str(text).strip()) for text in texts), bool, len(texts))
