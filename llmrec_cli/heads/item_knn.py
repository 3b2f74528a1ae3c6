"""Item-based collaborative filtering."""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.shared.item_item import ItemItemHead
from llmrec_cli.heads.shared.matrix_products import compact
from llmrec_cli.heads.shared.neighbours import Candidates, Weighting, fit_memory, nearest_neighbours, powers
from llmrec_cli.settings.head import ItemKnnSettings


class ItemKnn(ItemItemHead):
    """Score of an item: the summed similarities of the history's items to it (Sarwar et al. 2001, eq. 8).

    With weights, items are compared as vectors of interaction weights, and the sum is weighted by the weights of the
    history's interactions.
    Asymmetric cosine: Aiolli 2013, |target|^(2 asymmetry) |history|^(2 - 2 asymmetry) in the denominator.
    Differs: shrinkage, a power of the norms, and no division by the sum of the similarities, which is for ratings.
    """

    settings: ItemKnnSettings

    def estimate_memory(self, data: TrainingData) -> int:
        """Return the bytes of the interactions by item, a block of similarities and the neighbours."""
        return fit_memory(data, self.settings.k, self.settings.neighbours_of == "target")

    def fit(self, data: TrainingData, context: Context) -> None:
        """Find each item's nearest neighbours."""
        self.interaction_weights = fit_weights(data, self.settings)
        items_NU = sp.csr_array(compact(self.interaction_weights.matrix(data.interactions)).T)
        items_NU = Weighting(items_NU, self.settings)(items_NU)
        target, other = powers(self.settings)
        own, others = (target, other) if self.settings.neighbours_of == "target" else (other, target)
        similarity_NN = nearest_neighbours(items_NU, own, Candidates(items_NU, others), self.settings,
                                           np.arange(items_NU.shape[0]))
        self.keep(sp.csr_array(similarity_NN.T) if self.settings.neighbours_of == "target" else similarity_NN)
