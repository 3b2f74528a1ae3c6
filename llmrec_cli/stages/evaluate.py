"""evaluate: recommenders to metrics.json, per_user.parquet, recommendations.parquet and report.html."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.atomic_files import write_bytes, write_json
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData, read_prepared, warn_outdated
from llmrec_cli.device import choose_device
from llmrec_cli.distributed import stop_unless_first
from llmrec_cli.encoders.tfidf import Words
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.cold_users import cold_users, cold_users_content
from llmrec_cli.evaluation.knowledge_ablation import knowledge_content
from llmrec_cli.evaluation.leak_checks import check_named_users, check_rows, find_leaks
from llmrec_cli.evaluation.metric_results import average_seeds, member_satisfaction, rank_recommenders
from llmrec_cli.evaluation.metric_suite import Measures, measure
from llmrec_cli.evaluation.models import (
    LoadedModel,
    baseline_label,
    build_baseline,
    find_model,
    fitted_data,
    group_by_seed,
    load_models,
    refuse_fitted_on_held_out,
    refuse_fitted_on_split,
)
from llmrec_cli.evaluation.predictions import RankedLists, common, gains, rank
from llmrec_cli.evaluation.protocol import (
    build_protocol,
    candidate_counts,
    owners_of_queries,
    read_rows,
    refuse_other_split,
    refuse_test_rows_for_knowledge,
    resolve_audience,
    resolve_exclude_seen,
)
from llmrec_cli.evaluation.results import (
    EvaluationResults,
    about_model,
    best_model,
    history_content,
    main_metric,
    metrics_content,
    per_user,
    put_first,
    recommendations,
    report_content,
    rows_content,
)
from llmrec_cli.evaluation.robustness import rank_perturbed, robustness_content
from llmrec_cli.evaluation.slices import Masks, Slices, build_slices, values_of
from llmrec_cli.heads.artifact import import_head, model_folder, read_facts
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.memory import CATALOGUE_FACTOR, Watch, model_memory, num_rows
from llmrec_cli.heads.shared.matrix_products import BLOCK_CELLS as NEIGHBOUR_CELLS
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.metrics.lists import Vectors
from llmrec_cli.metrics.table import columns
from llmrec_cli.pace import still_working, timed_parts
from llmrec_cli.report.candidates import candidate_lines
from llmrec_cli.report.content import main_cutoff
from llmrec_cli.report.headline import headline, warnings
from llmrec_cli.report.html import render
from llmrec_cli.report.query_rows import query_row_lines
from llmrec_cli.report.sections import cold_users_lines, knowledge_lines, robustness_lines
from llmrec_cli.report.terminal import headline_table, printable
from llmrec_cli.requests.relevant_rows import QueryRows, num_lines
from llmrec_cli.run_dir import RunDir
from llmrec_cli.scoring.memory import history_memory, lists_memory, scoring_memory
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.protocols import PROTOCOLS

_REPORT_BYTES = 90 * 2**20
"""Memory for drawing the report's plots: matplotlib and its fonts."""
Models = Mapping[str, Sequence[LoadedModel]]
"""Name of a model -> its runs, which differ only in their seed."""


def run(cfg: EvaluateConfig, run_dir: RunDir) -> None:
    """Load models and data, rank and measure models and baselines, write the results."""
    cfg = cfg.with_protocol()
    refuse_test_rows_for_knowledge(cfg)
    context = Context(choose_device(cfg.device), cfg.seed, log=run_dir.log, cache=cfg.cache_folder)
    baselines = {name: build_baseline(name) for name in cfg.baselines}
    for name in cfg.models or [cfg.model]:
        import_head(model_folder(name))
    watch = Watch("evaluate", memory_of(cfg), context.device, run_dir.log)
    folder = model_folder((cfg.models or [cfg.model])[0])
    data = read_prepared(cfg.prepared or read_facts(folder)["data"]["path"])
    warn_outdated(data.manifest, run_dir)
    refuse_other_split(cfg, data)
    if max(cfg.k) > len(data.items):
        print(f"note: k={max(cfg.k)} is above the number of items, {len(data.items):,}: the whole catalogue is on such "
              f"a list", file=sys.stderr)
    rows = read_rows(cfg, data)
    # After the files, whose mistakes are then named in a second.
    models = group_by_seed(load_models(cfg.models or [cfg.model], context))
    about = find_model(cfg.about, models, cfg.models) if cfg.about else ""
    for model in (model for seed_runs in models.values() for model in seed_runs if rows is None):
        refuse_fitted_on_split(model, data, cfg.split)
        if cfg.models:
            refuse_fitted_on_held_out(model, data, cfg.split)
    compare(cfg, run_dir, models, baselines, data, rows, context, about)
    watch.done()


