"""Readers: texts of items and the users who chose them, contrasted in both directions.

A user is the mean vector of the other items of the history, so the vectors of two items move together if the same
users chose both. Multi-positive contrastive learning (Khosla et al. 2020, eq. 2) of items against all users, and, as in
CLIP (Radford et al. 2021, figure 3), of users against the items of the step.

Shapes: U users with two or more items, S users of a step, T items in training, B items of a step, D size of a vector.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from llmrec_cli.settings.loss import ReadersSettings
from llmrec_cli.training.losses.base import TextLoss

_LEAST_READERS = 16
"""Readers of each item that are among the users of a step, where there are so many; as targets more teach no more."""


class StepUsers(NamedTuple):
    """The users that a step compares.

    Attributes
    ----------
    readers_BS : 1 for each user who chose the item
    sums_SD : sums of the bank over the users' histories
    length_S : lengths of the histories
    log_activity_S : log(length + 1), and the logarithm of how many users a user of a sample stands for
    """

    readers_BS: torch.Tensor
    sums_SD: torch.Tensor
    length_S: torch.Tensor
    log_activity_S: torch.Tensor


class Readers(TextLoss[ReadersSettings]):
    """Cross-entropy of an item's readers among all users, and of the items of a step for each of their readers.

    Users are compared by the vectors in `bank_TD`, which `refresh` replaces; gradients reach the items of a step only.
    Users with a single item have no rest of a history, so they are left out. Of more than `settings.max_users` users, a
    step compares some readers of each of its items and others drawn at random, which stand for all that were not drawn.

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
        step = 4 * 9 * batch * min(num_users, max(settings.max_users, _LEAST_READERS * batch))
        return 24 * int(length_U.sum()) + 4 * size * (len(counts_T) + 2 * num_users) + step

    def refresh(self, vectors_TD: torch.Tensor) -> None:
        """Compare with users by these vectors of all items from now on."""
        self.bank_TD, self.sums_UD = vectors_TD.detach().clone(), None

    def forward(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean of both directions' losses for items of a step."""
        users = self._users(items_B)
        return readers_loss(self._products(vectors_TD, items_B, users), users.readers_BS, users.log_activity_S,
                            self.log_scale_2, self.settings.items_share)

    def logits(self, vectors_TD: torch.Tensor, items_B: torch.Tensor) -> torch.Tensor:
        """Return the logits of the step's users for each item, (B, S)."""
        users = self._users(items_B)
        return self._products(vectors_TD, items_B, users) * self.log_scale_2[0].exp() + users.log_activity_S

    def _users(self, items_B: torch.Tensor) -> StepUsers:
        """Return the users that a step with these items compares; the same items give the same users."""
        if self.sums_UD is None:
            # Only here, so that a resumed run sums the bank of its checkpoint.
            self.sums_UD = torch.from_numpy(self.matrix_UT @ self.bank_TD.cpu().numpy()).to(self.device)
        items = items_B.cpu().numpy()
        readers_BU, sums, length, log_weight = self.readers_TU[items], self.sums_UD, self.length_U, torch.zeros(1)
        if len(length) > self.settings.max_users:
            rows, log_weights = sample_users(readers_BU, self.settings.max_users, np.random.default_rng(items))
            drawn = torch.from_numpy(rows).to(self.device)
            readers_BU, sums, length = readers_BU[:, rows], sums[drawn], length[drawn]
            log_weight = torch.from_numpy(log_weights)
        # So that texts need not learn who reads much.
        log_activity = (length + 1).log() + log_weight.to(self.device)
        return StepUsers(torch.from_numpy(readers_BU.toarray()).to(self.device), sums, length, log_activity)

    def _products(self, vectors_TD: torch.Tensor, items_B: torch.Tensor, users: StepUsers) -> torch.Tensor:
        return leave_one_out(vectors_TD[items_B], self.bank_TD[items_B], users.sums_SD, users.readers_BS,
                             users.length_S)


def sample_users(readers_BU: sp.csr_array, most: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return about `most` users (S,), ascending, and the logarithm of how many users each stands for, float32 (S,).

    Some readers of each item are drawn first, so that items with few readers keep them, and stand for themselves. The
    others are drawn at random and stand for all that were not drawn: a softmax over the sample estimates that over all
    users (Bengio and Senecal 2008).
    """
    num_users = readers_BU.shape[1]
    own = np.unique(np.concatenate([generator.choice(readers, min(len(readers), _LEAST_READERS), replace=False)
                                    for readers in np.split(readers_BU.indices, readers_BU.indptr[1:-1])]))
    others = np.setdiff1d(generator.choice(num_users, min(most, num_users), replace=False), own)
    others = generator.permutation(others)[:max(1, most - len(own))]
    rows = np.concatenate([own, others]).astype(np.int64)
    log_weights = np.zeros(len(rows), np.float32)
    log_weights[len(own):] = np.log((num_users - len(own)) / max(1, len(others)))
    order = np.argsort(rows)
    return rows[order], log_weights[order]


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
