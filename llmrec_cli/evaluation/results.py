"""Output of an evaluation: metrics.json, the tables per user and per recommendation, and the content of the report."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.metric_results import MetricResults, Ranking
from llmrec_cli.evaluation.models import LoadedModel
from llmrec_cli.evaluation.predictions import RankedLists
from llmrec_cli.evaluation.report_facts import report_facts
from llmrec_cli.evaluation.slices import Masks
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.metrics.lists import exposure, group_shares
from llmrec_cli.metrics.significance import holm
from llmrec_cli.metrics.table import metric_of
from llmrec_cli.pace import still_working
from llmrec_cli.report.content import (
    Disagreement,
    EvaluationReport,
    ModelLists,
    examples,
    find_disagreements,
    main_cutoff,
    training_curves,
)
from llmrec_cli.requests.relevant_rows import QueryRows
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.settings.evaluate import EvaluateConfig

_TIES = {"hash": Phrase("score descending, then a salted BLAKE2b hash of the item id"),
         "expected": Phrase("expectation over all orders of equal scores; lists and beyond-accuracy metrics: a salted "
                            "BLAKE2b hash of the item id")}


@dataclass(frozen=True)
class EvaluationResults:
    """Results of all models and baselines.

    Attributes
    ----------
    models, baselines : name -> metrics; metrics.json is about the first model, the report about the first of `about`
    task : the held-out queries, in the integers of the prepared data
    ranking : models and baselines in order of the main metric
    candidates, diversity : labels of the ranked candidates, and of the item vectors that diversity is computed from
    candidate_counts : counts of a candidate file, including rows that were not ranked as given
    suspicious : model -> sentences about signs of a leak
    groups_of : attribute -> masks of the items of each value, whose exposure is reported
    """

    models: dict[str, MetricResults]
    baselines: dict[str, MetricResults]
    task: HeldOut
    ranking: Ranking
    candidates: Phrase
    candidate_counts: dict[str, int | str]
    diversity: Phrase | None
    suspicious: dict[str, list[Phrase]]
    groups_of: Mapping[str, Masks]

    @property
    def everyone(self) -> dict[str, MetricResults]:
        """Models, then baselines."""
        return self.models | self.baselines

    @property
    def main(self) -> MetricResults:
        """The first model."""
        return next(iter(self.models.values()))


def best_model(results: EvaluationResults) -> str:
    """Return the model with the highest main metric; of equal models, the one that was given first."""
    means = {name: one.mean(results.ranking.metric) for name, one in results.models.items()}
    return max(means, key=lambda name: means[name])


def put_first(results: EvaluationResults, name: str) -> EvaluationResults:
    """Return the results with the model `name` first, which makes them results about this model."""
    return replace(results, models={name: results.models[name]} | results.models)


def main_metric(models: Mapping[str, Sequence[LoadedModel]], results: Mapping[str, MetricResults],
                cutoff: int) -> str:
    """Return the metric that ranks the recommenders: the validation metric of all models if they agree, else ndcg."""
    monitors = {str(model.settings.get("monitor", "")) for seed_runs in models.values() for model in seed_runs}
    monitor = monitors.pop() if len(monitors) == 1 else ""
    return monitor if all(monitor in one.values for one in results.values()) else f"ndcg@{cutoff}"


@still_working("comparing models")
def metrics_content(results: EvaluationResults, cfg: EvaluateConfig, synthetic: str = "",
                    time_ties: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of metrics.json for the first model; the others are under `models`.

    `synthetic` is how synthetic groups were made, "" for real groups; `time_ties` is the entry `ties` of the data's
    manifest.
    """
    result, task = results.main, results.task
    first = next(iter(results.models))
    slice_queries = {name: int(np.isfinite(next(iter(values.values()))).sum())
                     for name, values in result.slices.items()}
    named = {"name": cfg.protocol} if cfg.protocol else {}
    protocol = {**named, "split": cfg.split, "audience": cfg.audience, "candidates": results.candidates,
                "candidate_counts": results.candidate_counts, "num_candidates": int(task.candidates_N.sum()),
                "exclude_seen": cfg.exclude_seen,
                "ties": _TIES[cfg.ties], "graded": cfg.graded, "num_queries": task.num_owners,
                **({} if task.owner_Q is None else {"num_rows": len(task.queries)}),
                "num_skipped": task.num_skipped, "num_cold": task.num_cold, "num_bootstrap": cfg.num_bootstrap,
                "diversity": results.diversity, "propensity": cfg.propensity,
                "test": "paired t-test; p_holm: corrected for the number of comparisons (Holm)",
                "slice_queries": slice_queries}
    if time_ties and cfg.audience in time_ties:
        protocol["time_ties"] = time_ties[cfg.audience]
    if cfg.audience == "groups" and synthetic:
        protocol["synthetic_groups"] = synthetic
    others = {name: one for name, one in results.everyone.items() if name != first}
    content: dict[str, Any] = {
        "format": 1, "protocol": protocol, "metrics": result.summary(), "slices": result.slice_summary(),
        "baselines": {name: one.summary() for name, one in results.baselines.items()},
        "comparisons": add_holm_p({name: result.comparison(one) for name, one in others.items()}),
        "tie_rate": result.lists.tie_rate, "degenerate_rate": result.lists.degenerate,
        "suspicious": results.suspicious[first]}
    if task.owner_Q is not None:
        content["by_query"] = {name: one.by_owner() for name, one in results.everyone.items()}
    if results.groups_of:
        content["exposure"] = exposure_of(result, task, results.groups_of, main_cutoff(cfg.k))
    if len(results.models) > 1:
        content["models"] = {name: {"metrics": one.summary(), "slices": one.slice_summary(),
                                    "seeds": len(one.seeds) or 1, "tie_rate": one.lists.tie_rate,
                                    "degenerate_rate": one.lists.degenerate,
                                    "suspicious": results.suspicious[name]} for name, one in results.models.items()}
    if len(results.everyone) > 1:
        content["leaderboard"] = _leaderboard(results)
    return content


