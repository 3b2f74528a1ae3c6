"""Histories longer than a head reads: counted on stderr, in the log and in the manifest of the lists."""

import json
from pathlib import Path

import numpy as np
import pytest

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.shared.training_history import CutHistories
from llmrec_cli.heads.two_tower import head as two_tower
from llmrec_cli.heads.two_tower import steps as two_tower_steps

TRAIN = ["head=two_tower", "head.history=attention", "head.recency=true", "head.training_history=before",
         "head.embedding_size=8", "encoder=tfidf", "peft=frozen", "optim.epochs=1", "device=cpu", "refit=none"]


def test_items_beyond_the_newest_ones_are_counted_per_history():
    cut = CutHistories(3)
    cut.add(np.array([0, 3, 4, 6]))
    assert (cut.num_histories, cut.num_items) == (2, 4)
    assert cut.sentence("two_tower") == (
        "head=two_tower reads the newest 3 items of a history (head.recency=true): 2 histories are longer, and 4 of "
        "their oldest items are not read")
    unlimited = CutHistories(None)
    unlimited.add(np.array([10**6]))
    assert unlimited.sentence("two_tower") == ""


@pytest.mark.slow
def test_every_command_says_how_much_of_long_histories_is_not_read(llmrec, tiny_prepared, monkeypatch):
    for module in (two_tower, two_tower_steps):
        monkeypatch.setattr(module, "MOST_WITH_RECENCY", 3)
    lengths = np.diff(read_prepared(tiny_prepared).part("train").matrix.indptr)
    message = (f"{(lengths > 3).sum():,} histories are longer, and {np.maximum(lengths - 3, 0).sum():,} of their "
               f"oldest items are not read")
    assert (lengths > 3).any()
    done = llmrec("finetune", f"prepared={tiny_prepared}", "run_dir=run", *TRAIN)
    assert done.code == 0, done.err
    assert f"note: head=two_tower reads the newest 3 items of a history (head.recency=true): {message}" in done.err
    done = llmrec("evaluate", "model=run", "run_dir=tested", "device=cpu", "history=fit", "baselines=[]")
    assert done.code == 0, done.err
    assert "reads the newest 3 items of a history" in done.err
    done = llmrec("recommend", "model=run", "queries=all", "history=fit", "output=lists.parquet", "device=cpu")
    assert done.code == 0, done.err
    assert message in done.err
    counts = json.loads(Path("lists.parquet.manifest.json").read_text())
    assert counts["histories_cut"] == (lengths > 3).sum()
    assert counts["history_items_not_read"] == np.maximum(lengths - 3, 0).sum()
    plain = [text.replace("recency=true", "recency=false") for text in TRAIN]
    assert "items of a history" not in llmrec("finetune", f"prepared={tiny_prepared}", "run_dir=all", *plain).err
