"""Recommenders to metrics.json, per_user.parquet, recommendations.parquet and report.html."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.atomic_files import write_bytes, write_json
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData, read_prepared, warn_outdated
from llmrec_cli.device import choose_device
from llmrec_cli.distributed import leave_to_first
from llmrec_cli.encoders.tfidf import Words
from llmrec_cli.errors import ConfigError
from llmrec_cli.evaluation.candidates import (
    Protocol,
    cold_items,
    given_candidates,
    is_file,
    num_seen,
    sampled_candidates,
)
from llmrec_cli.evaluation.cold_users import cold_users, cold_users_content
from llmrec_cli.evaluation.knowledge_ablation import knowledge_content
from llmrec_cli.evaluation.leak_checks import named_users, suspicious
from llmrec_cli.evaluation.metric_results import averaged, member_satisfaction, ranking
from llmrec_cli.evaluation.metric_suite import Measures, measure
from llmrec_cli.evaluation.models import (
    Entrant,
    baseline,
    fitted_data,
    grouped,
    load_entrants,
    refuse_taught,
    refuse_trained_on,
)
from llmrec_cli.evaluation.predictions import Ranked, common, gains, rank
from llmrec_cli.evaluation.results import (
    Outcome,
    exposure_of,
    history_content,
    metrics_content,
    per_user,
    recommendations,
    report_content,
)
from llmrec_cli.evaluation.robustness import robustness, robustness_content
from llmrec_cli.evaluation.slices import Masks, Slices, build_slices, values_of
from llmrec_cli.heads.artifact import import_head, model_folder, read_facts
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.memory import CATALOGUE_FACTOR, Watch, model_memory, num_rows
from llmrec_cli.heads.shared.matrix_products import BLOCK_CELLS as NEIGHBOUR_CELLS
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.metrics.lists import Vectors
from llmrec_cli.metrics.table import columns
from llmrec_cli.report.candidates import candidate_notes
from llmrec_cli.report.content import main_cutoff
from llmrec_cli.report.headline import warnings
from llmrec_cli.report.html import render
from llmrec_cli.report.sections import cold_users_lines, knowledge_lines, robustness_lines
from llmrec_cli.report.terminal import headline_table, printable
from llmrec_cli.requests.candidates import read_candidates
from llmrec_cli.run_dir import RunDir
from llmrec_cli.scoring.heldout import HeldOut, audience_of
from llmrec_cli.scoring.memory import history_memory, lists_memory, scoring_memory
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.stages import EvaluateConfig

_REPORT_BYTES = 90 * 2**20
"""Memory for drawing the report's plots: matplotlib and its fonts."""
Entrants = Mapping[str, Sequence[Entrant]]


