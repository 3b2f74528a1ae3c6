"""Item-based collaborative filtering."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.features import ItemFeatures, features_memory
from llmrec_cli.heads.shared.item_item import ItemItemHead
from llmrec_cli.heads.shared.item_kernel import UnitFeatures, nearest
from llmrec_cli.heads.shared.item_texts import ItemTexts
from llmrec_cli.heads.shared.matrix_products import BLOCK_CELLS, compact
from llmrec_cli.heads.shared.neighbours import Candidates, Weighting, fit_memory, nearest_neighbours, powers, strongest
from llmrec_cli.heads.shared.transitions import (
    SmoothedTransitions,
    count_transitions,
    highest_of_rows,
    mean_weights,
    normalise_transitions,
    own_where_empty,
    require_order,
)
from llmrec_cli.settings.head import ItemKnnSettings, ModelConfig

CPU = torch.device("cpu")


class ItemKnn(ItemItemHead):
    """Score of an item: the summed similarities of the history's items to it (Sarwar et al. 2001, eq. 8).

    With weights, items are compared as vectors of interaction weights, and the sum is weighted by the weights of the
    history's interactions.
    Asymmetric cosine: Aiolli 2013, |target|^(2 asymmetry) |history|^(2 - 2 asymmetry) in the denominator.
    Differs: shrinkage, a power of the norms, and no division by the sum of the similarities, which is for ratings.

    direction=forward: the similarity of i to j is the number of times that j follows i within a window of a user's
    history, 1/gap each, divided by the roots of both items' sums (`shared.transitions`). With features, a share of it
    is K T K: T are the transitions, and a row of K weighs an item's nearest items by features, with a sum of 1. An item
    added later has the mean of its nearest items' similarities as a target, times `smooth`; in histories it is ignored.
    """

    settings: ItemKnnSettings

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.features: ItemFeatures | None = None

    @property
    def _is_smoothed(self) -> bool:
        # Features that the data lacks have been set to 0.
        return self.settings.smooth > 0 and self.settings.features.used

    @property
    def supports_text_queries(self) -> bool:
        """True if item texts are among the features."""
        return self.item_texts is not None

    @property
    def item_texts(self) -> ItemTexts | None:
        """Item texts, if text has a weight."""
        return None if self.features is None else self.features.text

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the interactions by item or transitions, a block of similarities and the neighbours."""
        settings, num_items = self.settings, len(data.items)
        if settings.direction == "both":
            return fit_memory(data, settings.k, settings.neighbours_of == "target")
        num_transitions = min(settings.window * len(data.interactions), num_items**2)
        # Pairs of a gap with their values, as rows and columns and as CSR; two sums of 8 bytes an entry, one of them
        # before the gap. Then normalised values, the transposed matrix, and per entry its row, order and rank.
        counting = 28 * len(data.interactions) + 16 * num_transitions
        choosing = 40 * num_transitions
        if not self._is_smoothed:
            return max(counting, choosing)
        cells, near = min(BLOCK_CELLS, num_items**2), 24 * settings.smooth_k * num_items
        kept = 16 * min(settings.k, num_items) * num_items
        return features_memory(settings.features, self.config, data,
                               max(counting, 24 * num_transitions + near + 25 * cells + kept))

    def fit(self, data: TrainingData, context: Context) -> None:
        """Find each item's nearest neighbours."""
        self.interaction_weights = fit_weights(data, self.settings)
        if self.settings.direction == "both":
            self._fit_similarities(data)
        else:
            self._fit_transitions(data, context)

    def _fit_similarities(self, data: TrainingData) -> None:
        items_NU = sp.csr_array(compact(self.interaction_weights.matrix(data.interactions)).T)
        items_NU = Weighting(items_NU, self.settings)(items_NU)
        target, other = powers(self.settings)
        own, others = (target, other) if self.settings.neighbours_of == "target" else (other, target)
        similarity_NN = nearest_neighbours(items_NU, own, Candidates(items_NU, others), self.settings,
                                           np.arange(items_NU.shape[0]))
        self.keep(sp.csr_array(similarity_NN.T) if self.settings.neighbours_of == "target" else similarity_NN)

    def _fit_transitions(self, data: TrainingData, context: Context) -> None:
        require_order(data)
        settings, by_target = self.settings, self.settings.neighbours_of == "target"
        counts_NN = count_transitions(data.interactions, self.interaction_weights.of(data.interactions),
                                      settings.window)
        follows_NN = normalise_transitions(counts_NN, powers(settings), settings.shrinkage)
        context.log("transitions", entries=follows_NN.nnz, window=settings.window)
        if by_target:
            follows_NN = compact(sp.csr_array(follows_NN.T))
        if self._is_smoothed:
            self.features = ItemFeatures(settings.features, self.config, context.device)
            self.features.fit(data, context)
            unit = UnitFeatures.of(self.features.dense_ND, self.features.sparse_NF)
            near_NN = own_where_empty(self._near(unit, unit))
            if by_target:
                near_NN = sp.csr_array(near_NN.T)
            smoothed = SmoothedTransitions(follows_NN, near_NN, near_NN, settings.smooth)
            kept_NN = strongest(smoothed.left, smoothed, settings.k, np.arange(follows_NN.shape[0]),
                                lambda products, rows: None, settings.exponent)
        else:
            kept_NN = highest_of_rows(follows_NN, settings.k)
            kept_NN.data **= np.float32(settings.exponent)
        self.keep(sp.csr_array(kept_NN.T) if by_target else kept_NN)

    def _near(self, known: UnitFeatures, items: UnitFeatures) -> sp.csr_array:
        """Return the weights (M, N) of the known items nearest to each of `items`; rows sum to 1, or are empty."""
        is_known = np.full(len(items.dense_ND), -1)  # No item is left out, so an item is nearest to itself.
        return mean_weights(nearest(known, items, self.settings.smooth_k, self.settings.smooth_exponent, is_known,
                                    CPU))

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return the cosine of the texts with the items' texts (T, N)."""
        assert self.item_texts is not None
        return self.item_texts.similarities(list(texts)).detach().cpu()

    def tuned_config(self) -> ModelConfig:
        """Return the model config with the number of text-training epochs that validation chose."""
        if self.settings.smooth > 0 and not self.settings.features.used:
            plain = ItemKnnSettings()
            return replace(self.config, head=replace(self.settings, smooth=0.0, smooth_k=plain.smooth_k,
                                                     smooth_exponent=plain.smooth_exponent))
        if self.features is None:
            return self.config
        return replace(self.config, head=replace(self.settings, features=self.features.tuned_settings()))

    def add_items(self, items: Catalogue) -> None:
        """Append items: the mean of their nearest items' similarities with features, else without similarities."""
        if self.features is None:
            super().add_items(items)
            return
        known = UnitFeatures.of(self.features.dense_ND, self.features.sparse_NF)
        near_KN = self._near(known, UnitFeatures.of(*self.features.add(items)))
        new_NK = sp.csr_array(self.similarity_NN @ near_KN.T) * np.float32(self.settings.smooth)
        new_NK.sort_indices()
        nothing_KM = sp.csr_array((len(items), len(known.dense_ND) + len(items)), dtype=np.float32)
        self.keep(sp.csr_array(sp.vstack([sp.hstack([self.similarity_NN, new_NK]), nothing_KM], format="csr")))

    def state(self) -> dict[str, np.ndarray]:
        """Return the similarities, and the features that smoothed them."""
        return super().state() | ({} if self.features is None else self.features.state())

    def read(self, tensors: TensorReader, users: Catalogue, items: Catalogue, context: Context) -> None:
        """Restore `state`."""
        super().read(tensors, users, items, context)
        if self._is_smoothed:
            self.features = ItemFeatures(self.settings.features, self.config, context.device)
            self.features.read(tensors, items)
