"""Model shared by the heads trained on groups: vectors of items, members and groups' own history.

Shapes: Q queries of groups, P distinct members, L memberships, K groups of the training data, N items in training, M
items including added ones, R candidates, T size of a text vector, F sparse features, D dense ones, E embedding size.
"""

import math
from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.groups.inputs import GroupInputs, ItemInputs
from llmrec_cli.settings.heads.groups import TrainedGroupsSettings


class Sizes(NamedTuple):
    """Numbers of rows, and sizes of the input vectors."""

    num_users: int
    num_groups: int
    text: int
    group_text: int
    sparse: int
    dense: int


class IdMasks(NamedTuple):
    """Id dropout masks of a step, float32, 1 to keep an id and 0 to drop it: of members (P,), of groups (Q,)."""

    users: torch.Tensor
    groups: torch.Tensor


class GroupModel(nn.Module):
    """Item vectors from text, features and id; member vectors from own history, other groups' histories and id.

    Groups that share members share tastes, so a member's vector includes what they did with other groups. It leaves
    out what they did with the queried group: in training that contains the target, and in scoring it is the group's
    own history, which enters separately.

    Biases start at log(1 + count) of the interactions of groups, and of users, so that popularity need not be learned
    from a few hundred interactions. Items added after training get the start value of an item without interactions.
    """

    start: torch.Tensor

    def __init__(self, sizes: Sizes, settings: TrainedGroupsSettings, group_counts_N: np.ndarray,
                 user_counts_N: np.ndarray) -> None:
        super().__init__()
        size = settings.embedding_size
        self.settings = settings
        self.item_ids = nn.Embedding(len(group_counts_N), size)
        self.user_ids = nn.Embedding(sizes.num_users, size)
        self.group_ids = nn.Embedding(sizes.num_groups, size)
        self.text = nn.Linear(sizes.text, size, bias=False) if sizes.text else None
        self.group_text = nn.Linear(sizes.group_text, size, bias=False) if sizes.group_text else None
        self.sparse_FE, self.dense_DE = (nn.Parameter(torch.zeros(number, size)) if number else None
                                         for number in (sizes.sparse, sizes.dense))
        self.history, self.together, self.own = (nn.Linear(size, size, bias=False) for _ in range(3))
        starts = [np.log1p(counts.astype(np.float32)) for counts in (group_counts_N, user_counts_N)]
        self.bias_N, self.user_bias_N = (nn.Parameter(torch.from_numpy(s - s.mean())) for s in starts)
        self.register_buffer("start", torch.tensor([-float(s.mean()) for s in starts]))
        for ids, std in ((self.item_ids, 0.1), (self.user_ids, 0.01), (self.group_ids, 0.01)):
            nn.init.normal_(ids.weight, std=std)
        for same in (self.history, self.together, self.own):
            nn.init.eye_(same.weight)
        if self.text is not None:
            nn.init.normal_(self.text.weight, std=0.3 / math.sqrt(sizes.text))
        if self.group_text is not None:
            nn.init.zeros_(self.group_text.weight)

    def items(self, text_MT: torch.Tensor | None, features: ItemInputs | None, num_items: int,
              has_id_N: torch.Tensor | None = None) -> torch.Tensor:
        """Return item vectors (M, E); without id for items added after training or with `has_id_N` 0."""
        ids_NE = self.item_ids.weight if has_id_N is None else self.item_ids.weight * has_id_N[:, None]
        vectors_ME = functional.pad(ids_NE, (0, 0, 0, num_items - len(ids_NE)))
        if self.text is not None:
            assert text_MT is not None
            vectors_ME = vectors_ME + self.text(text_MT)
        if self.sparse_FE is not None:
            assert features is not None
            vectors_ME = vectors_ME + features.sparse.sums(self.sparse_FE)
        if self.dense_DE is not None:
            assert features is not None
            vectors_ME = vectors_ME + features.dense @ self.dense_DE
        return vectors_ME

    def members(self, inputs: GroupInputs, items_ME: torch.Tensor, masks: IdMasks | None = None) -> torch.Tensor:
        """Return the vector (L, E) of each member in each query, without interactions with the queried group."""
        alone_PE = self.history(inputs.history.scaled_sums(items_ME)) + self._ids(self.user_ids, inputs.user,
                                                                                 masks and masks.users)
        sums_KE, counts_K1 = inputs.past_history.sums(items_ME), inputs.past_history.totals()[:, None]
        with_LE, counts_L1 = (self._with_others(inputs, values_KD) for values_KD in (sums_KE, counts_K1))
        out = alone_PE.index_select(0, inputs.place) + self.together(with_LE / counts_L1.clamp_min(1).sqrt())
        return functional.dropout(out, self.settings.dropout, self.training)

    @staticmethod
    def _with_others(inputs: GroupInputs, values_KD: torch.Tensor) -> torch.Tensor:
        """Return the sum (L, D) over each member's groups, without the queried group."""
        sums_LD = inputs.groups.sums(values_KD).index_select(0, inputs.place)
        if not len(values_KD):
            return sums_LD
        own_LD = values_KD.index_select(0, inputs.group.clamp_min(0).index_select(0, inputs.row))
        return sums_LD - own_LD * inputs.is_own[:, None]

    def own_history(self, inputs: GroupInputs, items_ME: torch.Tensor) -> torch.Tensor:
        """Return the vector of each group's own history (Q, E)."""
        out: torch.Tensor = self.own(inputs.own.scaled_sums(items_ME))
        return functional.dropout(out, self.settings.dropout, self.training)

    def of_group(self, inputs: GroupInputs, masks: IdMasks | None = None) -> torch.Tensor:
        """Return the vector of each group's id and text (Q, E)."""
        out = self._ids(self.group_ids, inputs.group, masks and masks.groups)
        if self.group_text is not None and inputs.text is not None:
            out = out + self.group_text(inputs.text)
        return out

    @staticmethod
    def _ids(ids: nn.Embedding, rows: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        has_id = (rows >= 0).float() if mask is None else mask * (rows >= 0)
        if not len(ids.weight):
            return ids.weight.new_zeros(len(rows), ids.weight.shape[1])
        vectors: torch.Tensor = ids(rows.clamp_min(0)) * has_id[:, None]
        return vectors

    def bias(self, num_items: int) -> torch.Tensor:
        """Return the bias of each item for groups (M,)."""
        return torch.cat([self.bias_N, self.start[0].expand(num_items - len(self.bias_N))])

    def user_bias(self, num_items: int) -> torch.Tensor:
        """Return the bias of each item for single users (M,)."""
        return torch.cat([self.user_bias_N, self.start[1].expand(num_items - len(self.user_bias_N))])

    @abstractmethod
    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     masks: IdMasks | None = None) -> torch.Tensor:
        """Return logits (Q, R) of groups and the items `rows_R`; None for all items."""

    def user_logits(self, users_QE: torch.Tensor, items_ME: torch.Tensor,
                    rows_R: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (Q, R) of single users, given as members of groups of one."""
        items_RE, bias_R = select_items(rows_R, items_ME, self.user_bias(len(items_ME)))
        return users_QE @ items_RE.T + bias_R


def select_items(rows_R: torch.Tensor | None, items_ME: torch.Tensor,
                 bias_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors and biases of the items `rows_R`; None for all items."""
    if rows_R is None:
        return items_ME, bias_M
    return items_ME.index_select(0, rows_R), bias_M.index_select(0, rows_R)
