"""One of several training processes: trains on its share and writes the loss curve of each training as JSON.

    python -m torch.distributed.run --nproc_per_node 2 -m tests.training.worker <prepared> <encoder> <output>
"""

import json
import sys
from pathlib import Path

import torch
from torch import nn

from llmrec_cli import distributed as processes
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.base import Context, build
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.head import MfSettings, ModelConfig
from llmrec_cli.settings.loss import BprSettings
from llmrec_cli.settings.objective import MaskedLanguageModelSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.training.loop import Length, TrainContext, TrainResult, train
from llmrec_cli.training.mlm import masked_language_modelling

CPU = torch.device("cpu")


def mf(prepared: Path, log, folder: Path | None) -> None:
    """Train factors of the tiny shop, with validation."""
    data = read_prepared(prepared)
    optim = AdamWSettings(learning_rate=0.02, epochs=4, batch_size=128, ema=0.5, accumulate=2, checkpoint_every=2)
    head = build(ModelConfig(head=MfSettings(embedding_size=8, candidates=20), loss=BprSettings(), optim=optim))
    head.fit(data.training("train"), Context(CPU, 1, validation_of(data, "ndcg@10"), folder, log=log))


def mlm(prepared: Path, encoder: Path) -> TrainResult:
    """Train an encoder without dropout, since dropout draws different numbers in each process."""
    settings = HuggingFaceSettings(path=str(encoder), max_length=16)
    task = masked_language_modelling(MaskedLanguageModelSettings(mask_share=0.3), settings,
                                     read_prepared(prepared).training("train"), 1, CPU)
    for module in task.model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    optim = AdamWSettings(learning_rate=1e-2, epochs=3, batch_size=8)
    # Embeddings of tokens that are in no text get no gradients, in one process and in several.
    return train(task.model, lambda epoch, generator: task.train.batches(8, generator), task.train.loss,
                 [(task.encoder, 1e-2), (task.model, 1e-2)], optim, Length(3, task.train.num_batches(8), 3),
                 TrainContext(CPU, 1), lambda: -task.held_out.measure(1).loss, split=task.train.split)


def curves(prepared: Path, encoder: Path, folder: Path | None = None) -> dict[str, list[float]]:
    """Return the loss of each step and the values of each validation."""
    events = []
    mf(prepared, lambda event, **values: events.append((event, values)), folder)
    trained = mlm(prepared, encoder)
    return {"mf": [values["loss"] for event, values in events if event == "step"],
            "mf_valid": [values["value"] for event, values in events if event == "validation"],
            "mlm": trained.losses, "mlm_valid": trained.values}


if __name__ == "__main__":
    processes.join("finetune")
    values = curves(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) / "checkpoints")
    Path(sys.argv[3], f"{processes.rank()}.json").write_text(json.dumps(values))
