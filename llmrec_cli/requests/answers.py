"""Answering queries: which of a model's ways of scoring a query gets, and what is done where it has none.

Shapes: Q queries, N items.

    model, history   scores from what the model knows of the user and the history the query gives
    group            scores from what the model knows of the group and its members
    text             scores from words, for a query without a usable history; from a user's text and attributes where
                     the head reads profiles
    popularity       head=popularity on the model's training interactions, for a query of which nothing is known

A query with a history and a text of its own gets the sum of both, each scaled to mean 0 and deviation 1 over the
catalogue, so that neither decides alone. A history or a text of which the head can make nothing, so that all items
score the same, counts as none.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp
import torch

from llmrec_cli.data.queries import Queries
from llmrec_cli.scoring.groups import scaled
from llmrec_cli.scoring.scorer import Lists, block_lists
from llmrec_cli.scoring.topk import require_finite

SOURCES = ("model", "history", "group", "text", "popularity")


class Scores(Protocol):
    """Part of a head's interface that answers use."""

    @property
    def supports_text_queries(self) -> bool:
        """True if it scores words."""

    @property
    def uses_user_profiles(self) -> bool:
        """True if it scores users by their texts and attributes."""

    def score(self, queries: Queries) -> torch.Tensor:
        """Return scores (Q, N) by history."""

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return scores (Q, N) by text."""


@dataclass(frozen=True)
class Answers:
    """Lists and where they come from.

    Attributes
    ----------
    sources : object array (Q,) of names in SOURCES
    with_text : bool (Q,), whether a text was added to a history
    reasons : of each query and place what it is there for (stages.reasons); None where nobody asked
    """

    queries: Queries
    lists: Lists
    sources: np.ndarray
    with_text: np.ndarray
    reasons: list[list[list[dict[str, Any]]]] | None = None


def answer(head: Scores, queries: Queries, popularity_N: np.ndarray, ranks_N: np.ndarray, k: int, *,
           exclude_seen: bool = True, candidates_N: np.ndarray | None = None,
           candidates_QN: sp.csr_array | None = None) -> Answers:
    """Return the lists of one block of queries; the candidates are those for all, and those of each query."""
    with torch.inference_mode():
        scores_QN, sources, with_text = score(head, queries, popularity_N)
        lists = block_lists(scores_QN, queries, k, ranks_N, exclude_seen=exclude_seen,
                            candidates_N=candidates_N, candidates_BN=candidates_QN)
    return Answers(queries, lists, sources, with_text)


def score(head: Scores, queries: Queries, popularity_N: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return the scores (Q, N) of a block of queries, the source of each, and which have history and text added."""
    informed = queries.informed
    asked = informed | queries.described if head.uses_user_profiles else informed
    history_rows, history = _told(head.score, queries, asked, len(popularity_N))
    said = (queries.texts != "") & head.supports_text_queries
    if head.uses_user_profiles and queries.profiles is not None:
        said &= queries.texts != queries.profiles  # It has been read with the rest of what is known of the user.
    text_rows, text = _told(lambda chosen: head.score_text(chosen.texts), queries, said, len(popularity_N))
    sources = np.full(len(queries), "popularity", object)
    sources[text_rows] = "text"
    by_history = np.full(len(queries), "model", object)
    if queries.gave_history is not None:
        by_history[queries.gave_history] = "history"
    by_history[~informed] = "text"
    if queries.groups is not None:
        by_history[queries.groups.is_group] = "group"
    sources[history_rows] = by_history[history_rows]
    if len(history_rows) == len(queries) and not len(text_rows):
        return history, sources, np.zeros(len(queries), bool)
    scores_QN = torch.from_numpy(popularity_N).to(history.device).expand(len(queries), -1).clone()
    scores_QN[text_rows] = text.to(history.device, scores_QN.dtype)
    both = np.isin(history_rows, text_rows)
    scores_QN[history_rows[~both]] = history[~both].to(scores_QN.dtype)
    rows = history_rows[both]
    if len(rows):
        scores_QN[rows] = scaled(history[both].float()) + scaled(scores_QN[rows].float())
    return scores_QN, sources, np.isin(np.arange(len(queries)), rows)


def _told(score: Callable[[Queries], torch.Tensor], queries: Queries, asked_Q: np.ndarray,
          num_items: int) -> tuple[np.ndarray, torch.Tensor]:
    """Return the queries, of those asked for, whose scores tell items apart, as int64 (R,), and the scores (R, N)."""
    rows = np.flatnonzero(asked_Q)
    if not len(rows):
        return rows, torch.empty((0, num_items))
    scores_RN = score(queries if len(rows) == len(queries) else queries.rows(rows))
    names = queries.ids[rows]
    require_finite(scores_RN, f"query '{names[0]}'" + (f" to '{names[-1]}'" if len(names) > 1 else ""))
    tells = (scores_RN.amax(dim=1) > scores_RN.amin(dim=1)).cpu().numpy()
    return (rows, scores_RN) if tells.all() else (rows[tells], scores_RN[tells])
