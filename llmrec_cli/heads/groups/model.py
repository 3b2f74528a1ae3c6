"""Model shared by the heads trained on groups: vectors of items, members and groups' own history.

Shapes: Q queries of groups, P distinct members, L memberships, K groups of the training data, N items in training, M
items now, R candidates, T size of a text vector, F sparse features, D dense ones, E embedding size.
"""

import math
from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from llmrec_cli.heads.groups.inputs import GroupInputs, ItemsKnown
from llmrec_cli.settings.heads.groups import TrainedGroupsSettings


class Sizes(NamedTuple):
    """Numbers of rows, and sizes of the input vectors."""

    num_users: int
    num_groups: int
    text: int
    group_text: int
    sparse: int
    dense: int


class Kept(NamedTuple):
    """Ids kept in a step (1) or dropped (0), float32: of members (P,), of queries' groups (Q,)."""

    users: torch.Tensor
    groups: torch.Tensor


class GroupModel(nn.Module):
    """Items are text, features and id; a member is their own history, what they did with other groups, and their id.

    Groups that share members share tastes, so what a member did with other groups is read beside what they did alone.
    What they did with the asked group is left out there: in training it would be the answer, and when asked it is the
    group's own history, which is read by itself.

    Biases start at the logarithm of one more than how often groups, and users, chose an item: what nobody needs to
    learn from a few hundred interactions. An item that came later starts, and stays, where one never chosen starts.
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

    def items(self, text_MT: torch.Tensor | None, features: ItemsKnown | None, num_items: int,
              shown_N: torch.Tensor | None = None) -> torch.Tensor:
        """Return item vectors (M, E); an item that came after training has no id, nor has one with `shown_N` 0."""
        ids_NE = self.item_ids.weight if shown_N is None else self.item_ids.weight * shown_N[:, None]
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

    def members(self, inputs: GroupInputs, items_ME: torch.Tensor, kept: Kept | None = None) -> torch.Tensor:
        """Return the vector (L, E) of each member in each query: without what they did with the asked group."""
        alone_PE = self.history(inputs.history.scaled_sums(items_ME)) + self._ids(self.user_ids, inputs.user,
                                                                                 kept and kept.users)
        done_KE, counts_K1 = inputs.past_history.sums(items_ME), inputs.past_history.totals()[:, None]
        with_LE, counts_L1 = (self._with_others(inputs, what) for what in (done_KE, counts_K1))
        out = alone_PE.index_select(0, inputs.place) + self.together(with_LE / counts_L1.clamp_min(1).sqrt())
        return functional.dropout(out, self.settings.dropout, self.training)

    @staticmethod
    def _with_others(inputs: GroupInputs, what_KD: torch.Tensor) -> torch.Tensor:
        """Return the sum (L, D) over each member's groups, the asked one left out."""
        sums_LD = inputs.groups.sums(what_KD).index_select(0, inputs.place)
        if not len(what_KD):
            return sums_LD
        own_LD = what_KD.index_select(0, inputs.group.clamp_min(0).index_select(0, inputs.row))
        return sums_LD - own_LD * inputs.is_own[:, None]

    def own_history(self, inputs: GroupInputs, items_ME: torch.Tensor) -> torch.Tensor:
        """Return what each query's group did together (Q, E)."""
        out: torch.Tensor = self.own(inputs.own.scaled_sums(items_ME))
        return functional.dropout(out, self.settings.dropout, self.training)

    def of_group(self, inputs: GroupInputs, kept: Kept | None = None) -> torch.Tensor:
        """Return what is known of each group beside members and history (Q, E): its id and its text."""
        out = self._ids(self.group_ids, inputs.group, kept and kept.groups)
        if self.group_text is not None and inputs.text is not None:
            out = out + self.group_text(inputs.text)
        return out

    @staticmethod
    def _ids(ids: nn.Embedding, of: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        shown = (of >= 0).float() if kept is None else kept * (of >= 0)
        if not len(ids.weight):
            return ids.weight.new_zeros(len(of), ids.weight.shape[1])
        vectors: torch.Tensor = ids(of.clamp_min(0)) * shown[:, None]
        return vectors

    def bias(self, num_items: int) -> torch.Tensor:
        """Return the bias of each item (M,) where groups choose."""
        return torch.cat([self.bias_N, self.start[0].expand(num_items - len(self.bias_N))])

    def user_bias(self, num_items: int) -> torch.Tensor:
        """Return the bias of each item (M,) where users choose alone."""
        return torch.cat([self.user_bias_N, self.start[1].expand(num_items - len(self.user_bias_N))])

    @abstractmethod
    def group_logits(self, inputs: GroupInputs, items_ME: torch.Tensor, rows_R: torch.Tensor | None = None,
                     kept: Kept | None = None) -> torch.Tensor:
        """Return logits (Q, R) of groups and the items `rows_R`, all of them where it is None."""

    def user_logits(self, users_QE: torch.Tensor, items_ME: torch.Tensor,
                    rows_R: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits (Q, R) of single users, given as members of a group of one."""
        items_RE, bias_R = chosen(rows_R, items_ME, self.user_bias(len(items_ME)))
        return users_QE @ items_RE.T + bias_R


def chosen(rows_R: torch.Tensor | None, items_ME: torch.Tensor,
           bias_M: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return vectors and biases of some of the items, all of them where `rows_R` is None."""
    if rows_R is None:
        return items_ME, bias_M
    return items_ME.index_select(0, rows_R), bias_M.index_select(0, rows_R)
