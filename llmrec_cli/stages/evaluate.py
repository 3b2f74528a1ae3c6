"""A recommender to metrics.json, per_user.parquet, recommendations.parquet and report.html."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.device import choose_device
from llmrec_cli.errors import ConfigError
from llmrec_cli.heads.artifact import Recommender, load_recommender, model_folder
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.metrics.beyond_accuracy import exposure
from llmrec_cli.report.content import Content, examples, main_cutoff, training_curves
from llmrec_cli.report.headline import warnings
from llmrec_cli.report.html import render
from llmrec_cli.report.terminal import headline_table, printable
from llmrec_cli.run_dir import RunDir, write_bytes, write_json
from llmrec_cli.scoring.evaluation import Measured, measure
from llmrec_cli.scoring.heldout import HeldOut, held_out
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.head import HEADS, Recipe
from llmrec_cli.settings.stages import EvaluateConfig

TIES = "score descending, then a salted BLAKE2b hash of the item id"


def run(cfg: EvaluateConfig, run_dir: RunDir) -> None:
    """Load, hold out, measure model and baselines alike, write."""
    context = Context(choose_device(cfg.device), cfg.seed, log=run_dir.log)
    baselines = {name: _baseline(name) for name in cfg.baselines}
    folder = model_folder(cfg.model)
    recommender = load_recommender(folder, context)
    data = read_prepared(cfg.prepared or recommender.manifest["data"]["path"])
    _refuse_trained_on(recommender, data, cfg.split)

    new = _new_items(recommender.items, data.items)
    items = recommender.items.extended(new)
    task = held_out(data, cfg.split, recommender.users, items, recommender.history, cfg.exclude_seen)
    run_dir.log("held_out", split=cfg.split, num_queries=len(task.queries), num_skipped=task.num_skipped,
                num_cold=task.num_cold, new_items=len(new),
                same_data=data.manifest["fingerprint"] == recommender.manifest["data_fingerprint"])
    heads = {recommender.manifest["head"]: recommender.head}
    for name, head in baselines.items():
        head.fit(_fitted_on(recommender), context)
        heads[f"{name} baseline" if name in heads else name] = head
    measured = {name: _measure(head, new, task, items, cfg) for name, head in heads.items()}

    content = metrics_content(measured, task, cfg)
    write_json(run_dir.file("metrics.json"), content)
    model, result = next(iter(measured.items()))
    write_bytes(run_dir.file("per_user.parquet"), _parquet(_per_user(result, task)))
    write_bytes(run_dir.file("recommendations.parquet"), _parquet(_recommendations(result, task, items)))
    cutoff = main_cutoff(cfg.k)
    report = _report(model, measured, content, task, items, cutoff,
                     _facts(recommender, data, cfg, task), folder.parent / "log.jsonl")
    write_bytes(run_dir.file("report.html"), render(report).encode())
    for warning in warnings(content, cutoff):
        run_dir.log("warning", text=warning)
        print(f"warning: {warning}", file=sys.stderr)
    run_dir.finish("evaluate", {"model": str(folder), "data_fingerprint": data.manifest["fingerprint"],
                                "metrics": {"test" if cfg.split == "test" else "valid": _headline(content, cutoff)}})
    print(headline_table(model, content, cutoff))
    print(f"report: {run_dir.file('report.html')}", file=sys.stderr)


def metrics_content(measured: dict[str, Measured], task: HeldOut, cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the content of metrics.json; the first of `measured` is the model, the others its baselines."""
    result, *others = measured.values()
    names = list(measured)[1:]
    slice_queries = {name: int(np.isfinite(next(iter(values.values()))).sum())
                     for name, values in result.slices.items()}
    protocol = {"split": cfg.split, "candidates": "all", "num_candidates": int(task.candidates_N.sum()),
                "exclude_seen": cfg.exclude_seen, "ties": TIES, "num_queries": len(task.queries),
                "num_skipped": task.num_skipped, "num_cold": task.num_cold, "num_bootstrap": cfg.num_bootstrap,
                "slice_queries": slice_queries}
    return {"format": 1, "protocol": protocol, "metrics": result.summary(), "slices": result.slice_summary(),
            "baselines": {name: other.summary() for name, other in zip(names, others, strict=True)},
            "comparisons": {name: result.comparison(other) for name, other in zip(names, others, strict=True)},
            "tie_rate": result.lists.tie_rate}


def _baseline(name: str) -> Head:
    """Return a head to compare with, at its default settings."""
    simple = [n for n, settings in HEADS.items() if n != "fusion" and not settings().uses()]
    if name not in simple:
        raise ConfigError(f"baselines={name}: choose among {', '.join(simple)}{nearest(name, simple)}; another model "
                          f"is compared by evaluating it on its own")
    return build(Recipe(head=HEADS[name]()))


def _refuse_trained_on(recommender: Recommender, data: PreparedData, split: str) -> None:
    fitted_on, refit = recommender.manifest["fitted_on"], recommender.manifest.get("refit")
    if data.manifest["fingerprint"] == recommender.manifest["data_fingerprint"] and split in fitted_on:
        raise ConfigError(f"split={split}: the model was fitted on it (refit={refit}), so it would be measured on what "
                          f"it was taught; train with refit={'train_valid' if split == 'test' else 'none'}, or name "
                          f"newer data with prepared=<folder>")


