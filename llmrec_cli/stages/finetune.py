"""finetune: prepared data to a recommender."""

import shutil
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from llmrec_cli import distributed as processes
from llmrec_cli.data.file_rules import file_rules_of
from llmrec_cli.data.prepared import SPLITS, PreparedData, read_prepared, warn_outdated
from llmrec_cli.device import choose_device
from llmrec_cli.errors import ConfigError, DataError, in_time
from llmrec_cli.evaluation.leak_checks import find_validation_leaks, missing_validation_notes
from llmrec_cli.evaluation.query_rows import held_back, validation_rows
from llmrec_cli.heads.artifact import encoders_of, save_recommender
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.cold_items import measure_cold_items
from llmrec_cli.heads.fitting import fit
from llmrec_cli.metrics.significance import mean_interval
from llmrec_cli.pace import WORTH_A_LINE
from llmrec_cli.report.query_rows import query_row_notes
from llmrec_cli.report.terminal import printable
from llmrec_cli.report.validation_values import VALUES, write_values
from llmrec_cli.requests.relevant_rows import QueryRows, read_query_rows
from llmrec_cli.run_dir import PREPARED, RunDir
from llmrec_cli.scoring.heldout import no_groups
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.search import without_search
from llmrec_cli.settings.stages import FinetuneConfig
from llmrec_cli.stages.encoder_fit import encoders_in, warn_foreign_script
from llmrec_cli.stages.missing_content import without_missing_content
from llmrec_cli.stages.resuming import same_inputs
from llmrec_cli.stages.unfit_members import without_unfit_members

_REFITTED_ON = {"train_valid": ("train", "valid"), "all": ("train", "valid", "test")}


def run(cfg: FinetuneConfig, run_dir: RunDir) -> None:
    """Tune if requested, fit on train, select on validation, refit on more data if requested, save."""
    _check_processes(cfg)
    device = choose_device(cfg.device)
    data = read_prepared(cfg.prepared or PREPARED / "latest")
    encoders = encoders_of(cfg.config)
    rows = _validation_rows(cfg, data)
    same_inputs(run_dir, data, encoders, rows, resumed=bool(cfg.resume))
    if rows is not None:
        data = _without_validation(data, rows, cfg)
    num_train = data.counts["train"]
    print(f"data: {data.manifest['name']} in {data.path}, {num_train:,} training interactions of {len(data.users):,} "
          f"users and {len(data.items):,} items", file=sys.stderr)
    warn_outdated(data.manifest, run_dir)
    warn_foreign_script(encoders_in(cfg.config), data, run_dir)
    if num_train == 0:
        raise DataError(f"{data.path}: no training interactions; prepare with smaller split.valid and split.test")
    cfg = replace(cfg, head=without_missing_content(cfg.head, data.training("train"), run_dir.log))
    most = data.training(*_REFITTED_ON.get(cfg.refit, ("train",)))
    cfg = replace(cfg, head=without_unfit_members(cfg.config, most, data.cold_share("valid"), device, run_dir.log))
    audience = cfg.head.default_audience() if cfg.audience == "auto" else cfg.audience
    if audience == "groups" and data.groups("train") is None:
        raise no_groups(data)
    validation = (validation_of(data, cfg.monitor, audience) if rows is None
                  else validation_rows(rows, data, cfg.monitor, cfg.validation.exclude_seen))
    context = Context(device, cfg.seed, validation, run_dir.checkpoints, bool(cfg.resume), run_dir.tensorboard,
                      run_dir.log, cache=cfg.cache_folder)
    started = time.monotonic()

    config, tuning = _tune(cfg, data, context, run_dir)
    began_fit = time.monotonic()
    head = fit(config, data.training("train"), context, quiet=bool(tuning))
    fit_seconds = time.monotonic() - began_fit
    values_Q = None if validation is None else head.validation_values(validation)
    value = None if values_Q is None else float(values_Q.mean())
    run_dir.log("chosen", monitor=cfg.monitor, value=value, seconds=round(time.monotonic() - started, 1))
    checks = _check_validation(config, head, value, data, context)
    cold = _measure_cold_items(head, data, context, run_dir, values_Q) if cfg.measure_cold_items else {}

    fitted_on: tuple[str, ...] = ("train",)
    if cfg.refit != "none" and num_train < sum(data.counts[split] for split in _REFITTED_ON[cfg.refit]):
        fitted_on = _REFITTED_ON[cfg.refit]
        config, learned = head.tuned_config(), head.learned_on_validation()
        # Free the first head before the refit: both at once need twice the memory.
        del head
        if fit_seconds > WORTH_A_LINE:
            print(f"refit={cfg.refit}: fitting again with the chosen settings, on {' and '.join(fitted_on)}; the first "
                  f"fit took {in_time(fit_seconds)}", file=sys.stderr)
        refit = replace(context.inside("refit"), validation=None, learned=learned)
        head = fit(config, data.training(*fitted_on), refit, quiet=True)

    processes.stop_unless_first()
    facts: dict[str, Any] = {"metrics": {"valid": {cfg.monitor: value}}, "seed": cfg.seed, "refit": cfg.refit,
                             "audience": audience} | tuning | checks | cold
    if rows is not None:
        facts["validation"] = {"file": rows.file, "sha256": rows.sha256, **rows.counts}
    save_recommender(run_dir.model, head, data, fitted_on, facts, encoders)
    _save_trained_encoders(head, run_dir)
    result = {} if values_Q is None else {"result": {"metric": cfg.monitor, "split": "valid", "value": value,
                                                     "ci95": mean_interval(values_Q)}}
    run_dir.finish("finetune", {"model": "model", "seconds": round(time.monotonic() - started, 1), **facts, **result})
    # Checkpoints are only for resuming.
    shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
    if value is not None:
        print(f"{cfg.monitor} on validation: {value:.4f}")
    if cold.get("cold_items"):
        print(f"{cfg.monitor} on cold items: {cold['cold_items']['value']:.4f}")


