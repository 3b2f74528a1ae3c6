"""Checks for results that are too good to be true, on test and on validation.

A leak is a fact about the data or the model; here are only its traces. Every reason says what was seen, so that it can
be looked into and dismissed.

Shapes: Q queries, M items, W distinct words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.metric_results import Measured
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import ItemKnnSettings, ModelConfig, PopularitySettings

_ROOM = 20
"""Candidates per place of a list from which on a nearly perfect list is no matter of course."""
_HIGH, _TIMES_BASELINE = 0.5, 2.5
"""ndcg, and how many times the strongest baseline's, from which on both together are suspicious: on the sets in
docs/experiments.md the best recommenders stay well below the first, and within 1.3 times item_knn, the stronger of the
default baselines there."""
_NEARLY_PERFECT = 0.9
"""ndcg from which on it is suspicious whatever the baselines reach."""
_COPIED = 0.25
"""Share of what groups hold out that a member was trained on, from which on validation prefers heads that repeat it."""
_COLD_FOUND = 0.8
"""Recall of items without any training interaction from which on the answer is more likely to be known than guessed."""
_TIMES_VALIDATION, _ABOVE_VALIDATION = 1.5, 0.05
"""How many times the validation metric, and how far above it, the test metric is suspicious."""
_NAMED_MORE = 10
"""How many times more often than by chance held-out items name their users."""


def suspicious(model: Measured, baselines: Mapping[str, Measured], task: HeldOut, k: int,
               validation: Mapping[str, float], num_candidates: int) -> list[str]:
    """Return a sentence for each trace of a leak.

    `validation` are the metrics on which the model was chosen, where those are of the same queries and candidates;
    `num_candidates` is 0 where each query has a few of its own.
    """
    ndcg, found = f"ndcg@{k}", list[str]()
    ours = model.mean(ndcg)
    if num_candidates >= _ROOM * k:
        found += too_high(ndcg, ours, [one.mean(ndcg) for one in baselines.values()], num_candidates)
        cold = _defined_mean(model.slices["item:cold"].get(f"recall@{k}"))
        if cold >= _COLD_FOUND:
            found.append(f"recall@{k} of items without any training interaction is {cold:.2f}: what is known of them "
                         f"beside interactions seems to say who will like them")
    for name, chosen in validation.items():
        if name in model.values:
            low = model.summary()[name]["ci95"][0]
            if low > max(_TIMES_VALIDATION * chosen, chosen + _ABOVE_VALIDATION):
                found.append(f"{name} is {model.mean(name):.3f} (at least {low:.3f}), and was {chosen:.3f} on "
                             f"validation, on which the model was chosen: what is known of test items seems to tell")
    return found


def too_high(ndcg: str, ours: float, baselines: Sequence[float], num_candidates: int) -> list[str]:
    """Return a sentence where ndcg over the whole catalogue is nearly perfect or far above every baseline's."""
    best = max(baselines, default=None)
    if ours >= _NEARLY_PERFECT:
        return [f"{ndcg} is {ours:.3f}, nearly perfect, with {num_candidates:,} items to choose from"]
    if best is not None and ours >= _HIGH and ours >= _TIMES_BASELINE * best:
        return [f"{ndcg} is {ours:.3f}, {ours / max(best, 1e-9):.1f} times that of the strongest baseline "
                f"({best:.3f}), which learned from the same interactions"]
    return []


def copies_in_training(relevant_QN: sp.csr_array, members_QU: sp.csr_array, train_UN: sp.csr_array) -> str | None:
    """Return a sentence where much of what groups hold out is in a member's training: it is known, not foretold."""
    known_QN = sp.csr_array(members_QU @ train_UN)
    num = int(sp.csr_array(known_QN.astype(bool).multiply(relevant_QN.astype(bool))).nnz)
    if relevant_QN.nnz and num >= _COPIED * relevant_QN.nnz:
        return (f"{num:,} of {relevant_QN.nnz:,} pairs ({num / relevant_QN.nnz:.1%}) that groups hold out for "
                f"validation are in the training of a member, so heads that repeat it look best; where validation is "
                f"carved from given training, prepare without split.leaks=keep")
    return None


