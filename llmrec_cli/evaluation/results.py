"""The results of an evaluation: metrics.json, the tables per user and per recommendation, and the report's content."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.evaluation.metric_results import Measured, Ranking
from llmrec_cli.evaluation.models import Entrant
from llmrec_cli.evaluation.predictions import Ranked
from llmrec_cli.evaluation.slices import Masks
from llmrec_cli.metrics.lists import exposure, group_shares
from llmrec_cli.metrics.significance import holm
from llmrec_cli.metrics.table import metric_of
from llmrec_cli.report.candidates import candidate_notes
from llmrec_cli.report.content import Content, Duel, Shown, duels, examples, main_cutoff, training_curves
from llmrec_cli.report.terminal import printable
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.settings.command import LATEST
from llmrec_cli.settings.stages import EvaluateConfig

_TIES = {"hash": "score descending, then a salted BLAKE2b hash of the item id",
         "expected": "expectation over all orders of equal scores; lists and what is beyond accuracy: a salted BLAKE2b "
                    "hash of the item id"}


@dataclass(frozen=True)
class Outcome:
    """All that was measured.

    Attributes
    ----------
    models, baselines : name -> what it got; the first of the models is what the report is about
    task : what they were asked, in the integers of the prepared data
    ranking : all of them by the main metric
    candidates, diversity : labels of what was ranked, and of what lists are varied by
    candidate_counts : what a file of candidates has, and what of it was not ranked as given
    suspicious : model -> traces of a leak
    exposure : attribute -> value -> share by what is shared, of the first model
    """

    models: dict[str, Measured]
    baselines: dict[str, Measured]
    task: HeldOut
    ranking: Ranking
    candidates: str
    candidate_counts: dict[str, int | str]
    diversity: str | None
    suspicious: dict[str, list[str]]
    exposure: dict[str, dict[str, dict[str, float]]]

    @property
    def everyone(self) -> dict[str, Measured]:
        """Models, then baselines."""
        return self.models | self.baselines

    @property
    def main(self) -> Measured:
        """The first model."""
        return next(iter(self.models.values()))


def metrics_content(outcome: Outcome, cfg: EvaluateConfig, synthetic: str = "",
                    time_ties: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of metrics.json, about the first model; the others are under `models`.

    `synthetic` says how groups were made that nobody observed; `time_ties` is the entry `ties` of the data's manifest.
    """
    result, task = outcome.main, outcome.task
    first = next(iter(outcome.models))
    slice_queries = {name: int(np.isfinite(next(iter(values.values()))).sum())
                     for name, values in result.slices.items()}
    protocol = {"split": cfg.split, "audience": cfg.audience, "candidates": outcome.candidates,
                "candidate_counts": outcome.candidate_counts, "num_candidates": int(task.candidates_N.sum()),
                "exclude_seen": cfg.exclude_seen,
                "ties": _TIES[cfg.ties], "graded": cfg.graded, "num_queries": task.num_owners,
                **({} if task.owner_Q is None else {"num_rows": len(task.queries)}),
                "num_skipped": task.num_skipped, "num_cold": task.num_cold, "num_bootstrap": cfg.num_bootstrap,
                "diversity": outcome.diversity, "propensity": cfg.propensity,
                "test": "paired t-test; p_holm: corrected for the number of comparisons (Holm)",
                "slice_queries": slice_queries}
    if time_ties and cfg.audience in time_ties:
        protocol["time_ties"] = time_ties[cfg.audience]
    if cfg.audience == "groups" and synthetic:
        protocol["synthetic_groups"] = synthetic
    others = {name: one for name, one in outcome.everyone.items() if name != first}
    content: dict[str, Any] = {
        "format": 1, "protocol": protocol, "metrics": result.summary(), "slices": result.slice_summary(),
        "baselines": {name: one.summary() for name, one in outcome.baselines.items()},
        "comparisons": corrected({name: result.comparison(one) for name, one in others.items()}),
        "tie_rate": result.lists.tie_rate, "degenerate_rate": result.lists.degenerate,
        "suspicious": outcome.suspicious[first]}
    if task.owner_Q is not None:
        content["by_query"] = {name: one.by_owner() for name, one in outcome.everyone.items()}
    if outcome.exposure:
        content["exposure"] = outcome.exposure
    if len(outcome.models) > 1:
        content["models"] = {name: {"metrics": one.summary(), "slices": one.slice_summary(),
                                    "seeds": len(one.seeds) or 1, "tie_rate": one.lists.tie_rate,
                                    "suspicious": outcome.suspicious[name]} for name, one in outcome.models.items()}
    if len(outcome.everyone) > 1:
        content["leaderboard"] = _leaderboard(outcome)
    return content


def corrected(comparisons: dict[str, Any]) -> dict[str, Any]:
    """Return the comparisons with p_holm: for each metric corrected for the number of those compared with."""
    for metric in {metric for compared in comparisons.values() for metric in compared}:
        cells = [compared[metric] for compared in comparisons.values() if metric in compared]
        for cell, p in zip(cells, holm(np.array([cell["p"] for cell in cells])), strict=True):
            cell["p_holm"] = float(p)
    return comparisons


