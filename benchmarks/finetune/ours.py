"""two_tower with text only; steps are timed from the training log."""

import json
import sys
import time
from pathlib import Path

import torch
from common import print_figures

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.base import Context, build
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.encoder import MiniLMSettings
from llmrec_cli.settings.head import ModelConfig, TwoTowerSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import PEFTS

data = read_prepared(Path(sys.argv[1])).training("train")
seconds, options = float(sys.argv[2]), json.loads(sys.argv[3])
size = options["batch_size"] or len(data.interactions)
extra = {"sampled_tokens": options["sampled_tokens"]} if "sampled_tokens" in options else {}
peft = PEFTS[options["peft"]](**extra)
config = ModelConfig(head=TwoTowerSettings(encoded_items=None, id_dropout=0.0), encoder=MiniLMSettings(), peft=peft,
                     adversarial=NoAdversarySettings(), loss=SoftmaxSettings(),
                     optim=AdamWSettings(batch_size=size, epochs=1000, precision=options.get("precision", "float32")))
per_step = len(data.interactions) / -(-len(data.interactions) // size)
times: list[float] = []


def log(event: str, **values: object) -> None:
    if event == "step":
        times.append(time.process_time())
        # The first step allocates; at least one more step is measured.
        if len(times) > 1 and times[-1] - times[0] > seconds:
            print_figures(per_step * (len(times) - 1) / (times[-1] - times[0]), times[0])
            sys.exit()


# The cache folder keeps hidden states and vectors of the texts, as `cache=` does between runs.
build(config).fit(data, Context(torch.device("cpu"), 1, log=log, cache=Path(sys.argv[4])))