def named_users(items: Catalogue, task: HeldOut) -> str | None:
    """Return a sentence where texts or attributes of held-out items name the users who went on to like them.

    Measured against as many pairs of the same users and items put together anew, since an id such as 7 also is a word.
    """
    # Where a user has several lists, all of them are this user's.
    owners, owner_Q = (task.queries.ids, np.arange(len(task.queries))) if task.owner_Q is None else np.unique(
        task.owner_Q, return_inverse=True)
    place = {key: n for n, key in enumerate(owners)}
    pattern = re.compile(r"[^\s,;:|=()\[\]\"']+")
    named = [[place[word] for word in {text, *pattern.findall(text)} if word in place]
             for text in map(" ".join, zip(items.texts, _attributes(items), strict=True))]
    if not any(named):
        return None
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in named])])
    indices = np.array([q for one in named for q in one], np.int64)
    named_MQ = sp.csr_array((np.ones(len(indices), np.float32), indices, indptr),
                            shape=(len(items), len(owners)))
    wanted = task.relevant_QN
    row = np.repeat(owner_Q.ravel(), np.diff(wanted.indptr))
    relevant = sp.csr_array((np.ones(len(row), np.float32), (row, wanted.indices)), shape=(len(owners), len(items)))
    relevant.data[:] = 1
    num_found = int(relevant.multiply(named_MQ.T).sum())
    # Expected where users and items meet by chance: each item's share of the held-out pairs times who it names.
    expected = float(np.bincount(relevant.indices, minlength=len(items)) @ (named_MQ @ np.diff(relevant.indptr))
                     / relevant.nnz)
    if num_found >= 3 and num_found >= _NAMED_MORE * expected:
        return (f"the text or attributes of the item name the user in {num_found:,} of {relevant.nnz:,} held-out "
                f"interactions, {expected:.1f} would by chance")
    return None


def _attributes(items: Catalogue) -> list[str]:
    """Return the attributes of each item as one text."""
    names, indptr = np.array([*items.attribute_names, None], object)[:-1], items.attributes.indptr
    return [" ".join(names[items.attributes.indices[start:stop]])
            for start, stop in pairwise(indptr)]


def _defined_mean(values: np.ndarray | None) -> float:
    return -1.0 if values is None or np.isnan(values).all() else float(np.nanmean(values))


def without_validation(config: ModelConfig) -> list[str]:
    """Return sentences about the choices that data without a validation split does not allow."""
    found = ["the prepared data holds nothing out for validation, so nothing was chosen on it and settings keep their "
             "given values"]
    if "optim" in config.head.uses():
        found.append("all of optim.epochs are run, without early stopping")
    if config.head.combines:
        found.append("the fusion's weights are as given, equal for a single member")
    found.append("prepare with split.valid=<share> (for groups split.group_valid=<share>) to have a validation split")
    return found


def suspicious_validation(head: Head, value: float, validation: Validation, data: PreparedData,
                          context: Context) -> list[str]:
    """Return a sentence for each reason not to believe the validation `value` of a fitted head.

    The baselines are popularity, and item_knn where the value is far above popularity. The metric is ndcg, whatever
    the monitor, since the limits hold for ndcg.
    """
    _, _, k = validation.monitor.partition("@")
    of_ndcg = replace(validation, monitor=f"ndcg@{k}")
    found, num_items = list(_copies(validation, data)), len(data.items)
    if num_items >= _ROOM * int(k):
        ours = value if of_ndcg.monitor == validation.monitor else of_ndcg(head.score)
        baselines = [_fitted(PopularitySettings(), of_ndcg, data, context)]
        if ours >= _HIGH and ours >= _TIMES_BASELINE * baselines[0]:
            baselines.append(_fitted(ItemKnnSettings(), of_ndcg, data, context))
        context.log("baselines", metric=of_ndcg.monitor, value=ours, baselines=baselines)
        found += too_high(f"{of_ndcg.monitor} on validation", ours, baselines, num_items)
    return found


def _copies(validation: Validation, data: PreparedData) -> Iterator[str]:
    groups, known = validation.queries.groups, data.groups("train")
    if groups is not None and known is not None:
        members_QU = known.members[np.asarray(groups.group)]
        said = copies_in_training(validation.relevant, members_QU, data.part("train").matrix)
        if said is not None:
            yield said


def _fitted(settings: PopularitySettings | ItemKnnSettings, validation: Validation, data: PreparedData,
            context: Context) -> float:
    baseline = build(ModelConfig(head=settings))
    baseline.fit(data.training("train"), replace(context, validation=None, folder=None, tensorboard=None))
    return validation(baseline.score)