def run(cfg: EvaluateConfig, run_dir: RunDir) -> None:
    """Load, hold out, measure models and baselines alike, write."""
    refuse_rows_of_test(cfg)
    context = Context(choose_device(cfg.device), cfg.seed, log=run_dir.log, cache=cfg.cache_folder)
    baselines = {name: baseline(name) for name in cfg.baselines}
    for name in cfg.models or [cfg.model]:
        import_head(model_folder(name))
    watch = Watch("evaluate", memory_of(cfg), context.device, run_dir.log)
    groups = grouped(load_entrants(cfg.models or [cfg.model], context))
    first = next(iter(groups.values()))[0]
    data = read_prepared(cfg.prepared or first.recommender.manifest["data"]["path"])
    warn_outdated(data.manifest, run_dir)
    cfg = replace(cfg, audience=chosen_audience(cfg, first), exclude_seen=leaves_out_seen(cfg))
    for entrant in (entrant for group in groups.values() for entrant in group):
        refuse_trained_on(entrant, data, cfg.split)
        if cfg.models:
            refuse_taught(entrant, data, cfg.split)
    groups_of = {name: values_of(data, "item", name, f"exposure={name}") for name in cfg.exposure}

    protocol = protocol_of(cfg, data)
    ranked = rank_all(groups, baselines, data, protocol, cfg, context)
    counts = candidate_counts(protocol, next(iter(ranked.values()))[0].task, cfg)
    cold = cold_users(groups, baselines, ranked, data, protocol, cfg, context) if cfg.cold_users.on else None
    disturbed = robustness(groups, data, protocol, cfg, context) if cfg.robustness.on else None
    plain = Measures(sorted(set(cfg.k)), Slices({}, {}), None, cfg.propensity, cfg.num_bootstrap, cfg.seed)
    chosen_on = replace(cfg, split="valid")
    learned = (knowledge_content(groups, data, protocol_of(chosen_on, data), plain, chosen_on, context)
               if cfg.knowledge.on else None)
    leave_to_first()
    outcome = measure_all(ranked, groups, data, replace(protocol, counts=counts), cfg, groups_of)

    synthetic = str(data.manifest.get("groups", {}).get("synthetic", ""))
    content, cutoff = metrics_content(outcome, cfg, synthetic, data.manifest.get("ties", {})), main_cutoff(cfg.k)
    content["protocol"] |= history_content(ranked, groups, cfg) | delisted_content(outcome, data)
    if disturbed is not None:
        content["robustness"] = robustness_content(disturbed, groups, data, plain, cfg)
    if learned is not None:
        content["knowledge"] = learned
    if cold is not None:
        content["cold_users"] = cold_users_content(cold, groups, cfg)
    write_json(run_dir.file("metrics.json"), content)
    write_bytes(run_dir.file("per_user.parquet"), per_user(outcome.models, outcome.task, data.items))
    write_bytes(run_dir.file("recommendations.parquet"), recommendations(outcome.models, outcome.task, data.items))
    write_bytes(run_dir.file("report.html"), render(report_content(outcome, content, groups, data, cfg)).encode())
    for note in candidate_notes(content["protocol"]):
        print(printable(note), file=sys.stderr)
    for warning in warnings(content, cutoff):
        run_dir.log("warning", text=warning)
        print(f"warning: {printable(warning)}", file=sys.stderr)
    headline = {name: content["metrics"][name]["mean"] for name in columns("summary", cutoff)}
    watch.done()
    if gone := content["protocol"].get("num_delisted"):
        print(f"{gone:,} of the {outcome.task.relevant_QN.nnz:,} held-out interactions are with items that the "
              f"catalogue no longer has; `recommend` leaves these items out", file=sys.stderr)
    run_dir.finish("evaluate", {"model": str(first.folder), "data_fingerprint": data.manifest["fingerprint"],
                                "metrics": {"test" if cfg.split == "test" else "valid": headline}})
    print(headline_table(next(iter(groups)), content, cutoff))
    if cold is not None:
        print(cold_users_lines(content["cold_users"], cutoff))
    if disturbed is not None:
        print(robustness_lines(content["robustness"], cutoff))
    if learned is not None:
        print(knowledge_lines(learned, cutoff))
    print(f"report: {run_dir.file('report.html')}", file=sys.stderr)


def memory_of(cfg: EvaluateConfig) -> int:
    """Return the bytes that evaluating takes at its peak: models, data, blocks of scores, lists and the report."""
    folders = [model_folder(name) for name in cfg.models or [cfg.model]]
    path = Path(cfg.prepared or (read_facts(folders[0]).get("data") or {}).get("path") or "")
    asked, items, interactions = (num_rows(path / f"{name}.parquet") for name in ("users", "items", "interactions"))
    models = sum(model_memory(folder) for folder in folders)
    tables = sum(file.stat().st_size for file in path.glob("*s.parquet"))
    together = len(folders) + len(cfg.baselines)
    knn = 16 * min(NEIGHBOUR_CELLS, items**2) if any("knn" in name for name in cfg.baselines) else 0
    # Interactions once as the data has them, and as the histories of each model.
    histories = (1 + len(folders)) * history_memory(interactions)
    return (models + CATALOGUE_FACTOR * tables + histories + knn
            + scoring_memory(asked, items, cfg.block_size) + together * lists_memory(asked, max(cfg.k)) + _REPORT_BYTES)


