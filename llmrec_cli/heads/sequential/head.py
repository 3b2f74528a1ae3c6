"""Next-item prediction: a causal transformer over the history's items, represented by texts and ids.

Shapes: Q queries, M items including added ones, T size of a text vector, E embedding size.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import Queries
from llmrec_cli.data.tensors import BOOL, FLOAT, TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.sequential.epochs import epochs_within
from llmrec_cli.heads.sequential.gaps import gap_buckets
from llmrec_cli.heads.sequential.model import SequenceModel
from llmrec_cli.heads.sequential.steps import SequenceSteps, cut_sequences, pad_gaps, pad_sequences
from llmrec_cli.heads.shared.item_entities import item_entities
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.negatives import mine
from llmrec_cli.heads.shared.tensor_files import load_parameters, require_sizes
from llmrec_cli.heads.shared.text_memory import encoder_memory, freed_memory
from llmrec_cli.heads.shared.text_training import train_with_texts
from llmrec_cli.scoring.memory import validation_memory
from llmrec_cli.settings.durations import seconds_of
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.heads.sequential import SequentialSettings

_QUERIES_AT_ONCE = 512
"""Histories in one transformer batch when scoring."""


PARAMETERS = {"sasrec": 6, "ligr": 18, "hstu": 5}
"""Parameters of a layer, in squares of the embedding size."""
_VECTORS = {"sasrec": 16, "ligr": 44, "hstu": 20}
"""Vectors that a layer keeps for each place until its gradients are computed."""


def step_memory(settings: SequentialSettings, batch_size: int, num_items: int) -> int:
    """Return the bytes of a training step on `batch_size` interactions, without those of the parameters."""
    size, layers = settings.embedding_size, settings.num_layers
    step = batch_size * size * (8 + _VECTORS[settings.block] * layers) + 4 * size * num_items
    if settings.block == "hstu":
        # Scores and weights of attention, between all places of a window.
        step += 5 * batch_size * settings.max_length * settings.num_attention_heads * layers
    return 4 * step


class Sequential(Head):
    """SASRec (Kang and McAuley 2018) with a softmax loss over the catalogue (Klenitskiy and Vasilev 2023).

    An item vector combines a text vector and an id, so that a new item is scored by its text. There are no user
    parameters: known and new users are scored by their histories.
    """

    settings: SequentialSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.stop_after: int | None = self.settings.stop_after
        self.epochs = config.optim.epochs
        self.model: SequenceModel | None = None
        self.texts: ItemTexts | None = None
        self.trained_N = np.zeros(0, bool)
        self.num_items = 0

    @property
    def supports_text_queries(self) -> bool:
        """True with texts: a text query counts as a history of one item without an id."""
        return self.settings.text_scale > 0

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, trained with the transformer."""
        return self.texts

    @property
    def rereads(self) -> bool:
        """True with texts: an item is represented by its text and its id only."""
        return self.supports_text_queries

    def reread(self, texts: np.ndarray) -> None:
        """Replace the item texts (M,)."""
        assert self.texts is not None
        self.texts.reread(texts)

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of texts, parameters (with gradients, moments, best) and of a step or validation."""
        settings, size = self.settings, self.settings.embedding_size
        width = PARAMETERS[settings.block]
        parameters = size * (len(data.items) + settings.max_length + settings.num_layers * width * (size + 2))
        batch = min(max(self.config.optim.batch_size, settings.max_length), max(1, len(data.interactions)))
        step = step_memory(settings, batch, len(data.items))
        validation = validation_memory(len(data.users), len(data.items), len(data.interactions))
        training = 4 * 5 * parameters + max(step, validation)
        if not self.supports_text_queries:
            return training
        return encoder_memory(self.config, data.items.texts, settings.encoded_items, later=training)

    def freed_memory(self, data: TrainingData) -> int:
        """Return the bytes of encoding or of a training step through the encoder, which are free after the fit."""
        if not self.supports_text_queries:
            return 0
        return freed_memory(self.config, data.items.texts, self.settings.encoded_items)

    def fit(self, data: TrainingData, context: Context) -> None:
        """Train item vectors, transformer and encoder together."""
        config, device = self.config, context.device
        if self.settings.time_gaps and not data.has_moments:
            raise DataError("head.time_gaps=true: the prepared data has no times, or only an order, so no time passes "
                            "between interactions; prepare with a column of times (dataset.columns.timestamp, "
                            "dataset.timestamp_unit=s, ms or iso), or leave head.time_gaps out")
        torch.manual_seed(context.seed)
        self.trained_N = data.interactions.item_counts > 0
        self.num_items = len(data.items)
        if self.supports_text_queries:
            self.texts = ItemTexts.encode(config.encoder, config.peft, data.items.texts, device, context.seed,
                                          context.memo, self.trained_N, context.cache, config.optim.precision)
        text_size = 0 if self.texts is None else self.texts.size
        entities_ND = None
        if self.settings.entity_gate:
            entities_ND = torch.from_numpy(item_entities(config.entities, data, context, "head.entity_gate=true"))
        self.model = SequenceModel(self.trained_N, text_size, self.settings, config.loss, entities_ND).to(device)
        hard_UK = mine(config.loss.hard_negatives, data, context)
        steps = SequenceSteps(self.model, self.texts, config, data.interactions, hard_UK, device,
                              fit_weights(data, self.settings))
        if budget_s := seconds_of(self.settings.budget):
            self.epochs = epochs_within(budget_s, self.epochs, steps, list(self.model.parameters()), context.seed,
                                        context.folder, context.resumed)
            config = replace(config, optim=replace(config.optim, epochs=self.epochs))
        self.stop_after = train_with_texts(self.model, self.texts, steps, config, self.stop_after, context, self.score)

    @torch.no_grad()
    def score_users(self, queries: Queries) -> torch.Tensor:
        """Return logits (Q, M) of the histories."""
        model = self._require_fitted()
        items_ME = self._items()
        times = self._times(queries)
        users = [self._users(queries.history[start:start + _QUERIES_AT_ONCE], items_ME,
                             None if times is None else times[start:start + _QUERIES_AT_ONCE])
                 for start in range(0, len(queries), _QUERIES_AT_ONCE)]
        users_QE = torch.cat([items_ME.new_zeros(0, items_ME.shape[1]), *users])
        return self._scores(users_QE, model.scale_items(items_ME))

    def _times(self, queries: Queries) -> sp.csr_array | None:
        """Return the times of the histories, for `time_gaps`; raise DataError if there are none."""
        if not self.settings.time_gaps or not queries.history.nnz:
            return None
        if queries.times is None:
            raise DataError("head.time_gaps=true: the histories of this data have no times; prepare the data with a "
                            "column of times (dataset.columns.timestamp), or train again without head.time_gaps")
        return queries.times

    def _users(self, history: sp.csr_array, items_ME: torch.Tensor, times: sp.csr_array | None) -> torch.Tensor:
        """Return the user vectors of the histories (Q, E)."""
        model = self._require_fitted()
        places_Q = np.diff(history.indptr).astype(np.int64) + 1  # Including the start.
        lengths_Q = np.minimum(places_Q, self.settings.max_length)
        sequences = cut_sequences(history, np.arange(len(places_Q)), places_Q - lengths_Q, lengths_Q)
        sequence_QSE = pad_sequences(items_ME, model.start_E, sequences.inputs, sequences)
        lengths = torch.from_numpy(lengths_Q).to(items_ME.device)
        gaps_QS = None
        if times is not None:
            gaps_QS = torch.from_numpy(pad_gaps(gap_buckets(times), sequences)).to(items_ME.device)
        users_QSE = model.users(sequence_QSE, lengths, gaps_QS)
        return users_QSE[torch.arange(len(lengths), device=lengths.device), lengths - 1]

    @torch.no_grad()
    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return logits (num_texts, M) of texts, each as a history of one item without an id."""
        model = self._require_fitted()
        if self.texts is None:
            return super().score_text(texts)
        text_QE = model.of_text(self.texts.vectors(list(texts)))
        parts = [model.start_E.expand_as(text_QE), text_QE][-self.settings.max_length:]
        lengths_Q = torch.full((len(text_QE),), len(parts), device=text_QE.device)
        users_QE = model.users(torch.stack(parts, dim=1), lengths_Q)[:, -1]
        return self._scores(users_QE, model.scale_items(self._items()))

    def _items(self) -> torch.Tensor:
        """Return the vectors (M, E) of all items."""
        model = self._require_fitted()
        rows_M = torch.arange(self.num_items, device=model.start_E.device)
        return model.items(None if self.texts is None else self.texts.table, rows_M)

    def _scores(self, users_QE: torch.Tensor, items_ME: torch.Tensor) -> torch.Tensor:
        """Return logits (Q, M); an item without text and trained id gets the lowest logit of the query."""
        scores_QM = users_QE @ items_ME.T
        if self.texts is None and not self._known_M().all():
            known_M = torch.from_numpy(self._known_M()).to(scores_QM.device)
            lowest_Q1 = scores_QM.masked_fill(~known_M, float("inf")).amin(dim=1, keepdim=True)
            scores_QM = torch.where(known_M, scores_QM, lowest_Q1)
        return scores_QM

    def _known_M(self) -> np.ndarray:
        return np.pad(self.trained_N, (0, self.num_items - len(self.trained_N)))

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of epochs that validation chose."""
        return replace(self.config, optim=replace(self.config.optim, epochs=self.epochs),
                       head=replace(self.settings, budget="", stop_after=self.stop_after))

    def add_items(self, items: Catalogue) -> None:
        """Append items described by texts; they have no id and no entity."""
        self.num_items += len(items)
        if self.texts is not None:
            self.texts.add(list(items.texts))

    def state(self) -> dict[str, np.ndarray]:
        """Return the model, the mask of trained items, the text vectors and the trained weights of the encoder."""
        own = {f"model.{name}": tensor.cpu().numpy() for name, tensor in self._require_fitted().state_dict().items()}
        return own | {"trained_items": self.trained_N} | ({} if self.texts is None else self.texts.state())

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        config = self.config
        self.trained_N, self.num_items = tensors.take("trained_items", BOOL, (len(items),)), len(items)
        if self.supports_text_queries:
            self.texts = ItemTexts.read(config.encoder, config.peft, tensors, len(items), context.device)
        text_size = 0 if self.texts is None else self.texts.size
        require_sizes(self.settings, tensors, "model")
        entities_ND = None
        if self.settings.entity_gate:
            entities_ND = torch.from_numpy(tensors.take("model.entities.vectors_ND", FLOAT, (len(items), None)))
        self.model = SequenceModel(self.trained_N, text_size, self.settings, config.loss, entities_ND)
        load_parameters(self.model, tensors, "model", "sequential")
        self.model.to(context.device).eval()

    def _require_fitted(self) -> SequenceModel:
        assert self.model is not None, "fit or load first"
        return self.model
