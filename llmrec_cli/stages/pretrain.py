"""pretrain: prepared data to a text encoder adapted to the domain."""

import time

from llmrec_cli import distributed as processes
from llmrec_cli.atomic_files import require_room, write_json
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.device import choose_device
from llmrec_cli.encoders.export import identities
from llmrec_cli.encoders.layer_split import find_layers
from llmrec_cli.encoders.modules import Training
from llmrec_cli.evaluation.pretraining import PretrainingResults, metrics_of, show, write_report
from llmrec_cli.run_dir import PREPARED, RunDir
from llmrec_cli.settings.base import implementation_of, to_plain
from llmrec_cli.settings.stages import PretrainConfig
from llmrec_cli.stages.encoder_fit import warn_foreign_script
from llmrec_cli.stages.resuming import same_inputs
from llmrec_cli.training.checkpoint import checkpoint_size, remove_checkpoints
from llmrec_cli.training.loop import Length, TrainContext, train
from llmrec_cli.training.objective import Task
from llmrec_cli.training.optim import layer_rates
from llmrec_cli.training.probe import build_probe, run_probe


def run(cfg: PretrainConfig, run_dir: RunDir) -> None:
    """Train the encoder on the corpus, measure it on held-out texts before and after, save it."""
    device = choose_device(cfg.device)
    data = read_prepared(cfg.prepared or PREPARED / "latest")
    encoders = {} if cfg.encoder.begins_at_random else identities(cfg.encoder)
    same_inputs(run_dir, data, encoders, resumed=bool(cfg.resume))
    warn_foreign_script([cfg.encoder], data, run_dir)
    started = time.monotonic()

    training = data.training("train")
    task: Task = implementation_of(cfg.objective)(cfg.objective, cfg.encoder, training, cfg.seed, device)
    # Check disk space before the long steps.
    require_room(run_dir.checkpoints, 2 * checkpoint_size(task.model, 1 + int(cfg.optim.ema > 0)), "twice a checkpoint")
    run_dir.log("pretraining", texts=len(task.train.texts), held_out=len(task.held_out.texts))
    probe = build_probe(training, cfg.objective.holdout_share, cfg.seed)
    before, probe_before = task.held_out.measure(cfg.seed), run_probe(probe, task.encoder) if probe else None

    epochs = cfg.optim.epochs
    # Random weights have no knowledge to preserve, so all are trained at the rate of the head.
    encoder_rate = cfg.optim.rate() if cfg.encoder.begins_at_random else cfg.optim.encoder_learning_rate
    layers = [] if cfg.optim.layer_decay == 1 else list(find_layers(task.encoder.model, "none").layers)
    same = {f"{group}.{key}": value for group in ("objective", "encoder")
            for key, value in to_plain(getattr(cfg, group)).items()}
    trained = train(
        task.model, lambda epoch, generator: task.train.batches(cfg.optim.batch_size, generator), task.train.loss,
        [*layer_rates(task.encoder, layers, encoder_rate, cfg.optim.layer_decay), (task.model, cfg.optim.rate())],
        cfg.optim,
        Length(epochs, task.train.num_batches(cfg.optim.batch_size), epochs),
        TrainContext(device, cfg.seed, run_dir.log, run_dir.checkpoints, run_dir.checkpoints if cfg.resume else None,
                     run_dir.tensorboard, "pretrain", same),
        validate=lambda: -task.held_out.measure(cfg.seed).loss, split=task.train.split)
    processes.stop_unless_first()

    after, probe_after = task.held_out.measure(cfg.seed), run_probe(probe, task.encoder) if probe else None
    results = PretrainingResults(task, trained, before, after, probe, probe_before, probe_after)
    corpus = f"the texts of {data.manifest['name']}, {len(data.items):,} items"
    task.encoder.save_pretrained(run_dir.encoder, Training(cfg.objective.kind, corpus))
    metrics = metrics_of(results, cfg)
    write_json(run_dir.file("metrics.json"), metrics)
    seconds = round(time.monotonic() - started, 1)
    write_report(run_dir, results, metrics, cfg, data, seconds)
    run_dir.finish("pretrain", {"encoder": "encoder", "data_fingerprint": data.manifest["fingerprint"],
                                "seconds": seconds, **metrics,
                                "result": {"metric": f"{cfg.objective.kind} loss", "split": "held out",
                                           "value": after.loss, "lower": True}})
    remove_checkpoints(run_dir.checkpoints)
    show(results, metrics)
