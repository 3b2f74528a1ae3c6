"""Checks for results that are too good to be true, on test and on validation.

A high metric does not prove a leak. Every sentence gives the numbers behind it, so that a reader can investigate and
dismiss it.

Shapes: Q queries, M items, W distinct words.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.metric_results import MetricResults
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.requests.relevant_rows import QueryRows
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import ItemKnnSettings, ModelConfig, PopularitySettings

_MIN_CANDIDATES = 20
"""Minimum number of candidates per list place for these checks: with fewer, high metrics are normal."""
_HIGH, _TIMES_BASELINE = 0.5, 2.5
"""An ndcg of at least _HIGH that is also _TIMES_BASELINE times the strongest baseline's is suspicious. On the data sets
in docs/experiments.md the best recommenders stay well below _HIGH and within 1.3 times item_knn, the stronger default
baseline there."""
_NEARLY_PERFECT = 0.9
"""An ndcg of at least this is suspicious whatever the baselines reach."""
_COPIED = 0.25
"""Share of the groups' held-out pairs in a member's training from which validation favours heads that repeat them."""
_HIGH_COLD_RECALL = 0.8
"""Recall on items without training interactions from which a leak is likely."""
_TIMES_VALIDATION, _ABOVE_VALIDATION = 1.5, 0.05
"""A test metric above this many times the validation metric, and this much above it, is suspicious."""
_NAMED_MORE = 10
"""Ratio to the number expected by chance from which user ids in item texts are suspicious."""


def find_leaks(model: MetricResults, baselines: Mapping[str, MetricResults], task: HeldOut, k: int,
               validation: Mapping[str, float], num_candidates: int) -> list[Phrase]:
    """Return a sentence for each sign of a leak.

    `validation` are the validation metrics used for model selection, if they have the same queries and candidates;
    `num_candidates` is 0 if each query has its own few candidates.
    """
    ndcg, problems = f"ndcg@{k}", list[Phrase]()
    ours = model.mean(ndcg)
    if num_candidates >= _MIN_CANDIDATES * k:
        problems += check_too_high(ndcg, ours, [one.mean(ndcg) for one in baselines.values()], num_candidates)
        cold = _mean_or_minus_one(model.slices["item:cold"].get(f"recall@{k}"))
        if cold >= _HIGH_COLD_RECALL:
            problems.append(Phrase("recall@{k} on items without training interactions is {cold:.2f}; their texts or "
                                   "attributes may reveal who will like them", k=k, cold=cold))
    for name, validation_value in validation.items():
        if name in model.values:
            low = model.summary()[name]["ci95"][0]
            if low > max(_TIMES_VALIDATION * validation_value, validation_value + _ABOVE_VALIDATION):
                problems.append(Phrase("{metric} is {mean:.3f} (95% interval from {low:.3f}) on test but "
                                       "{validation:.3f} on the validation split used for model selection", metric=name,
                                       mean=model.mean(name), low=low, validation=validation_value))
    return problems


def check_too_high(ndcg: str, ours: float, baselines: Sequence[float], num_candidates: int) -> list[Phrase]:
    """Return a sentence if ndcg over the whole catalogue is nearly perfect or far above every baseline's."""
    best = max(baselines, default=None)
    if ours >= _NEARLY_PERFECT:
        return [Phrase("{metric} is {mean:.3f}, nearly perfect for a ranking of {num:,} items", metric=ndcg, mean=ours,
                       num=num_candidates)]
    if best is not None and ours >= _HIGH and ours >= _TIMES_BASELINE * best:
        return [Phrase("{metric} is {mean:.3f}, {times:.1f} times that of the strongest baseline ({best:.3f}), which "
                       "was fitted on the same interactions", metric=ndcg, mean=ours, times=ours / max(best, 1e-9),
                       best=best)]
    return []


def check_copies(relevant_QN: sp.csr_array, members_QU: sp.csr_array, train_UN: sp.csr_array) -> str | None:
    """Return a warning if many held-out pairs of groups are in a member's training interactions, else None."""
    known_QN = sp.csr_array(members_QU @ train_UN)
    num = int(sp.csr_array(known_QN.astype(bool).multiply(relevant_QN.astype(bool))).nnz)
    if relevant_QN.nnz and num >= _COPIED * relevant_QN.nnz:
        return (f"{num:,} of {relevant_QN.nnz:,} validation pairs of groups "
                f"({num / relevant_QN.nnz:.1%}) are in the training split of a member, so heads that repeat histories "
                f"look best; if validation is carved from a predefined training split, prepare without "
                f"split.leaks=keep")
    return None


def check_rows(rows: QueryRows | None, manifest: Mapping[str, Any], num_fitted: int,
               num_relevant: int) -> list[Phrase]:
    """Return a sentence for each way in which a recommender knows the rows that it is measured on.

    Its settings were chosen on them, by the `manifest` of the model, or it was fitted on relevant interactions of them.
    """
    chosen = manifest.get("validation") or {}
    sentences = list[Phrase]()
    if rows is not None and chosen.get("sha256") == rows.sha256:
        sentences.append(Phrase("the settings of the model were chosen on these very rows ({file}); measure on other "
                                "rows", file=rows.file))
    if num_fitted:
        sentences.append(Phrase("the model was fitted on {num:,} of the {total:,} relevant interactions of the rows; "
                                "fit it on what came before", num=num_fitted, total=num_relevant))
    return sentences