def compare(cfg: EvaluateConfig, run_dir: RunDir, models: Models, baselines: Mapping[str, Head], data: PreparedData,
            rows: QueryRows | None, context: Context, about: str = "") -> EvaluationResults:
    """Rank and measure loaded models and baselines on the same queries, write the results, and return them.

    `rows` are those of the setting `queries`; `about` is the model of the report, the best one if it is empty.
    """
    first = next(iter(models.values()))[0]
    cfg = replace(cfg, audience=resolve_audience(cfg, first, rows), exclude_seen=resolve_exclude_seen(cfg))
    groups_of = {name: values_of(data, "item", name, f"exposure={name}") for name in cfg.exposure}

    protocol = build_protocol(cfg, data, rows)
    run_dir.log("ranking", models=list(models), data=data.manifest["name"])
    ranked = rank_all(models, baselines, data, protocol, cfg, context)
    baselines = {name: head for name, head in baselines.items() if baseline_label(name, models) in ranked}
    counts = candidate_counts(protocol, next(iter(ranked.values()))[0].task, cfg)
    cold = cold_users(models, baselines, ranked, data, protocol, cfg, context) if cfg.cold_users.on else None
    perturbed = rank_perturbed(models, data, protocol, cfg, context) if cfg.robustness.on else None
    measures = Measures(sorted(set(cfg.k)), Slices({}, {}), None, cfg.propensity, cfg.num_bootstrap, cfg.seed)
    valid_cfg = replace(cfg, split="valid")
    knowledge = (knowledge_content(models, data, build_protocol(valid_cfg, data), measures, valid_cfg, context)
                 if cfg.knowledge.on else None)
    stop_unless_first()
    results = measure_all(ranked, models, data, replace(protocol, counts=counts), cfg, groups_of)

    synthetic = str(data.manifest.get("groups", {}).get("synthetic", ""))
    content, cutoff = metrics_content(results, cfg, synthetic, data.manifest.get("ties", {})), main_cutoff(cfg.k)
    content["protocol"] |= (history_content(ranked, models, cfg) | delisted_content(results, data)
                            | rows_content(protocol.rows, ranked))
    if perturbed is not None:
        content["robustness"] = robustness_content(perturbed, models, data, measures, cfg)
    if knowledge is not None:
        content["knowledge"] = knowledge
    if cold is not None:
        content["cold_users"] = cold_users_content(cold, models, cfg)
    write_json(run_dir.file("metrics.json"), content)
    write_bytes(run_dir.file("per_user.parquet"), per_user(results.models, results.task, data.items))
    write_bytes(run_dir.file("recommendations.parquet"), recommendations(results.models, results.task, data.items))
    about = about or best_model(results)
    shown = about_model(content, results, about, cfg)
    report = report_content(put_first(results, about), shown, models, data, cfg)
    page = render(report, cfg.language)
    write_bytes(run_dir.file("report.html"), page.encode())
    for note in [*candidate_lines(content["protocol"]), *query_row_lines(content["protocol"])]:
        print(printable(note), file=sys.stderr)
    for warning in warnings(shown, cutoff):
        run_dir.log("warning", text=warning)
        print(f"warning: {printable(warning)}", file=sys.stderr)
    measured = {name: content["metrics"][name]["mean"] for name in columns("summary", cutoff)}
    if num_delisted := content["protocol"].get("num_delisted"):
        print(f"{num_delisted:,} of the {results.task.relevant_QN.nnz:,} held-out interactions are with items that are "
              f"not in the item file (removed, or not yet listed), which `recommend` leaves out", file=sys.stderr)
    folders = [str(model.folder.resolve()) for seed_runs in models.values() for model in seed_runs]
    run_dir.finish("evaluate", {"model": str(first.folder), "models": folders,
                                "data_fingerprint": data.manifest["fingerprint"],
                                "metrics": {cfg.split: measured}, "result": run_result(content, cfg)})
    if cfg.protocol:
        print(f"protocol={cfg.protocol}: {PROTOCOLS[cfg.protocol].title}")
    print(headline_table(about, shown, cutoff))
    print(printable(str(headline(report).title)))
    if cold is not None:
        print(cold_users_lines(content["cold_users"], cutoff))
    if perturbed is not None:
        print(robustness_lines(content["robustness"], cutoff))
    if knowledge is not None:
        print(knowledge_lines(knowledge, cutoff))
    print(f"report: {run_dir.file('report.html')}", file=sys.stderr)
    return results


