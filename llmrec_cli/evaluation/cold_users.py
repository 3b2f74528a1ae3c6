"""Users whom training knows nothing of: what models make of a profile and a few interactions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.metric_results import averaged
from llmrec_cli.evaluation.metric_suite import Measures, main_columns, measure
from llmrec_cli.evaluation.models import Entrant
from llmrec_cli.evaluation.predictions import Ranked, common, new_items, rank
from llmrec_cli.evaluation.slices import Slices
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.settings.stages import EvaluateConfig

Told = dict[int, dict[str, Sequence[Ranked]]]
"""By number of interactions told and by name: what was said, one entry per seed."""


def cold_users(groups: Mapping[str, Sequence[Entrant]], baselines: Mapping[str, Head],
               most: Mapping[str, Sequence[Ranked]], data: PreparedData, protocol: Protocol, cfg: EvaluateConfig,
               context: Context) -> Told:
    """Return what models and baselines say of the same users, told more and more of them.

    `most` is what they said when told as many interactions as there are to tell; they have had the items of `data`
    added to their catalogues for that.
    """
    found: Told = {}
    for told in sorted(cfg.cold_users.first):
        if told == max(cfg.cold_users.first):
            found[told] = dict(most)
            continue
        flat = {f"{n}\n{name}": _ask(entrant.recommender, data, protocol, cfg, told)
                for name, group in groups.items() for n, entrant in enumerate(group)}
        first = next(iter(groups.values()))[0].recommender
        flat |= {f"0\n{name} baseline" if name in groups else f"0\n{name}":
                 _ask(replace(first, head=head), data, protocol, cfg, told) for name, head in baselines.items()}
        by_name: dict[str, list[Ranked]] = {}
        for key, one in common(flat).items():
            by_name.setdefault(key.partition("\n")[2], []).append(one)
        found[told] = dict(by_name)
        context.log("cold_users", told=told, num_queries=len(next(iter(by_name.values()))[0].task.queries))
    return found


def _ask(known: Recommender, data: PreparedData, protocol: Protocol, cfg: EvaluateConfig, told: int) -> Ranked:
    new = new_items(known.items, data.items)
    widened = replace(known, items=known.items.extended(new)) if len(new) else known
    return rank(widened, data, protocol, cfg, f"candidates={cfg.candidates}", told)


def cold_users_content(told: Told, groups: Mapping[str, Sequence[Entrant]], cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entry `cold_users` of metrics.json: by number of interactions told, everybody's metrics and how far
    each model is ahead of each baseline."""
    how = Measures(sorted(set(cfg.k)), Slices({}, {}), None, cfg.propensity, cfg.num_bootstrap, cfg.seed,
                   expected_ties=cfg.ties == "expected")
    by_number = {}
    for number, ranked in told.items():
        measured = {name: averaged([measure(one.lists, one.task, how) for one in entries])
                    for name, entries in ranked.items()}
        by_number[str(number)] = {
            "metrics": {name: main_columns(one.summary()) for name, one in measured.items()},
            "comparisons": {name: {other: main_columns(measured[name].comparison(baseline))
                                   for other, baseline in measured.items() if other not in groups} for name in groups}}
    task = next(iter(next(iter(told.values())).values()))[0].task
    return {"after": cfg.cold_users.num_excluded, "num_users": len(task.queries), "told": by_number}