def about_model(content: dict[str, Any], results: EvaluationResults, name: str, cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the content of metrics.json as it is with the model `name` first; all else stays as in `content`."""
    changed = metrics_content(put_first(results, name), cfg) if name != next(iter(results.models)) else {}
    return content | changed | {"protocol": content["protocol"]}


def add_holm_p(comparisons: dict[str, Any]) -> dict[str, Any]:
    """Add p_holm to the comparisons: p corrected, per metric, for the number of compared recommenders."""
    for metric in {metric for compared in comparisons.values() for metric in compared}:
        cells = [compared[metric] for compared in comparisons.values() if metric in compared]
        for cell, p in zip(cells, holm(np.array([cell["p"] for cell in cells])), strict=True):
            cell["p_holm"] = float(p)
    return comparisons


def exposure_of(result: MetricResults, task: HeldOut, groups_of: Mapping[str, Masks],
                cutoff: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return the shares of each attribute value in the lists, the catalogue, training and the held-out items."""
    shares_of: dict[str, dict[str, dict[str, float]]] = {}
    for column, masks in groups_of.items():
        groups = sp.csr_array(np.stack(list(masks.values()), axis=1).astype(np.float64))
        shares = group_shares(result.lists.items_QK[:, :cutoff], groups, task.counts_N, task.relevant_QN)
        shares_of[column] = {value: {name: float(share[n]) for name, share in shares.items()}
                             for n, value in enumerate(masks)}
    return shares_of


def _leaderboard(results: EvaluationResults) -> dict[str, Any]:
    ranking, everyone = results.ranking, results.everyone
    rows = [{"name": name, "baseline": name in results.baselines, "letters": ranking.letters[name],
             **everyone[name].summary()[ranking.metric]} for name in ranking.names]
    pairs = [{"one": one, "other": other, "p_holm": p} for (one, other), p in ranking.p.items()]
    return {"metric": ranking.metric, "rows": rows, "pairs": pairs}


def per_user(models: Mapping[str, MetricResults], task: HeldOut, items: Catalogue) -> bytes:
    """Return a Parquet file with a row per model and query: number of relevant items and every metric.

    If each row of a candidate file is a query, `query_id` names the row, `owner_id` its user or group and `item_id` its
    held-out item ("" if the file names none).
    """
    tables, row = [], {}
    if task.owner_Q is not None:
        first = items.ids[task.relevant_QN.indices[task.relevant_QN.indptr[:-1]]]
        target = np.where(np.diff(task.relevant_QN.indptr) == 1, first, "")
        row = {"owner_id": pa.array(list(task.owner_Q), pa.string()), "item_id": pa.array(list(target), pa.string())}
    for name, result in models.items():
        values = {column: np.sqrt(value) if metric_of(column).root else value
                  for column, value in result.values.items()}
        tables.append(pa.table({"query_id": pa.array(list(task.queries.ids), pa.string()), **row,
                                "model": pa.array([name] * len(task.queries), pa.string()),
                                "num_relevant": np.diff(task.relevant_QN.indptr).astype(np.int64),
                                "history_length": np.diff(task.queries.history.indptr).astype(np.int64),
                                "tied": result.lists.tied_Q, **values}))
    return _parquet(pa.concat_tables(tables, promote_options="default"))


def recommendations(models: Mapping[str, MetricResults], task: HeldOut, items: Catalogue) -> bytes:
    """Return a Parquet file with a row per model, query and rank; with `owner_id` if each candidate row is a query."""
    tables = []
    owners = {} if task.owner_Q is None else {"owner_id": pa.array(list(task.owner_Q), pa.string())}
    ids, users, names = (pa.array(list(column), pa.string())
                         for column in (task.queries.ids, task.queries.user_ids, items.ids))
    source = "model" if task.queries.groups is None else "group"
    for name, result in models.items():
        query, place = np.nonzero(result.lists.items_QK >= 0)
        row = pa.array(query)
        tables.append(pa.table({
            "query_id": ids.take(row), **{key: column.take(row) for key, column in owners.items()},
            "user_id": users.take(row), "rank": place + 1,
            "item_id": names.take(pa.array(result.lists.items_QK[query, place])),
            "score": result.lists.scores_QK[query, place],
            "source": pa.array(np.full(len(query), source), pa.string()), "hit": result.hits_QK[query, place],
            "model": pa.array(np.full(len(query), name), pa.string())}))
    return _parquet(pa.concat_tables(tables))


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def report_content(results: EvaluationResults, metrics: dict[str, Any], models: Mapping[str, Sequence[LoadedModel]],
                   data: PreparedData, cfg: EvaluateConfig) -> EvaluationReport:
    """Return the content of the report on the first model of `results`; `metrics` is its content of metrics.json."""
    task, cutoff = results.task, main_cutoff(cfg.k)
    exposures = {name: exposure(one.lists.items_QK[:, :cutoff], len(data.items))[task.candidates_N]
                 for name, one in (results.models if len(results.models) > 1 else results.everyone).items()}
    name = next(iter(results.models))
    seed_runs = models[name]
    compared_models, disagreements = _disagreements(results, data, cutoff)
    facts = report_facts(seed_runs, task, list(results.baselines), metrics, data, cfg)
    return EvaluationReport(name, facts, metrics, cutoff, task.counts_N[task.candidates_N], exposures,
                            training_curves(seed_runs[0].folder.parent / "log.jsonl"),
                            examples(task, results.main.lists, results.main.hits_QK, data.items, cutoff),
                            disagreements, compared_models, bool(cfg.about))


def _disagreements(results: EvaluationResults, data: PreparedData,
                   cutoff: int) -> tuple[tuple[str, str], list[Disagreement]]:
    """Return the names of the first model and of the best other one, and the users with the largest differences."""
    first = next(iter(results.models))
    other = next((name for name in results.ranking.names if name in results.models and name != first), None)
    if other is None:
        return ("", ""), []

    def lists_of(one: MetricResults) -> ModelLists:
        return ModelLists(one.lists, one.hits_QK, one.values[results.ranking.metric])

    disagreements = find_disagreements(results.task, lists_of(results.models[first]), lists_of(results.models[other]),
                                       data.items, cutoff)
    return (first, other), disagreements


def rows_content(rows: QueryRows | None, ranked: Mapping[str, Sequence[RankedLists]]) -> dict[str, Any]:
    """Return the entry `queries` of the protocol of metrics.json: the file of the rows, and the counts of its rows.

    `ranked_by` are the sources of the first model's scores, as in `recommend` (`requests.answers`).
    """
    if rows is None:
        return {}
    first = next(iter(ranked.values()))[0]
    return {"queries": {"file": rows.file, "gives_history": rows.gives_history, **rows.counts,
                        "rows_not_ranked": len(rows) - len(first.task.queries), "ranked_by": dict(first.sources)}}


def history_content(ranked: Mapping[str, Sequence[RankedLists]], models: Mapping[str, Sequence[LoadedModel]],
                    cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entries of the protocol of metrics.json about histories.

    history: latest | fit. num_newer_histories: number of users or groups, of the num_queries, that the first model
    knows and whose history has interactions that it was not fitted on. without_fold_in: model -> its parts that score
    known users from learned vectors, which newer interactions do not change.
    """
    if cfg.cold_users.on or cfg.queries:
        return {}
    fixed = {name: seed_runs[0].recommender.head.without_fold_in for name, seed_runs in models.items()}
    return {"history": cfg.history, "num_newer_histories": next(iter(ranked.values()))[0].num_newer,
            "without_fold_in": {name: parts for name, parts in fixed.items() if parts}}
