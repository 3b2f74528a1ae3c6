"""Lists of recommenders for held-out users, in the integers of the prepared data.

Recommenders may know different items in a different order; here their lists are converted to common integers.

Shapes: Q queries, K ranks, N items of a recommender, M items of the prepared data, U its users, P pairs.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.queries import Queries
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.heldout import held_out_cold, held_out_groups, newer_groups, served
from llmrec_cli.evaluation.metric_suite import PredictionErrors
from llmrec_cli.evaluation.models import popularity_of
from llmrec_cli.evaluation.query_rows import audience_of_rows, held_out_rows, num_fitted
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.heads.base import Head
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.rating import LIKES, VALUES, Predictions
from llmrec_cli.pace import still_working
from llmrec_cli.scoring.heldout import HeldOut, audience_of, held_out, newer_histories
from llmrec_cli.scoring.scorer import Lists, recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.command import LATEST
from llmrec_cli.settings.evaluate import EvaluateConfig


@dataclass(frozen=True)
class RankedLists:
    """Ranked lists of one recommender.

    Attributes
    ----------
    task : the queries and their held-out items, in the integer ids of the prepared data
    lists : the ranked items, in the same ids
    prediction_errors : errors of scores that predict values or likes; None if scores only order items
    vectors_MD : text vectors of the items, if the head has an encoder
    newer_Q : bool (Q,), queries of known users, or groups, with interactions that the head was not fitted on
    num_fitted : number of relevant interactions that the head was fitted on, where queries are rows of a file
    sources : number of rows by what they were scored by (`requests.answers`), where queries are rows of a file
    """

    task: HeldOut
    lists: Lists
    prediction_errors: PredictionErrors | None = None
    vectors_MD: np.ndarray | None = None
    newer_Q: np.ndarray | None = None
    num_fitted: int = 0
    sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_newer(self) -> int:
        """Number of users or groups with a query in `newer_Q`; with a candidate file each can have several queries."""
        return 0 if self.newer_Q is None else len(set(self.task.owners[self.newer_Q]))

    def rows(self, which: np.ndarray) -> "RankedLists":
        """Return the queries `which`."""
        places = _places(self.task.relevant_QN)[which].data
        changed = {name: value[places if name == "relevant_scores" else which]
                   for name, value in vars(self.lists).items() if value is not None}
        errors = self.prediction_errors
        if errors is not None:
            errors = PredictionErrors({name: values[which] for name, values in errors.values.items()},
                                      errors.num_pairs_Q[which], errors.pooled)
        return replace(self, task=task_rows(self.task, which), lists=replace(self.lists, **changed),
                       prediction_errors=errors, newer_Q=None if self.newer_Q is None else self.newer_Q[which])


def rank(recommender: Recommender, data: PreparedData, protocol: Protocol, cfg: EvaluateConfig, what: str,
         num_given: int | None = None) -> RankedLists:
    """Rank for the held-out users, or groups, of `data`.

    With cold_users=true each user's history is the first `num_given` interactions (None: the largest of
    cold_users.first).
    """
    assert cfg.exclude_seen is not None
    head, items = recommender.head, recommender.items
    new = new_items(items, data.items)
    if len(new):
        head.add_items(new)
        items = items.extended(new)
    item_of_M, rows = items.find(data.items.ids), protocol.rows
    if rows is None:
        task, audience = task_of(recommender, items, data, cfg, num_given), audience_of(data, cfg.audience, cfg.split)
    else:
        task = held_out_rows(rows, data, cfg.split, replace(recommender, items=items), cfg.exclude_seen,
                             cfg.history == LATEST)
        audience = audience_of_rows(rows)
    task = protocol.apply(task, audience.entities.find(task.queries.ids), item_of_M, what)
    is_served = cfg.cold_users.on or rows is not None
    sources = Counter[str]()
    score = served(head, popularity_of(recommender, len(items)), sources) if is_served else head.score
    with still_working(f"head={head.config.head.kind}"):
        lists = recommend_lists(score, task.queries, max(cfg.k), item_hash_ranks(items.ids),
                                exclude_seen=cfg.exclude_seen, block_size=cfg.block_size,
                                candidates_N=None if task.candidates_N.all() else task.candidates_N,
                                candidates_QN=task.candidates_QN, relevant_QN=task.relevant_QN)
    place_N = np.full(len(items), -1, np.int64)
    place_N[item_of_M] = np.arange(len(item_of_M))
    moved, places = _moved(task, place_N, item_of_M)
    assert lists.relevant_scores is not None
    lists = replace(lists, items_QK=np.where(lists.items_QK >= 0, place_N[lists.items_QK], -1),
                    relevant_scores=lists.relevant_scores[places])
    vectors = head.text_vectors
    ranked = RankedLists(moved, lists, vectors_MD=None if vectors is None else vectors[item_of_M])
    if rows is not None:
        return replace(ranked, num_fitted=num_fitted(rows, task, recommender.history), sources=sources)
    newer_Q = newer_groups(task.queries, recommender.history, recommender.groups) if cfg.audience == "groups" \
        else newer_histories(task.queries, recommender.history)
    ranked = replace(ranked, newer_Q=newer_Q)
    if head.score_meaning is None or cfg.audience == "groups" or cfg.cold_users.on:
        return ranked
    return _with_prediction_errors(ranked, head, task.queries, data, item_of_M, cfg)


def task_of(recommender: Recommender, items: Catalogue, data: PreparedData, cfg: EvaluateConfig,
            num_given: int | None = None) -> HeldOut:
    """Return the held-out queries for a recommender; `items` is its catalogue with the new items of the data."""
    assert cfg.exclude_seen is not None
    latest = cfg.history == LATEST
    if cfg.audience == "groups":
        return held_out_groups(data, cfg.split, recommender.users, items, recommender.history, recommender.groups,
                               cfg.exclude_seen, recommender.times, latest)
    if cfg.cold_users.on:
        num_given = max(cfg.cold_users.first) if num_given is None else num_given
        return held_out_cold(data, cfg.split, recommender.users, items, num_given, cfg.cold_users.num_excluded)
    return held_out(data, cfg.split, recommender.users, items, recommender.history, cfg.exclude_seen,
                    recommender.times, latest)


def common(ranked: Mapping[str, RankedLists]) -> dict[str, RankedLists]:
    """Keep the queries that all recommenders have; raise DataError if their held-out items differ."""
    first_name, first = next(iter(ranked.items()))
    ids = first.task.queries.ids
    if all(np.array_equal(ids, other.task.queries.ids) for other in ranked.values()):
        is_common = np.ones(len(ids), bool)
    else:
        is_common = np.logical_and.reduce([np.isin(ids, other.task.queries.ids) for other in ranked.values()])
    if not is_common.any():
        raise DataError("models: no held-out user can be scored by all models; compare models of the same data")
    result = {}
    for name, one in ranked.items():
        place = {key: n for n, key in enumerate(one.task.queries.ids)}
        rows = np.array([place[key] for key in ids[is_common]], np.int64)
        same = len(rows) == len(place) and (rows == np.arange(len(rows))).all()
        result[name] = one if same else one.rows(rows)
        ours, theirs = result[first_name].task.relevant_QN, result[name].task.relevant_QN
        if not np.array_equal(ours.indptr, theirs.indptr) or not np.array_equal(ours.indices, theirs.indices):
            differ = abs(ours - theirs).sum()
            raise DataError(f"models: {first_name} and {name} cannot be compared: for {int(differ):,} of the "
                            f"{ours.nnz:,} held-out interactions, one of the two was fitted on them; compare models "
                            f"that were fitted on the same split")
    return result


def task_rows(task: HeldOut, which: np.ndarray) -> HeldOut:
    """Return the queries `which`; users or groups without a query among them count as skipped."""
    selected = replace(task, queries=task.queries.rows(which), relevant_QN=task.relevant_QN[which],
                       lengths_Q=task.lengths_Q[which],
                       candidates_QN=None if task.candidates_QN is None else task.candidates_QN[which],
                       owner_Q=None if task.owner_Q is None else task.owner_Q[which])
    return replace(selected, num_skipped=task.num_skipped + task.num_owners - selected.num_owners)


def _with_prediction_errors(ranked: RankedLists, head: Head, queries: Queries, data: PreparedData,
                            item_of_M: np.ndarray, cfg: EvaluateConfig) -> RankedLists:
    """Add the errors of the scores of the queries' held-out pairs."""
    # Pairs belong to the user; if a user has several lists, the last one gets them.
    user_Q, likes = data.users.find(ranked.task.owners), data.part(cfg.split)
    dislikes = data.negatives(cfg.split) if head.score_meaning == "logit" else None
    if head.score_meaning == "logit" and (dislikes is None or not len(dislikes)):
        return ranked
    sign = [np.ones(len(likes)), np.zeros(0 if dislikes is None else len(dislikes))]
    truth = likes.value if dislikes is None else np.concatenate(sign)
    user = likes.user if dislikes is None else np.concatenate([likes.user, dislikes.user])
    item = likes.item if dislikes is None else np.concatenate([likes.item, dislikes.item])
    row_U = np.full(len(data.users), -1, np.int64)
    row_U[user_Q] = np.arange(len(user_Q))
    has_query = row_U[user] >= 0
    order = np.flatnonzero(has_query)[np.argsort(row_U[user[has_query]], kind="stable")]
    row, truth_P = row_U[user[order]], truth[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(queries)))])
    pairs = sp.csr_array((np.ones(len(order), np.float32), item_of_M[item[order]], indptr),
                         shape=(len(queries), queries.history.shape[1]))
    scores_P = head.score_pairs(queries, pairs, cfg.block_size)
    family = VALUES if head.score_meaning == "value" else LIKES
    predictions = Predictions(scores_P, truth_P if family is VALUES else truth_P > 0)
    num_Q = np.diff(indptr)
    means = {name: np.divide(np.bincount(row, values, minlength=len(queries)), num_Q,
                             out=np.full(len(queries), np.nan), where=num_Q > 0)
             for name, values in evaluate_all(family, predictions, ()).items()}
    return replace(ranked, prediction_errors=PredictionErrors(means, num_Q,
                                                              evaluate_all(family, predictions, (), pooled=True)))


