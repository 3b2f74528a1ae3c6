"""Readers: texts of items and the users who chose them, contrasted in both directions.

A user is the mean vector of the other items of the history, so the vectors of two items move together if the same
users chose both. Multi-positive contrastive learning (Khosla et al. 2020, eq. 2) of items against all users, and, as in
CLIP (Radford et al. 2021, figure 3), of users against the items of the step.

Shapes: U users with two or more items, T items in training, B items of a step, D size of a vector.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from llmrec_cli.settings.loss import ReadersSettings
from llmrec_cli.training.losses.base import TextLoss


class Readers(TextLoss[ReadersSettings]):
    """Cross-entropy of an item's readers among all users, and of the items of a step for each of their readers.

    Users are compared by the vectors in `bank_TD`, which `refresh` replaces; gradients reach the items of a step only.
    Users with a single item have no rest of a history, so they are left out.

    Attributes
    ----------
    bank_TD : float32 (T, D), the vectors at the last refresh; part of checkpoints
    log_scale_2 : logarithms of the inverse temperatures, of users and of items
    """

    bank_TD: torch.Tensor

    def __init__(self, matrix_UT: sp.csr_array, settings: ReadersSettings, device: torch.device) -> None:
        super().__init__(settings)
        self.device = device
        self.matrix_UT = sp.csr_array(matrix_UT[np.diff(matrix_UT.indptr) > 1] != 0).astype(np.float32)
        self.readers_TU = sp.csr_array(self.matrix_UT.T)
        self.length_U = torch.from_numpy(np.diff(self.matrix_UT.indptr).astype(np.float32)).to(device)
        self.rows = np.flatnonzero(np.diff(self.readers_TU.indptr))
        self.refresh_steps = settings.refresh_steps
        self.log_scale_2 = nn.Parameter(torch.full((2,), -float(np.log(settings.temperature)), device=device))
        self.register_buffer("bank_TD", torch.zeros(0, device=device))
        self.sums_UD: torch.Tensor | None = None

    @classmethod
    def estimate_memory(cls, settings: ReadersSettings, counts_T: np.ndarray, length_U: np.ndarray, batch: int,
                        size: int) -> int:
        """Return the bytes of the bank and its sums, and of the matrices items x users of a step."""
        num_users = int((length_U > 1).sum())
        # Readers, cosines, logits, and a softmax each way; their gradients, and the product with the users.
        step = 4 * 9 * batch * num_users
        return 24 * int(length_U.sum()) + 4 * size * (len(counts_T) + 2 * num_users) + step

    def refresh(self, vectors_TD: torch.Tensor) -> None:
        """Compare with users by these vectors of all items from now on."""
        self.bank_TD, self.sums_UD = vectors_TD.detach().clone(), None

    def forward(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of both directions' losses for items of a step."""
        return readers_loss(self._cosines(vectors_TD, items_B), self._readers(items_B), self._log_activity(),
                            self.log_scale_2, self.settings.items_share)

    def logits(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the logits of users for each item, (B, U)."""
        return self._cosines(vectors_TD, items_B) * self.log_scale_2[0].exp() + self._log_activity()

    def _cosines(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        if self.sums_UD is None:
            # Only here, so that a resumed run sums the bank of its checkpoint.
            self.sums_UD = torch.from_numpy(self.matrix_UT @ self.bank_TD.cpu().numpy()).to(self.device)
        return leave_one_out(vectors_TD[items_B], self.bank_TD[items_B], self.sums_UD, self._readers(items_B),
                             self.length_U)

    def _readers(self, items_B: torch.Tensor) -> torch.Tensor:
        """Return 1 for each user who chose the item, float32 (B, U)."""
        return torch.from_numpy(self.readers_TU[items_B.cpu().numpy()].toarray()).to(self.device)

    def _log_activity(self) -> torch.Tensor:
        """Return log(length of history + 1) of each user (U,), so that texts need not learn who reads much."""
        return (self.length_U + 1).log()


def leave_one_out(vectors_BD: torch.Tensor, bank_BD: torch.Tensor, sums_UD: torch.Tensor, readers_BU: torch.Tensor,
                  length_U: torch.Tensor) -> torch.Tensor:
    """Return products (B, U) of items with the mean bank vector of each user's history, without the item itself.

    `sums_UD` are the sums of the bank over histories of `length_U` items, `bank_BD` the items' own bank vectors.
    """
    sums_BU = vectors_BD @ sums_UD.T - readers_BU * (vectors_BD * bank_BD).sum(dim=1, keepdim=True)
    return sums_BU / (length_U - readers_BU)


def readers_loss(products_BU: torch.Tensor, readers_BU: torch.Tensor, log_activity_U: torch.Tensor,
                 log_scale_2: torch.Tensor, items_share: float) -> torch.Tensor:
    """Return the loss of items that predict their readers and of users that predict their items.

    Users: softmax over all users of product x scale + log_activity; the target of an item is spread evenly over its
    readers. Items: for each pair of a user and an item of the step, softmax over the items of the step of product x
    scale; its share of the loss is `items_share`. Each item needs a reader.
    """
    log_users_BU = (products_BU * log_scale_2[0].exp() + log_activity_U).log_softmax(dim=1)
    of_users = -((readers_BU * log_users_BU).sum(dim=1) / readers_BU.sum(dim=1)).mean()
    log_items_BU = (products_BU * log_scale_2[1].exp()).log_softmax(dim=0)
    of_items = -(readers_BU * log_items_BU).sum() / readers_BU.sum()
    return (1 - items_share) * of_users + items_share * of_items