def delisted_content(outcome: Outcome, data: PreparedData) -> dict[str, int]:
    """Return num_delisted of the protocol: what was to be found of items that the catalogue no longer has."""
    if data.listed is None:
        return {}
    return {"num_delisted": int((~data.listed[outcome.task.relevant_QN.indices]).sum())}


def chosen_audience(cfg: EvaluateConfig, first: Entrant) -> str:
    """Return users or groups: whom the setting `audience` says, or the (first) model was chosen for."""
    return str(first.recommender.manifest.get("audience", "users")) if cfg.audience == "auto" else cfg.audience


def leaves_out_seen(cfg: EvaluateConfig) -> bool:
    """Return whether lists leave out what was seen: unless told, always but where a file says what is ranked."""
    if cfg.exclude_seen is not None:
        return cfg.exclude_seen
    return cfg.cold_users.on or not is_file(cfg.candidates)


def candidate_counts(protocol: Protocol, task: HeldOut, cfg: EvaluateConfig) -> dict[str, int | str]:
    """Return what a file of candidates has, with how many of them the queries had seen, as the (first) model saw it."""
    if not is_file(cfg.candidates):
        return protocol.counts
    seen, held_out = num_seen(task)
    return {**protocol.counts, "seen": seen, "seen_left_out": seen if cfg.exclude_seen else 0,
            "seen_held_out": held_out}


def protocol_of(cfg: EvaluateConfig, data: PreparedData) -> Protocol:
    """Return what the setting `candidates` says is ranked."""
    if cfg.candidates == "all":
        return Protocol()
    if cfg.candidates == "cold":
        return cold_items(data, cfg.split)
    if cfg.candidates.startswith("sampled:"):
        return sampled_candidates(audience_of(data, cfg.audience, cfg.split),
                                  int(cfg.candidates.partition(":")[2]), cfg.seed)
    refuse_missing_file(cfg)
    whom = audience_of(data, cfg.audience, cfg.split)
    return given_candidates(data, whom, read_candidates(cfg.candidates, (f"{whom.kind}_id", "query_id")),
                            cfg.candidates)


def refuse_missing_file(cfg: EvaluateConfig) -> None:
    """Raise ConfigError if there is no file of the name that the setting `candidates` gives."""
    if not Path(cfg.candidates).exists() and not glob(cfg.candidates):
        raise ConfigError(f"candidates={cfg.candidates}: no such file, and none of all, cold and sampled:<n>"
                          f"{nearest(cfg.candidates, ('all', 'cold', 'sampled:99'))}")


def refuse_rows_of_test(cfg: EvaluateConfig) -> None:
    """Raise ConfigError if knowledge=true would measure on validation with lists that are about test interactions.

    The file is read before anything is loaded, so that nobody waits for an error.
    """
    if not cfg.knowledge.on or cfg.split == "valid" or not is_file(cfg.candidates):
        return
    refuse_missing_file(cfg)
    if read_candidates(cfg.candidates).by_row:
        raise ConfigError(f"candidates={cfg.candidates}: cannot be combined with knowledge=true, because each row of "
                          f"the file is about one interaction of split={cfg.split}, and knowledge=true measures on "
                          f"validation; leave out one of the two")


def rank_all(groups: Entrants, baselines: Mapping[str, Head], data: PreparedData, protocol: Protocol,
             cfg: EvaluateConfig, context: Context) -> dict[str, list[Ranked]]:
    """Return what all said of the same queries, by name, one entry per seed."""
    flat: dict[str, Ranked] = {}
    for name, group in groups.items():
        for n, entrant in enumerate(group):
            known = entrant.recommender
            flat[f"{n}\n{name}"] = rank(known, data, protocol, cfg, f"candidates={cfg.candidates}")
            cut = CutHistories(known.head.history_limit)
            cut.add_queries(flat[f"{n}\n{name}"].task.queries)
            if n == 0 and (sentence := cut.sentence(known.head.config.head.kind)):
                print(printable(f"{name}: {sentence}"), file=sys.stderr)
    first = next(iter(groups.values()))[0].recommender
    for name, head in baselines.items():
        head.fit(fitted_data(first), context)
        label = f"{name} baseline" if name in groups else name
        flat[f"0\n{label}"] = rank(replace(first, head=head), data, protocol, cfg,
                                   f"candidates={cfg.candidates}")
    found: dict[str, list[Ranked]] = {}
    for key, one in common(flat).items():
        found.setdefault(key.partition("\n")[2], []).append(one)
    task = next(iter(found.values()))[0].task
    context.log("held_out", split=cfg.split, num_queries=len(task.queries), num_skipped=task.num_skipped,
                num_cold=task.num_cold, models=len(groups), candidates=protocol.label)
    return found


