"""The seeds' recipe without its bugs: history and item as a pair through the whole model, padded to 128, batch 16."""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from common import measure
from torch import nn

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.encoders.hugging_face import load_model, load_tokenizer
from llmrec_cli.encoders.locate import locate
from llmrec_cli.settings.encoder import MiniLMSettings

data = read_prepared(Path(sys.argv[1])).training("train")
files = locate(MiniLMSettings()).files
model, tokenizer = load_model(files).train(), load_tokenizer(files)
scorer = nn.Linear(model.config.hidden_size, 1)
optimizer = torch.optim.AdamW([*model.parameters(), *scorer.parameters()], lr=2e-5)
generator = np.random.default_rng(1)
interactions = data.interactions


def step() -> int:
    rows = generator.integers(len(interactions.user), size=16)
    histories = [" ".join(data.items.titles[interactions.matrix[[int(u)]].indices[:5]])
                 for u in interactions.user[rows]]
    labels = torch.from_numpy((generator.random(16) < 0.5).astype(np.float32))
    items = np.where(labels > 0, interactions.item[rows], generator.integers(len(data.items), size=16))
    batch = tokenizer(histories, [str(text) for text in data.items.texts[items]], truncation=True, max_length=128,
                      padding="max_length", return_tensors="pt")
    hidden = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    loss = nn.functional.binary_cross_entropy_with_logits(scorer(hidden[:, 0])[:, 0], labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return 16


measure(step, float(sys.argv[2]), time.process_time())
