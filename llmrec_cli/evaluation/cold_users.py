"""Cold-start users: metrics given a profile and the first few interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.metric_results import average_seeds
from llmrec_cli.evaluation.metric_suite import Measures, main_columns, measure
from llmrec_cli.evaluation.models import LoadedModel, baseline_label
from llmrec_cli.evaluation.predictions import RankedLists, common, new_items, rank
from llmrec_cli.evaluation.slices import Slices
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.pace import timed_parts
from llmrec_cli.settings.evaluate import EvaluateConfig

RankedByNumGiven = dict[int, dict[str, Sequence[RankedLists]]]
"""Number of given interactions -> model or baseline -> its ranked lists, one entry per seed."""


def cold_users(models: Mapping[str, Sequence[LoadedModel]], baselines: Mapping[str, Head],
               most: Mapping[str, Sequence[RankedLists]], data: PreparedData, protocol: Protocol, cfg: EvaluateConfig,
               context: Context) -> RankedByNumGiven:
    """Rank for the same cold-start users once per setting in `cold_users.first`.

    `most` are the lists for the largest number of given interactions; the items of `data` were already added to the
    catalogues of their models.
    """
    ranked: RankedByNumGiven = {}
    for num_given in timed_parts("cold-start users:", "history lengths", sorted(cfg.cold_users.first), quiet=True):
        if num_given == max(cfg.cold_users.first):
            ranked[num_given] = dict(most)
            continue
        flat = {f"{n}\n{name}": _rank(model.recommender, data, protocol, cfg, num_given)
                for name, seed_runs in models.items() for n, model in enumerate(seed_runs)}
        first = next(iter(models.values()))[0].recommender
        flat |= {f"0\n{baseline_label(name, models)}": _rank(replace(first, head=head), data, protocol, cfg, num_given)
                 for name, head in baselines.items()}
        by_name: dict[str, list[RankedLists]] = {}
        for key, one in common(flat).items():
            by_name.setdefault(key.partition("\n")[2], []).append(one)
        ranked[num_given] = dict(by_name)
        context.log("cold_users", num_given=num_given, num_queries=len(next(iter(by_name.values()))[0].task.queries))
    return ranked


def _rank(recommender: Recommender, data: PreparedData, protocol: Protocol, cfg: EvaluateConfig,
          num_given: int) -> RankedLists:
    new = new_items(recommender.items, data.items)
    widened = replace(recommender, items=recommender.items.extended(new)) if len(new) else recommender
    return rank(widened, data, protocol, cfg, f"candidates={cfg.candidates}", num_given)


def cold_users_content(ranked_by_num: RankedByNumGiven, models: Mapping[str, Sequence[LoadedModel]],
                       cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entry `cold_users` of metrics.json: per number of given interactions, the metrics of all recommenders
    and the paired differences of each model to each baseline."""
    measures = Measures(sorted(set(cfg.k)), Slices({}, {}), None, cfg.propensity, cfg.num_bootstrap, cfg.seed,
                        expected_ties=cfg.ties == "expected")
    by_number = {}
    for number, ranked in ranked_by_num.items():
        results = {name: average_seeds([measure(one.lists, one.task, measures) for one in entries])
                   for name, entries in ranked.items()}
        by_number[str(number)] = {
            "metrics": {name: main_columns(one.summary()) for name, one in results.items()},
            "comparisons": {name: {other: main_columns(results[name].comparison(baseline))
                                   for other, baseline in results.items() if other not in models} for name in models}}
    task = next(iter(next(iter(ranked_by_num.values())).values()))[0].task
    return {"after": cfg.cold_users.num_excluded, "num_users": len(task.queries), "by_num_given": by_number}
