"""sentence-transformers with MultipleNegativesRankingLoss on pairs of items of the same user, batch 64."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import measure
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import MultipleNegativesRankingLoss

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.encoders.locate import locate
from llmrec_cli.settings.encoder import MiniLMSettings

data = read_prepared(Path(sys.argv[1])).training("train")
model = SentenceTransformer(str(locate(MiniLMSettings()).folder), device="cpu")
model.max_seq_length = 64
if sys.argv[3] == "lora":
    from peft import LoraConfig, inject_adapter_in_model

    # Not model.add_adapter: transformers refuses versions of peft that llmrec allows.
    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"), model[0].auto_model)
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-5)
loss_of = MultipleNegativesRankingLoss(model)
generator = np.random.default_rng(1)
matrix = data.interactions.matrix
users = np.flatnonzero(np.diff(matrix.indptr) > 1)


def step() -> int:
    pairs = [generator.choice(matrix[[int(u)]].indices, 2, replace=False) for u in generator.choice(users, 64)]
    sides = [model.tokenize([str(data.items.texts[pair[side]]) for pair in pairs]) for side in (0, 1)]
    optimizer.zero_grad()
    loss_of(sides, torch.zeros(64)).backward()
    optimizer.step()
    return 64


measure(step, float(sys.argv[2]), time.process_time())