def exposure_of(result: Measured, task: HeldOut, groups_of: Mapping[str, Masks],
                cutoff: int) -> dict[str, dict[str, dict[str, float]]]:
    """Return for each attribute and value its shares of lists, catalogue, training and what was to be found."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for column, masks in groups_of.items():
        groups = sp.csr_array(np.stack(list(masks.values()), axis=1).astype(np.float64))
        shares = group_shares(result.lists.items_QK[:, :cutoff], groups, task.counts_N, task.relevant_QN)
        found[column] = {value: {name: float(share[n]) for name, share in shares.items()}
                         for n, value in enumerate(masks)}
    return found


def _leaderboard(outcome: Outcome) -> dict[str, Any]:
    ranking, everyone = outcome.ranking, outcome.everyone
    rows = [{"name": name, "baseline": name in outcome.baselines, "letters": ranking.letters[name],
             **everyone[name].summary()[ranking.metric]} for name in ranking.names]
    pairs = [{"one": one, "other": other, "p_holm": p} for (one, other), p in ranking.p.items()]
    return {"metric": ranking.metric, "rows": rows, "pairs": pairs}


def per_user(models: Mapping[str, Measured], task: HeldOut, items: Catalogue) -> bytes:
    """Return a row per model and query: how much there was to find and every metric.

    Where each row of a file of candidates is a query, the columns `query_id`, `owner_id` and `item_id` say which: a
    name for the row, whose it is, and its held-out item ("" where the file names none).
    """
    tables, row = [], {}
    if task.owner_Q is not None:
        first = items.ids[task.relevant_QN.indices[task.relevant_QN.indptr[:-1]]]
        named = np.where(np.diff(task.relevant_QN.indptr) == 1, first, "")
        row = {"owner_id": pa.array(list(task.owner_Q), pa.string()), "item_id": pa.array(list(named), pa.string())}
    for name, result in models.items():
        values = {column: np.sqrt(value) if metric_of(column).root else value
                  for column, value in result.values.items()}
        tables.append(pa.table({"query_id": pa.array(list(task.queries.ids), pa.string()), **row,
                                "model": pa.array([name] * len(task.queries), pa.string()),
                                "num_relevant": np.diff(task.relevant_QN.indptr).astype(np.int64),
                                "history_length": np.diff(task.queries.history.indptr).astype(np.int64),
                                "tied": result.lists.tied_Q, **values}))
    return _parquet(pa.concat_tables(tables, promote_options="default"))


def recommendations(models: Mapping[str, Measured], task: HeldOut, items: Catalogue) -> bytes:
    """Return a row per model, query and rank, with `owner_id` where each row of a file of candidates is a query."""
    tables = []
    owners = {} if task.owner_Q is None else {"owner_id": pa.array(list(task.owner_Q), pa.string())}
    ids, users, names = (pa.array(list(column), pa.string())
                         for column in (task.queries.ids, task.queries.user_ids, items.ids))
    source = "model" if task.queries.groups is None else "group"
    for name, result in models.items():
        query, place = np.nonzero(result.lists.items_QK >= 0)
        taken = pa.array(query)
        tables.append(pa.table({
            "query_id": ids.take(taken), **{key: column.take(taken) for key, column in owners.items()},
            "user_id": users.take(taken), "rank": place + 1,
            "item_id": names.take(pa.array(result.lists.items_QK[query, place])),
            "score": result.lists.scores_QK[query, place],
            "source": pa.array(np.full(len(query), source), pa.string()), "hit": result.hits_QK[query, place],
            "model": pa.array(np.full(len(query), name), pa.string())}))
    return _parquet(pa.concat_tables(tables))


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def report_content(outcome: Outcome, metrics: dict[str, Any], groups: Mapping[str, Sequence[Entrant]],
                   data: PreparedData, cfg: EvaluateConfig) -> Content:
    """Return all that the report of an evaluation shows; `metrics` is the content of metrics.json."""
    task, cutoff = outcome.task, main_cutoff(cfg.k)
    shown = {name: exposure(one.lists.items_QK[:, :cutoff], len(data.items))[task.candidates_N]
             for name, one in (outcome.models if len(outcome.models) > 1 else outcome.everyone).items()}
    name, entrants = next(iter(groups.items()))
    rivals, fought = _duels(outcome, data, cutoff)
    return Content(name, _facts(entrants, outcome, metrics, data, cfg), metrics, cutoff,
                   task.counts_N[task.candidates_N], shown, training_curves(entrants[0].folder.parent / "log.jsonl"),
                   examples(task, outcome.main.lists, outcome.main.hits_QK, data.items, cutoff), fought, rivals)


def _duels(outcome: Outcome, data: PreparedData, cutoff: int) -> tuple[tuple[str, str], list[Duel]]:
    """Return the names of the first model and the best other one, and the users whose lists differ most."""
    first = next(iter(outcome.models))
    other = next((name for name in outcome.ranking.names if name in outcome.models and name != first), None)
    if other is None:
        return ("", ""), []

    def shown(one: Measured) -> Shown:
        return Shown(one.lists, one.hits_QK, one.values[outcome.ranking.metric])

    found = duels(outcome.task, shown(outcome.models[first]), shown(outcome.models[other]), data.items, cutoff)
    return (first, other), found


def _facts(entrants: Sequence[Entrant], outcome: Outcome, metrics: dict[str, Any], data: PreparedData,
           cfg: EvaluateConfig) -> dict[str, list[tuple[str, str]]]:
    """Return what was trained on what, as labels and values."""
    recommender, task = entrants[0].recommender, outcome.task
    manifest, counts = recommender.manifest, data.manifest["counts"]
    same = data.manifest["fingerprint"] == manifest["data_fingerprint"]
    split, num = data.manifest["split"], int(task.candidates_N.sum())
    ranked = {"all": f"all {num:,} items", "cold": f"{num:,} items without training interactions"}
    seeds = ", ".join("–" if entrant.seed is None else str(entrant.seed) for entrant in entrants)
    synthetic = data.manifest.get("groups", {}).get("synthetic")
    grouped = [("Groups", f"{counts.get('groups', 0):,}{f', synthetic ({synthetic})' if synthetic else ''}")]
    facts = {
        "Data": [("Name", data.manifest["name"]), ("Users", f"{counts['users']:,}"), ("Items", f"{counts['items']:,}"),
                 *(grouped if cfg.audience == "groups" else []),
                 ("Interactions", f"{counts['train']:,} train, {counts['valid']:,} valid, {counts['test']:,} test"),
                 ("Split", ", ".join(f"{key} {value}" for key, value in split.items() if value not in (None, ""))),
                 ("Fingerprint", data.manifest["fingerprint"][:16])],
        "Model": [("Head", manifest["head"]), ("Fitted on", " + ".join(manifest["fitted_on"])),
                  ("Interactions", f"{recommender.history.nnz:,} of {recommender.history.shape[0]:,} users"),
                  ("Encoders", ", ".join(manifest["encoders"]) or "none"),
                  ("Seeds" if entrants[1:] else "Seed", seeds),
                  ("Data", "the same as measured on" if same else f"other: {manifest['data_fingerprint'][:16]}")],
        "Measured": [("On", f"the {cfg.split} split, {task.relevant_QN.nnz:,} interactions"),
                     (cfg.audience.title(), f"{task.num_owners:,} ({task.num_skipped:,} skipped)"),
                     *([] if task.owner_Q is None else [("Rows", f"{len(task.queries):,}, each a list of its own")]),
                     *history_facts(metrics["protocol"]),
                     ("Candidates", ranked.get(outcome.candidates, outcome.candidates)
                      + (f", less what a {cfg.audience[:-1]} has seen" if cfg.exclude_seen else "")),
                     *(("Of the candidates", note.partition(": ")[2]) for note in candidate_notes(metrics["protocol"])),
                     ("Intervals", f"95%, {cfg.num_bootstrap:,} resamples of the {cfg.audience}"),
                     ("Diversity", f"by {outcome.diversity}" if outcome.diversity else "not measured"),
                     ("Baselines", ", ".join(cfg.baselines) or "none")]}
    return {name: [(label, printable(str(value))) for label, value in rows] for name, rows in facts.items()}


def history_content(ranked: Mapping[str, Sequence[Ranked]], groups: Mapping[str, Sequence[Entrant]],
                    cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entries of the protocol of metrics.json about histories.

    history: latest | fit. num_newer_histories: number of users or groups, of the num_queries, that the first model
    knows and whose history has interactions that it was not fitted on. without_fold_in: model -> its parts that score
    known users from learned vectors, where newer interactions change nothing.
    """
    if cfg.cold_users.on:
        return {}
    fixed = {name: group[0].recommender.head.without_fold_in for name, group in groups.items()}
    return {"history": cfg.history, "num_newer_histories": next(iter(ranked.values()))[0].num_newer,
            "without_fold_in": {name: parts for name, parts in fixed.items() if parts}}


def history_facts(protocol: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the row of the report about histories, none where users have no history."""
    if "history" not in protocol:
        return []
    number = protocol["num_newer_histories"]
    said = (f"all interactions before the split; {number:,} of {protocol['num_queries']:,} histories are newer than "
            f"the fit" if protocol["history"] == LATEST else "interactions that the model was fitted on")
    fixed = [f"{name} ({', '.join(parts)})" if parts != [name] else name
             for name, parts in protocol["without_fold_in"].items()]
    by_fit = f"; known users scored from learned vectors: {', '.join(fixed)}" if fixed else ""
    return [("Histories", f"{said}{by_fit}")]
