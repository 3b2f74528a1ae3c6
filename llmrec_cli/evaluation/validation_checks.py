"""Checks of the validation that finetune chooses on: that there is one, and that its value can be believed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.suspicion import HIGH, ROOM, TIMES_BASELINE, copies_in_training, too_high
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.scoring.validation import Validation
from llmrec_cli.settings.head import ItemKnn, Popularity, Recipe


def without_validation(recipe: Recipe) -> list[str]:
    """Return sentences about the choices that data without a validation split does not allow."""
    found = ["the prepared data holds nothing out for validation, so nothing was chosen on it and settings keep their "
             "given values"]
    if "optim" in recipe.head.uses():
        found.append("all of optim.epochs are run, without early stopping")
    if recipe.head.combines:
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
    if num_items >= ROOM * int(k):
        ours = value if of_ndcg.monitor == validation.monitor else of_ndcg(head.score)
        baselines = [_fitted(Popularity(), of_ndcg, data, context)]
        if ours >= HIGH and ours >= TIMES_BASELINE * baselines[0]:
            baselines.append(_fitted(ItemKnn(), of_ndcg, data, context))
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


def _fitted(settings: Popularity | ItemKnn, validation: Validation, data: PreparedData, context: Context) -> float:
    baseline = build(Recipe(head=settings))
    baseline.fit(data.training("train"), replace(context, validation=None, folder=None, tensorboard=None))
    return validation(baseline.score)
