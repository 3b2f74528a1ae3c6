"""Prepared data to a recommender."""

import shutil
import sys
import time
from dataclasses import replace
from typing import Any

from llmrec_cli import distributed as processes
from llmrec_cli.data.prepared import PreparedData, read_prepared, warn_outdated
from llmrec_cli.device import choose_device
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.evaluation.leak_checks import suspicious_validation, without_validation
from llmrec_cli.heads.artifact import encoders_of, save_recommender
from llmrec_cli.heads.base import Context, Head
from llmrec_cli.heads.fitting import fit
from llmrec_cli.run_dir import PREPARED, RunDir
from llmrec_cli.scoring.heldout import no_groups
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.search import without_search
from llmrec_cli.settings.stages import FinetuneConfig
from llmrec_cli.stages.resuming import same_inputs

_REFITTED_ON = {"train_valid": ("train", "valid"), "all": ("train", "valid", "test")}


def run(cfg: FinetuneConfig, run_dir: RunDir) -> None:
    """Tune if asked to, fit on train, choose on validation, fit the choice again on more, save."""
    _check_processes(cfg)
    device = choose_device(cfg.device)
    data = read_prepared(cfg.prepared or PREPARED / "latest")
    encoders = encoders_of(cfg.config)
    same_inputs(run_dir, data, encoders, resumed=bool(cfg.resume))
    warn_outdated(data.manifest, run_dir)
    if data.manifest["counts"]["train"] == 0:
        raise DataError(f"{data.path}: no training interactions; prepare with smaller split.valid and split.test")
    audience = cfg.head.default_audience() if cfg.audience == "auto" else cfg.audience
    if audience == "groups" and data.groups("train") is None:
        raise no_groups(data)
    validation = validation_of(data, cfg.monitor, audience)
    context = Context(device, cfg.seed, validation, run_dir.checkpoints, bool(cfg.resume), run_dir.tensorboard,
                      run_dir.log, cache=cfg.cache_folder)
    started = time.monotonic()

    config, tuning = _tuned(cfg, data, context, run_dir)
    head = fit(config, data.training("train"), context, quiet=bool(tuning))
    value = None if validation is None else validation(head.score)
    run_dir.log("chosen", monitor=cfg.monitor, value=value, seconds=round(time.monotonic() - started, 1))
    checks = _checked(config, head, value, data, context)

    fitted_on: tuple[str, ...] = ("train",)
    if cfg.refit != "none" and data.manifest["counts"]["train"] < _count(data, _REFITTED_ON[cfg.refit]):
        fitted_on = _REFITTED_ON[cfg.refit]
        config = head.tuned_config()
        # The head that was chosen goes before the one that is published comes: both at once take twice the memory.
        del head
        head = fit(config, data.training(*fitted_on), replace(context.inside("refit"), validation=None),
                   quiet=True)

    processes.leave_to_first()
    facts: dict[str, Any] = {"metrics": {"valid": {cfg.monitor: value}}, "seed": cfg.seed, "refit": cfg.refit,
                             "audience": audience} | tuning | checks
    save_recommender(run_dir.model, head, data, fitted_on, facts, encoders)
    _save_trained_encoders(head, run_dir)
    run_dir.finish("finetune", {"model": "model", "seconds": round(time.monotonic() - started, 1), **facts})
    # What was for going on after an interruption is of no use after the end.
    shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
    if value is not None:
        print(f"{cfg.monitor} on validation: {value:.4f}")


def _checked(config: ModelConfig, head: Head, value: float | None, data: PreparedData,
             context: Context) -> dict[str, Any]:
    """Say on stderr what is wrong with the validation, and return it for the manifest."""
    if context.validation is None or value is None:
        said = without_validation(config)
        print("warning: " + "; ".join(said), file=sys.stderr)
        return {"not_chosen": said}
    found = suspicious_validation(head, value, context.validation, data, context)
    for sentence in found:
        print(f"warning: suspicious: {sentence}", file=sys.stderr)
    return {"suspicious": found} if found else {}


def _save_trained_encoders(head: Head, run_dir: RunDir) -> None:
    """Write what was trained of each encoder on its own, and where asked the encoder with it."""
    for name, member in (head.members or {"": head}).items():
        texts = member.item_texts
        if texts is not None and texts.trained:
            texts.save_adapter(run_dir.adapter / name)
            if texts.peft.saves_encoder:
                texts.save_encoder(run_dir.encoder / name)


def _check_processes(cfg: FinetuneConfig) -> None:
    """Raise ConfigError where several processes would each do the same."""
    if processes.count() == 1:
        return
    if "optim" not in cfg.head.uses():
        raise ConfigError(f"head={cfg.head.kind}: is not trained by gradients, so {processes.count()} processes have "
                          f"nothing to share; start it without torchrun")
    if cfg.tune.trials > 0:
        raise ConfigError(f"tune.trials={cfg.tune.trials}: one process tunes; start it without torchrun, then train "
                          f"what it chose in several")


def _tuned(cfg: FinetuneConfig, data: PreparedData, context: Context,
           run_dir: RunDir) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the model config to fit, and what the manifest says of how it was found."""
    if cfg.tune.trials == 0:
        return without_search(cfg.config), {}
    # Only here: most runs tune nothing, and Optuna takes a second to load.
    from llmrec_cli.tuning.results import manifest_entry, summary, write_trials
    from llmrec_cli.tuning.tune import tune, with_best_settings

    tuned = tune(cfg.config, cfg.tune, data.training("train"), context, run_dir.file("tuning.journal"))
    write_trials(run_dir.file("trials.csv"), tuned)
    print(summary(cfg.config, tuned, cfg.monitor))
    return with_best_settings(cfg.config, tuned), {"tuning": manifest_entry(tuned)}


def _count(data: PreparedData, splits: tuple[str, ...]) -> int:
    return sum(data.manifest["counts"][split] for split in splits)