def _measure_cold_items(head: Head, data: PreparedData, context: Context, run_dir: RunDir,
                        values_Q: np.ndarray | None) -> dict[str, Any]:
    """Measure cold items, write the values of each query on all and on cold items, and return facts for the
    manifest."""
    result = measure_cold_items(head, data, context)
    if result is None or context.validation is None or values_Q is None:
        print("warning: measure_cold_items=true: nothing was measured, since there is no validation, or no user with a "
              "history and a cold item", file=sys.stderr)
        return {}
    values = {"all": (context.validation.queries.ids, values_Q), "cold": (result.ids_Q, result.values_Q)}
    write_values(run_dir.file(VALUES), values)
    return {"cold_items": {"value": float(result.values_Q.mean()), "ci95": mean_interval(result.values_Q),
                           "users": len(result.values_Q), "items": result.num_items, "hidden": result.num_hidden}}


def _validation_rows(cfg: FinetuneConfig, data: PreparedData) -> QueryRows | None:
    """Return the rows of the setting `validation`; None without it."""
    if not cfg.validation.queries:
        return None
    rows = read_query_rows(cfg.validation.queries, "validation.queries", data.items, file_rules_of(data.manifest))
    if rows.are_of_groups:
        raise DataError(f"validation.queries={rows.file}: has rows of groups; choose on rows of users, or on the "
                        f"validation split of the groups")
    return rows


def _without_validation(data: PreparedData, rows: QueryRows, cfg: FinetuneConfig) -> PreparedData:
    """Return the data with the interactions that the rows ask for in the validation split; say how many."""
    is_held = held_back(rows, data) & (data.split == SPLITS.index("train"))
    for note in query_row_notes({"queries": rows.counts, "exclude_seen": cfg.validation.exclude_seen}):
        print(printable(f"validation={rows.file}: {note}"), file=sys.stderr)
    print(f"validation: {len(rows):,} rows of {cfg.validation.queries}; while they choose the settings, "
          f"{int(is_held.sum()):,} interactions of their users, from the first relevant item on, are left out of "
          f"training", file=sys.stderr)
    return data.with_valid(is_held)


def _check_validation(config: ModelConfig, head: Head, value: float | None, data: PreparedData,
                      context: Context) -> dict[str, Any]:
    """Print problems of the validation to stderr and return them for the manifest."""
    if context.validation is None or value is None:
        notes = missing_validation_notes(config)
        print("warning: " + "; ".join(notes), file=sys.stderr)
        return {"not_chosen": notes}
    problems = find_validation_leaks(head, value, context.validation, data, context)
    for sentence in problems:
        print(f"warning: possible leak: {sentence}", file=sys.stderr)
    return {"suspicious": problems} if problems else {}


def _save_trained_encoders(head: Head, run_dir: RunDir) -> None:
    """Save the adapter of each trained encoder and, with peft settings that save it, the whole encoder."""
    for name, member in (head.members or {"": head}).items():
        texts = member.item_texts
        if texts is not None and texts.trained:
            texts.save_adapter(run_dir.adapter / name)
            if texts.peft.saves_encoder:
                texts.save_encoder(run_dir.encoder / name)


def _check_processes(cfg: FinetuneConfig) -> None:
    """Raise ConfigError if several processes would all do the same work."""
    if processes.count() == 1:
        return
    if "optim" not in cfg.head.uses():
        raise ConfigError(f"head={cfg.head.kind}: is not trained by gradients, so {processes.count()} processes "
                          f"cannot share the work; start it without torchrun")
    if cfg.tune.is_on:
        raise ConfigError(f"{cfg.tune.setting}: tuning uses one process; start it without torchrun, then "
                          f"train the tuned settings with torchrun")


def _tune(cfg: FinetuneConfig, data: PreparedData, context: Context,
          run_dir: RunDir) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the model config to fit and, after tuning, the facts about it for the manifest."""
    if not cfg.tune.is_on:
        return without_search(cfg.config), {}
    # Only here: most runs tune nothing, and Optuna takes a second to load.
    from llmrec_cli.tuning.results import manifest_entry, summary, write_trials
    from llmrec_cli.tuning.tune import tune, with_best_settings

    tuned = tune(cfg.config, cfg.tune, data.training("train"), context, run_dir.file("tuning.journal"))
    write_trials(run_dir.file("trials.csv"), tuned)
    print(summary(cfg.config, tuned, cfg.monitor))
    return with_best_settings(cfg.config, tuned), {"tuning": manifest_entry(tuned)}