def _new_items(known: Entities, items: Entities) -> Entities:
    """Return the items of the data that the model has never heard of."""
    rows = np.flatnonzero(known.find(items.ids) < 0)
    return Entities(items.ids[rows], items.titles[rows], items.texts[rows], items.attributes[rows],
                    items.attribute_names)


def _fitted_on(recommender: Recommender) -> TrainingData:
    """Return exactly the interactions that the model was fitted on, for the baselines."""
    history = recommender.history
    user = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    order = np.arange(len(user), dtype=np.int64)
    interactions = Interactions(user, history.indices.astype(np.int64), history.data, order, *history.shape)
    return TrainingData(recommender.users, recommender.items, interactions)


def _measure(head: Head, new: Entities, task: HeldOut, items: Entities, cfg: EvaluateConfig) -> Measured:
    if len(new):
        head.add_items(new)
    return measure(head.score, task, items.attributes, item_hash_ranks(items.ids), sorted(set(cfg.k)),
                   exclude_seen=cfg.exclude_seen, block_size=cfg.block_size, num_resamples=cfg.num_bootstrap,
                   seed=cfg.seed)


def _per_user(result: Measured, task: HeldOut) -> pa.Table:
    return pa.table({"query_id": pa.array(list(task.queries.ids), pa.string()),
                     "num_relevant": np.diff(task.relevant_QN.indptr).astype(np.int64),
                     "history_length": np.diff(task.queries.history.indptr).astype(np.int64),
                     "tied": result.lists.tied_Q, **result.values})


def _recommendations(result: Measured, task: HeldOut, items: Entities) -> pa.Table:
    query, place = np.nonzero(result.lists.items_QK >= 0)
    return pa.table({"query_id": pa.array(list(task.queries.ids[query]), pa.string()),
                     "user_id": pa.array(list(task.queries.user_ids[query]), pa.string()), "rank": place + 1,
                     "item_id": pa.array(list(items.ids[result.lists.items_QK[query, place]]), pa.string()),
                     "score": result.lists.scores_QK[query, place],
                     "source": pa.array(["model"] * len(query), pa.string()), "hit": result.hits_QK[query, place]})


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _headline(content: dict[str, Any], cutoff: int) -> dict[str, float]:
    return {name: content["metrics"][name]["mean"] for name in (f"ndcg@{cutoff}", f"recall@{cutoff}")}


def _report(model: str, measured: dict[str, Measured], content: dict[str, Any], task: HeldOut, items: Entities,
            cutoff: int, facts: dict[str, list[tuple[str, str]]], log: Path) -> Content:
    shown = {name: exposure(result.lists.items_QK[:, :cutoff], len(items))[task.candidates_N]
             for name, result in measured.items()}
    result = measured[model]
    return Content(model, facts, content, cutoff, task.counts_N[task.candidates_N], shown, training_curves(log),
                   examples(task, result.lists, result.hits_QK, items, cutoff))


def _facts(recommender: Recommender, data: PreparedData, cfg: EvaluateConfig,
           task: HeldOut) -> dict[str, list[tuple[str, str]]]:
    """Return what was trained on what, as labels and values."""
    manifest, counts = recommender.manifest, data.manifest["counts"]
    same = data.manifest["fingerprint"] == manifest["data_fingerprint"]
    split = data.manifest["split"]
    facts = {
        "Data": [("Name", data.manifest["name"]), ("Users", f"{counts['users']:,}"), ("Items", f"{counts['items']:,}"),
                 ("Interactions", f"{counts['train']:,} train, {counts['valid']:,} valid, {counts['test']:,} test"),
                 ("Split", ", ".join(f"{key} {value}" for key, value in split.items() if value is not None)),
                 ("Fingerprint", data.manifest["fingerprint"][:16])],
        "Model": [("Head", manifest["head"]), ("Fitted on", " + ".join(manifest["fitted_on"])),
                  ("Interactions", f"{recommender.history.nnz:,} of {recommender.history.shape[0]:,} users"),
                  ("Encoders", ", ".join(manifest["encoders"]) or "none"), ("Seed", str(manifest.get("seed", "–"))),
                  ("Data", "the same as measured on" if same else f"other: {manifest['data_fingerprint'][:16]}")],
        "Measured": [("On", f"the {cfg.split} split, {task.relevant_QN.nnz:,} interactions"),
                     ("Users", f"{len(task.queries):,} ({task.num_skipped:,} skipped)"),
                     ("Candidates", f"all {int(task.candidates_N.sum()):,} items"
                                    + (" less what a user has seen" if cfg.exclude_seen else "")),
                     ("Intervals", f"95%, {cfg.num_bootstrap:,} resamples of the users"),
                     ("Baselines", ", ".join(cfg.baselines) or "none")]}
    return {name: [(label, printable(str(value))) for label, value in rows] for name, rows in facts.items()}