def run_result(content: dict[str, Any], cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the result for the list of runs: the main metric of the first model."""
    metric = f"ndcg@{main_cutoff(cfg.k)}"
    measured = content["metrics"][metric]
    return {"metric": metric, "split": cfg.split, "value": measured["mean"], "ci95": measured.get("ci95")}


def memory_of(cfg: EvaluateConfig) -> int:
    """Return the peak memory of an evaluation in bytes: models, data, blocks of scores, lists and the report."""
    folders = [model_folder(name) for name in cfg.models or [cfg.model]]
    path = Path(cfg.prepared or (read_facts(folders[0]).get("data") or {}).get("path") or "")
    users, items, interactions = (num_rows(path / f"{name}.parquet") for name in ("users", "items", "interactions"))
    models = sum(model_memory(folder) for folder in folders)
    tables = sum(file.stat().st_size for file in path.glob("*s.parquet"))
    together = len(folders) + len(cfg.baselines)
    users = max(users, num_lines(cfg.queries)) if cfg.queries else users
    knn = 16 * min(NEIGHBOUR_CELLS, items**2) if any("knn" in name for name in cfg.baselines) else 0
    # Interactions are held once for the data, and once per model as histories.
    histories = (1 + len(folders)) * history_memory(interactions)
    return (models + CATALOGUE_FACTOR * tables + histories + knn
            + scoring_memory(users, items, cfg.block_size) + together * lists_memory(users, max(cfg.k)) + _REPORT_BYTES)


def delisted_content(results: EvaluationResults, data: PreparedData) -> dict[str, int]:
    """Return the protocol entry num_delisted: number of held-out interactions with items no longer in the catalogue."""
    if data.listed is None:
        return {}
    return {"num_delisted": int((~data.listed[results.task.relevant_QN.indices]).sum())}


def rank_all(models: Models, baselines: Mapping[str, Head], data: PreparedData, protocol: Protocol,
             cfg: EvaluateConfig, context: Context) -> dict[str, list[RankedLists]]:
    """Rank the same queries with all models and baselines; return the lists by name, one entry per seed."""
    flat: dict[str, RankedLists] = {}
    for name, seed_runs in timed_parts("ranked", "models", list(models.items()), quiet=True):
        for n, model in enumerate(seed_runs):
            recommender = model.recommender
            flat[f"{n}\n{name}"] = rank(recommender, data, protocol, cfg, f"candidates={cfg.candidates}")
            cut = CutHistories(recommender.head.history_limit)
            cut.add_queries(flat[f"{n}\n{name}"].task.queries)
            if n == 0 and (sentence := cut.sentence(recommender.head.config.head.kind)):
                print(printable(f"{name}: {sentence}"), file=sys.stderr)
            config = recommender.head.config
            for note in (config.note_on_seen_items(bool(cfg.exclude_seen)),
                         config.note_on_untimed(flat[f"{n}\n{name}"].task.queries.num_untimed)):
                if n == 0 and note:
                    print(printable(f"{name}: {note}"), file=sys.stderr)
    first = next(iter(models.values()))[0].recommender
    for name, head in timed_parts("ranked", "baselines", list(baselines.items()), quiet=True):
        head.fit(fitted_data(first), context)
        flat[f"0\n{baseline_label(name, models)}"] = rank(replace(first, head=head), data, protocol, cfg,
                                                          f"candidates={cfg.candidates}")
    ranked: dict[str, list[RankedLists]] = {}
    for key, one in common(flat).items():
        ranked.setdefault(key.partition("\n")[2], []).append(one)
    drop_repeated_baselines(ranked, models, baselines)
    task = next(iter(ranked.values()))[0].task
    context.log("held_out", split=cfg.split, num_queries=len(task.queries), num_skipped=task.num_skipped,
                num_cold=task.num_cold, models=len(models), candidates=protocol.label)
    return ranked


def drop_repeated_baselines(ranked: dict[str, list[RankedLists]], models: Models, baselines: Collection[str]) -> None:
    """Drop baselines that are one of the models: the same head with the same lists. Each is named on stderr.

    Models with the same lists, such as a fusion that uses one member and that member, are named too.
    """
    def alike(a: str, b: str) -> bool:
        return np.array_equal(ranked[a][0].lists.items_QK, ranked[b][0].lists.items_QK)

    for a, b in combinations(models, 2):
        if alike(a, b):
            print(printable(f"note: {a} and {b} make the same lists, so every difference between them is 0"),
                  file=sys.stderr)
    for name in baselines:
        label = baseline_label(name, models)
        same = next((model for model, seed_runs in models.items() if seed_runs[0].head == name and alike(model, label)),
                    None)
        if same is not None:
            del ranked[label]
            print(printable(f"baseline {name} is left out: the model {same} is the same recommender"), file=sys.stderr)


@still_working("computing metrics")
def measure_all(ranked: Mapping[str, Sequence[RankedLists]], model_runs: Models, data: PreparedData, protocol: Protocol,
                cfg: EvaluateConfig, groups_of: Mapping[str, Masks]) -> EvaluationResults:
    """Compute all metrics of all models and baselines with the same settings."""
    cutoffs, cutoff = sorted(set(cfg.k)), main_cutoff(cfg.k)
    task = next(iter(ranked.values()))[0].task
    audience = owners_of_queries(cfg, data, protocol)
    query_Q = audience.entities.find(task.owners)
    vectors, diversity = item_vectors(ranked, data.items)
    measures = Measures(cutoffs, build_slices(cfg.slices, data, audience, query_Q, task.counts_N, task.lengths_Q),
                        vectors, cfg.propensity, cfg.num_bootstrap, cfg.seed,
                        gains(task, audience.held, query_Q) if cfg.graded else None, cfg.ties == "expected")
    metrics_of = {name: average_seeds([measure(one.lists, one.task, measures, one.prediction_errors,
                                               {} if protocol.rows else member_metrics(one, data, query_Q, cfg))
                                       for one in seed_runs])
                  for name, seed_runs in ranked.items()}
    models = {name: metrics_of[name] for name in model_runs}
    baselines = {name: one for name, one in metrics_of.items() if name not in model_runs}
    num_candidates = 0 if protocol.sampled else int(task.candidates_N.sum())
    problems = {name: find_leaks(one, baselines, task, cutoff, validation_metrics(model_runs[name], protocol, cfg),
                                 num_candidates)
                for name, one in models.items()}
    for name, sentences in problems.items():
        sentences += check_rows(protocol.rows, model_runs[name][0].recommender.manifest, ranked[name][0].num_fitted,
                                task.relevant_QN.nnz)
    leak_in_texts = check_named_users(data.items, task)
    first = next(iter(models))
    problems[first] += [leak_in_texts] if leak_in_texts else []
    ranking = rank_recommenders(metrics_of, main_metric(model_runs, metrics_of, cutoff))
    return EvaluationResults(models, baselines, task, ranking, protocol.label, protocol.counts, diversity, problems,
                             groups_of)


def member_metrics(one: RankedLists, data: PreparedData, group_Q: np.ndarray,
                   cfg: EvaluateConfig) -> dict[str, np.ndarray]:
    """Return the metrics of the groups' members for the groups' lists; none with audience=users."""
    groups = data.groups(cfg.split) if cfg.audience == "groups" else None
    if groups is None:
        return {}
    metrics = member_satisfaction(one.lists.items_QK, groups.members[group_Q], data.part(cfg.split).matrix,
                                  sorted(set(cfg.k)))
    return {name: values for name, values in metrics.items() if not np.isnan(values).all()}


def item_vectors(ranked: Mapping[str, Sequence[RankedLists]], items: Catalogue) -> tuple[Vectors | None, Phrase | None]:
    """Return item vectors for the diversity of lists, the same for all models, and a label of their source."""
    for name, seed_runs in ranked.items():
        if seed_runs[0].vectors_MD is not None:
            return seed_runs[0].vectors_MD, Phrase("text vectors of {model}", model=name)
    if any(items.texts):
        words = Words()
        words.fit(items.texts)
        return words.matrix(items.texts), Phrase("TF-IDF of the words in item texts")
    return (items.attributes, Phrase("item attributes")) if items.attributes.nnz else (None, None)


def validation_metrics(seed_runs: Sequence[LoadedModel], protocol: Protocol, cfg: EvaluateConfig) -> dict[str, float]:
    """Return the validation metrics used for model selection, averaged over seeds.

    Empty if they cannot be compared with the test metrics: another audience, cold-start users, rows of a file, or fewer
    candidates.
    """
    if protocol.label != "all" or protocol.rows is not None or cfg.cold_users.on or any(
            e.recommender.manifest.get("audience", "users") != cfg.audience for e in seed_runs):
        return {}
    metrics: list[dict[str, Any]] = [e.recommender.manifest.get("metrics", {}).get("valid", {}) for e in seed_runs]
    return {name: float(np.mean([one[name] for one in metrics])) for name in metrics[0]
            if all(one.get(name) is not None for one in metrics)}
