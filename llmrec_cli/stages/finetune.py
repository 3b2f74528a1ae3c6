"""Prepared data to a recommender."""

import shutil
import time
from dataclasses import replace
from typing import Any

from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.device import choose_device
from llmrec_cli.errors import DataError
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.run_dir import PREPARED, RunDir
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.head import Recipe
from llmrec_cli.settings.stages import FinetuneConfig
from llmrec_cli.stages.resuming import same_data

REFITTED_ON = {"train_valid": ("train", "valid"), "all": ("train", "valid", "test")}


def run(cfg: FinetuneConfig, run_dir: RunDir) -> None:
    """Fit on train, choose on validation, fit the choice again on more, save."""
    device = choose_device(cfg.device)
    data = read_prepared(cfg.prepared or PREPARED / "latest")
    same_data(run_dir, data, resumed=bool(cfg.resume))
    if data.manifest["counts"]["train"] == 0:
        raise DataError(f"{data.path}: no training interactions; prepare with smaller split.valid and split.test")
    validation = validation_of(data, cfg.monitor)
    context = Context(device, cfg.seed, validation, run_dir.checkpoints, bool(cfg.resume), run_dir.tensorboard,
                      run_dir.log)
    started = time.monotonic()

    head = _fit(cfg.recipe, data, ("train",), context)
    value = None if validation is None else validation(head.score)
    run_dir.log("chosen", monitor=cfg.monitor, value=value, seconds=round(time.monotonic() - started, 1))

    fitted_on: tuple[str, ...] = ("train",)
    if cfg.refit != "none" and data.manifest["counts"]["train"] < _count(data, REFITTED_ON[cfg.refit]):
        fitted_on = REFITTED_ON[cfg.refit]
        head = _fit(head.chosen(), data, fitted_on, replace(context.inside("refit"), validation=None))

    facts: dict[str, Any] = {"metrics": {"valid": {cfg.monitor: value}}, "seed": cfg.seed, "refit": cfg.refit}
    save_recommender(run_dir.model, head, data, fitted_on, facts)
    run_dir.finish("finetune", {"model": "model", "seconds": round(time.monotonic() - started, 1), **facts})
    # What was for going on after an interruption is of no use after the end.
    shutil.rmtree(run_dir.checkpoints, ignore_errors=True)
    if value is not None:
        print(f"{cfg.monitor} on validation: {value:.4f}")


def _fit(recipe: Recipe, data: PreparedData, splits: tuple[str, ...], context: Context) -> Head:
    head = build(recipe)
    head.fit(data.training(*splits), context)
    return head


def _count(data: PreparedData, splits: tuple[str, ...]) -> int:
    return sum(data.manifest["counts"][split] for split in splits)