def measure_all(ranked: Mapping[str, Sequence[Ranked]], groups: Entrants, data: PreparedData, protocol: Protocol,
                cfg: EvaluateConfig, groups_of: Mapping[str, Masks]) -> Outcome:
    """Return all metrics of all, by the same measures."""
    cutoffs, cutoff = sorted(set(cfg.k)), main_cutoff(cfg.k)
    task = next(iter(ranked.values()))[0].task
    whom = audience_of(data, cfg.audience, cfg.split)
    query_Q = whom.entities.find(task.owners)
    vectors, diversity = item_vectors(ranked, data.items)
    how = Measures(cutoffs, build_slices(cfg.slices, data, whom, query_Q, task.counts_N, task.lengths_Q),
                   vectors, cfg.propensity, cfg.num_bootstrap, cfg.seed,
                   gains(task, whom.held, query_Q) if cfg.graded else None, cfg.ties == "expected")
    measured = {name: averaged([measure(one.lists, one.task, how, one.predicted, members_of(one, data, query_Q, cfg))
                                for one in entries])
                for name, entries in ranked.items()}
    models = {name: measured[name] for name in groups}
    baselines = {name: one for name, one in measured.items() if name not in groups}
    num_candidates = 0 if protocol.sampled else int(task.candidates_N.sum())
    traces = {name: suspicious(one, baselines, task, cutoff, validated(groups[name], protocol, cfg), num_candidates)
              for name, one in models.items()}
    named = named_users(data.items, task)
    first = next(iter(models))
    traces[first] += [named] if named else []
    return Outcome(models, baselines, task, ranking(measured, f"ndcg@{cutoff}"), protocol.label, protocol.counts,
                   diversity, traces, exposure_of(models[first], task, groups_of, cutoff))


def members_of(one: Ranked, data: PreparedData, group_Q: np.ndarray, cfg: EvaluateConfig) -> dict[str, np.ndarray]:
    """Return what the lists of groups are worth to their members by themselves; nothing where users are asked for."""
    groups = data.groups(cfg.split) if cfg.audience == "groups" else None
    if groups is None:
        return {}
    found = member_satisfaction(one.lists.items_QK, groups.members[group_Q], data.part(cfg.split).matrix,
                                sorted(set(cfg.k)))
    return {name: values for name, values in found.items() if not np.isnan(values).all()}


def item_vectors(ranked: Mapping[str, Sequence[Ranked]], items: Catalogue) -> tuple[Vectors | None, str | None]:
    """Return what items are like, to tell how varied lists are, and what that was taken from; the same for all."""
    for name, entries in ranked.items():
        if entries[0].vectors_MD is not None:
            return entries[0].vectors_MD, f"text vectors of {name}"
    if any(items.texts):
        words = Words()
        words.fit(items.texts)
        return words.matrix(items.texts), "TF-IDF of the words in item texts"
    return (items.attributes, "item attributes") if items.attributes.nnz else (None, None)


def validated(group: Sequence[Entrant], protocol: Protocol, cfg: EvaluateConfig) -> dict[str, float]:
    """Return the validation metrics that a model was chosen by, averaged over seeds.

    None where others are asked for than validation asked, or where only some items are ranked, of which more is found.
    """
    if protocol.label != "all" or cfg.cold_users.on or any(
            e.recommender.manifest.get("audience", "users") != cfg.audience for e in group):
        return {}
    found: list[dict[str, Any]] = [e.recommender.manifest.get("metrics", {}).get("valid", {}) for e in group]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]
            if all(one.get(name) is not None for one in found)}