def gains(task: HeldOut, held: Interactions, user_Q: np.ndarray) -> sp.csr_array:
    """Return the value of each relevant interaction, CSR float64 (Q, M) in the order of `relevant_QN`."""
    key = np.repeat(user_Q, np.diff(task.relevant_QN.indptr)) * held.num_items + task.relevant_QN.indices
    keys = held.user * held.num_items + held.item
    order = np.argsort(keys, kind="stable")
    values = held.value[order][np.searchsorted(keys[order], key)].astype(np.float64)
    if (values <= 0).any():
        raise DataError(f"graded=true: {int((values <= 0).sum()):,} held-out interactions have values of 0 or less, "
                        f"which are no gains; prepare with dataset.min_value above 0, or leave graded out")
    return sp.csr_array((values, task.relevant_QN.indices, task.relevant_QN.indptr), shape=task.relevant_QN.shape)


def _moved(task: HeldOut, place_N: np.ndarray, item_of_M: np.ndarray) -> tuple[HeldOut, np.ndarray]:
    """Return the task in the integers of the prepared data, and where each relevant entry was before.

    Items that are not in the data are left out of histories.
    """
    if len(place_N) == len(item_of_M) and (place_N == np.arange(len(place_N))).all():
        return task, np.arange(task.relevant_QN.nnz)
    size = len(item_of_M)

    def move(matrix: sp.csr_array) -> sp.csr_array:
        is_known = place_N[matrix.indices] >= 0
        row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))[is_known]
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=matrix.shape[0]))])
        return sp.csr_array((matrix.data[is_known], place_N[matrix.indices[is_known]], indptr),
                            shape=(matrix.shape[0], size))

    queries = replace(task.queries, history=move(task.queries.history), seen=move(task.queries.seen),
                      times=None if task.queries.times is None else move(task.queries.times))
    places = move(_places(task.relevant_QN))
    places.sort_indices()
    relevant = sp.csr_array((np.ones(places.nnz, np.float32), places.indices, places.indptr), shape=places.shape)
    own = None if task.candidates_QN is None else move(task.candidates_QN)
    moved = replace(task, queries=queries, relevant_QN=relevant, candidates_QN=own,
                    counts_N=task.counts_N[item_of_M], candidates_N=task.candidates_N[item_of_M])
    return moved, places.data.astype(np.int64)


def _places(matrix: sp.csr_array) -> sp.csr_array:
    """Return the matrix with the position of each entry as its value."""
    return sp.csr_array((np.arange(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)


def new_items(catalogue: Catalogue, items: Catalogue) -> Catalogue:
    """Return the items of the data that the model does not know."""
    return items.rows(np.flatnonzero(catalogue.find(items.ids) < 0))
