"""Prepared data to a text encoder that knows the domain's language."""

import sys
import time
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.device import choose_device
from llmrec_cli.encoders.masked_language_model import load
from llmrec_cli.run_dir import PREPARED, RunDir, write_json
from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.encoder import Scratch
from llmrec_cli.settings.stages import PretrainConfig
from llmrec_cli.stages.resuming import same_data
from llmrec_cli.training.checkpoint import remove_checkpoints
from llmrec_cli.training.corpus import Corpus, build_corpus
from llmrec_cli.training.loop import Length, Surroundings, train
from llmrec_cli.training.mlm import MaskedTexts, Measure


def run(cfg: PretrainConfig, run_dir: RunDir) -> None:
    """Train the encoder on the corpus, measure before and after on held-out texts, save it."""
    device = choose_device(cfg.device)
    data = read_prepared(cfg.prepared or PREPARED / "latest")
    same_data(run_dir, data, resumed=bool(cfg.resume))
    started = time.monotonic()

    corpus = build_corpus(data.training("train"), cfg.objective, cfg.seed)
    model = load(cfg.encoder, corpus.train, cfg.seed, device)
    texts = MaskedTexts(model, corpus.train, cfg.objective.mask_share, device)
    held_out = MaskedTexts(model, corpus.held_out, cfg.objective.mask_share, device)
    before = held_out.measure(cfg.seed)
    run_dir.log("before", **asdict(before))

    epochs = cfg.optim.epochs
    # Random weights have nothing to lose, so they are all trained at the rate of the head.
    encoder_rate = cfg.optim.rate() if isinstance(cfg.encoder, Scratch) else cfg.optim.encoder_learning_rate
    same = {f"{group}.{key}": value for group in ("objective", "encoder")
            for key, value in to_plain(getattr(cfg, group)).items()}
    trained = train(
        model, lambda epoch, generator: texts.batches(cfg.optim.batch_size, generator), texts.loss,
        [(model.encoder, encoder_rate), (model, cfg.optim.rate())], cfg.optim,
        Length(epochs, texts.num_batches(cfg.optim.batch_size), epochs),
        Surroundings(device, cfg.seed, run_dir.log, run_dir.checkpoints, run_dir.checkpoints if cfg.resume else None,
                     run_dir.tensorboard, "pretrain", same),
        validate=lambda: -held_out.measure(cfg.seed).loss)

    after = held_out.measure(cfg.seed)
    model.encoder.save_pretrained(run_dir.encoder)
    metrics = _metrics(cfg, corpus, before, after, model.head_is_new, trained.best_epoch)
    write_json(run_dir.file("metrics.json"), metrics)
    run_dir.finish("pretrain", {"encoder": "encoder", "data_fingerprint": data.manifest["fingerprint"],
                                "seconds": round(time.monotonic() - started, 1), **metrics})
    remove_checkpoints(run_dir.checkpoints)
    _show(before, after, model.head_is_new)


def _metrics(cfg: PretrainConfig, corpus: Corpus, before: Measure, after: Measure, head_is_new: bool,
             best_epoch: int) -> dict[str, Any]:
    return {"objective": cfg.objective.kind, "base": cfg.encoder.kind, "seed": cfg.seed, "best_epoch": best_epoch,
            "num_texts": {"train": len(corpus.train), "held_out": len(corpus.held_out)},
            "head_is_new": head_is_new, "before": asdict(before), "after": asdict(after)}



def _show(before: Measure, after: Measure, head_is_new: bool) -> None:
    """Print what pretraining changed."""
    table = Table(title=f"held-out texts, {after.num_tokens:,} masked tokens")
    for name in ("", "before", "after"):
        table.add_column(name, justify="right" if name else "left")
    table.add_row("loss (nats per token)", f"{before.loss:.3f}", f"{after.loss:.3f}")
    table.add_row("accuracy", f"{before.accuracy:.1%}", f"{after.accuracy:.1%}")
    Console(file=sys.stdout).print(table)
    if head_is_new:
        print("The head that names the masked token was new, so `before` says little about the encoder itself.")
