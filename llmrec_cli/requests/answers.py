"""Lists for queries: the source of the scores of each query, and fallbacks.

Shapes: Q queries, N items.

    model, history   scores from the history that the model knows and the history in the query
    group            scores from the history and the members of the group
    text             scores from text, for a query without a usable history; from a user's text and attributes if the
                     head uses profiles
    popularity       head=popularity on the model's training interactions, for a query without history, profile or text

A query with a history and a text gets the sum of both scores, each scaled to mean 0 and deviation 1 over the catalogue,
so that both count. A history or text for which all items get the same score counts as missing.
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
    """Part of the interface of heads that this module uses."""

    @property
    def supports_text_queries(self) -> bool:
        """True if the head scores texts."""

    @property
    def uses_user_profiles(self) -> bool:
        """True if the head scores users by their texts and attributes."""

    def score(self, queries: Queries) -> torch.Tensor:
        """Return scores (Q, N) by history."""

    def score_text(self, texts: np.ndarray) -> torch.Tensor:
        """Return scores (Q, N) by text."""


@dataclass(frozen=True)
class Answers:
    """Lists and their sources.

    Attributes
    ----------
    sources : object array (Q,) of names in SOURCES
    with_text : bool (Q,), True if the scores of a text were added to those of a history
    reasons : reasons of each query and list place (requests.reasons); None if not requested
    """

    queries: Queries
    lists: Lists
    sources: np.ndarray
    with_text: np.ndarray
    reasons: list[list[list[dict[str, Any]]]] | None = None


def answer(head: Scores, queries: Queries, popularity_N: np.ndarray, ranks_N: np.ndarray, k: int, *,
           exclude_seen: bool = True, candidates_N: np.ndarray | None = None,
           candidates_QN: sp.csr_array | None = None) -> Answers:
    """Return the lists of one block of queries, with candidates for all queries, per query, or both."""
    with torch.inference_mode():
        scores_QN, sources, with_text = score(head, queries, popularity_N)
        lists = block_lists(scores_QN, queries, k, ranks_N, exclude_seen=exclude_seen,
                            candidates_N=candidates_N, candidates_BN=candidates_QN)
    return Answers(queries, lists, sources, with_text)


def score(head: Scores, queries: Queries, popularity_N: np.ndarray) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Return the scores (Q, N) of a block of queries, their sources, and a mask of queries with history and text."""
    informed = queries.informed
    has_history_or_profile = informed | queries.described if head.uses_user_profiles else informed
    history_rows, history = _informative_scores(head.score, queries, has_history_or_profile, len(popularity_N))
    has_text = (queries.texts != "") & head.supports_text_queries
    if head.uses_user_profiles and queries.profiles is not None:
        has_text &= queries.texts != queries.profiles  # The profile is already part of the history scores.
    text_rows, text = _informative_scores(lambda rows: head.score_text(rows.texts), queries, has_text,
                                          len(popularity_N))
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


def _informative_scores(score: Callable[[Queries], torch.Tensor], queries: Queries, mask_Q: np.ndarray,
                        num_items: int) -> tuple[np.ndarray, torch.Tensor]:
    """Score the queries in `mask_Q`; return those with different scores, int64 (R,), and their scores (R, N)."""
    rows = np.flatnonzero(mask_Q)
    if not len(rows):
        return rows, torch.empty((0, num_items))
    scores_RN = score(queries if len(rows) == len(queries) else queries.rows(rows))
    names = queries.ids[rows]
    require_finite(scores_RN, f"query '{names[0]}'" + (f" to '{names[-1]}'" if len(names) > 1 else ""))
    differs = (scores_RN.amax(dim=1) > scores_RN.amin(dim=1)).cpu().numpy()
    return (rows, scores_RN) if differs.all() else (rows[differs], scores_RN[differs])