def check_named_users(items: Catalogue, task: HeldOut) -> Phrase | None:
    """Return a warning if texts or attributes of held-out items contain ids of users who interacted with them.

    The number of such ids is compared with the number expected if the same users and items were paired at random, since
    an id such as 7 is also a word.
    """
    # A user may have several lists; the check is per user.
    owners, owner_Q = (task.queries.ids, np.arange(len(task.queries))) if task.owner_Q is None else np.unique(
        task.owner_Q, return_inverse=True)
    place = {key: n for n, key in enumerate(owners)}
    pattern = re.compile(r"[^\s,;:|=()\[\]\"']+")
    users_of_item = [[place[word] for word in {text, *pattern.findall(text)} if word in place]
                     for text in map(" ".join, zip(items.texts, _attributes(items), strict=True))]
    if not any(users_of_item):
        return None
    indptr = np.concatenate([[0], np.cumsum([len(one) for one in users_of_item])])
    indices = np.array([q for one in users_of_item for q in one], np.int64)
    named_MQ = sp.csr_array((np.ones(len(indices), np.float32), indices, indptr),
                            shape=(len(items), len(owners)))
    relevant_QN = task.relevant_QN
    row = np.repeat(owner_Q.ravel(), np.diff(relevant_QN.indptr))
    relevant = sp.csr_array((np.ones(len(row), np.float32), (row, relevant_QN.indices)),
                            shape=(len(owners), len(items)))
    relevant.data[:] = 1
    num_named = int(relevant.multiply(named_MQ.T).sum())
    # Expected for random pairs: each item's share of the held-out pairs times the users it names.
    expected = float(np.bincount(relevant.indices, minlength=len(items)) @ (named_MQ @ np.diff(relevant.indptr))
                     / relevant.nnz)
    if num_named >= 3 and num_named >= _NAMED_MORE * expected:
        return Phrase("the text or attributes of the item contain the user's id in {num:,} of {total:,} held-out "
                      "interactions; {expected:.1f} are expected by chance", num=num_named, total=relevant.nnz,
                      expected=expected)
    return None


def _attributes(items: Catalogue) -> list[str]:
    """Return the attributes of each item as one text."""
    names, indptr = np.array([*items.attribute_names, None], object)[:-1], items.attributes.indptr
    return [" ".join(names[items.attributes.indices[start:stop]])
            for start, stop in pairwise(indptr)]


def _mean_or_minus_one(values: np.ndarray | None) -> float:
    return -1.0 if values is None or np.isnan(values).all() else float(np.nanmean(values))


def missing_validation_notes(config: ModelConfig) -> list[str]:
    """Return sentences about model selection that needs a validation split and was skipped."""
    notes = ["the prepared data has no validation split, so no setting was tuned"]
    if "optim" in config.head.uses():
        notes.append("training ran for all optim.epochs, without early stopping")
    if config.head.combines:
        notes.append("the fusion's weights are the given ones, or equal")
    notes.append("prepare with split.valid=<share> (for groups split.group_valid=<share>) to have a validation split, "
                 "or give rows to choose on, validation=<file>")
    return notes


def find_validation_leaks(head: Head, value: float, validation: Validation, data: PreparedData,
                          context: Context) -> list[str]:
    """Return a sentence for each sign that the validation `value` of a fitted head is too good to be true.

    The baselines are popularity and, if the value is far above popularity, item_knn. The metric is ndcg whatever the
    monitor, since the limits are for ndcg.
    """
    _, _, k = validation.monitor.partition("@")
    of_ndcg = replace(validation, monitor=f"ndcg@{k}")
    problems, num_items = list(_copies(validation, data)), len(data.items)
    if num_items >= _MIN_CANDIDATES * int(k):
        ours = value if of_ndcg.monitor == validation.monitor else of_ndcg(head.score)
        baselines = [_baseline_value(PopularitySettings(), of_ndcg, data, context)]
        if ours >= _HIGH and ours >= _TIMES_BASELINE * baselines[0]:
            baselines.append(_baseline_value(ItemKnnSettings(), of_ndcg, data, context))
        context.log("baselines", metric=of_ndcg.monitor, value=ours, baselines=baselines)
        problems += check_too_high(f"{of_ndcg.monitor} on validation", ours, baselines, num_items)
    return problems


def _copies(validation: Validation, data: PreparedData) -> Iterator[str]:
    groups, training_groups = validation.queries.groups, data.groups("train")
    if groups is not None and training_groups is not None:
        members_QU = training_groups.members[np.asarray(groups.group)]
        problem = check_copies(validation.relevant, members_QU, data.part("train").matrix)
        if problem is not None:
            yield problem


def _baseline_value(settings: PopularitySettings | ItemKnnSettings, validation: Validation, data: PreparedData,
                    context: Context) -> float:
    baseline = build(ModelConfig(head=settings))
    baseline.fit(data.training("train"), replace(context, validation=None, folder=None, tensorboard=None))
    return validation(baseline.score)
