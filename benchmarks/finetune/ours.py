"""two_tower, text alone, trained by the one loop; steps timed from its log."""

import json
import sys
import time
from pathlib import Path

import torch
from common import tell

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.base import Context, build
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.encoder import MiniLMSettings
from llmrec_cli.settings.head import ModelConfig, TwoTowerSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import PEFTS

data = read_prepared(Path(sys.argv[1])).training("train")
seconds, chosen = float(sys.argv[2]), json.loads(sys.argv[3])
size = chosen["batch_size"] or len(data.interactions)
extra = {"sampled_tokens": chosen["sampled_tokens"]} if "sampled_tokens" in chosen else {}
peft = PEFTS[chosen["peft"]](**extra)
config = ModelConfig(head=TwoTowerSettings(encoded_items=None, id_dropout=0.0), encoder=MiniLMSettings(), peft=peft,
                     adversarial=NoAdversarySettings(), loss=SoftmaxSettings(),
                     optim=AdamWSettings(batch_size=size, epochs=1000, precision=chosen.get("precision", "float32")))
per_step = len(data.interactions) / -(-len(data.interactions) // size)
times: list[float] = []


def log(event: str, **values: object) -> None:
    if event == "step":
        times.append(time.process_time())
        # The first step allocates; at least one more is measured.
        if len(times) > 1 and times[-1] - times[0] > seconds:
            tell(per_step * (len(times) - 1) / (times[-1] - times[0]), times[0])
            sys.exit()


# The folder keeps what frozen layers and encoders made of the texts, as `cache=` does from one run to the next.
build(config).fit(data, Context(torch.device("cpu"), 1, log=log, cache=Path(sys.argv[4])))
