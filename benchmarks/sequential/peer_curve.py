"""RecTools 0.19.0: validation ndcg@10 against CPU seconds of one thread, for `curves.py`.

    <python of RecTools' environment> peer_curve.py <exported.npz> <sasrec | esasrec> <length> <CPU seconds>

Fitted on train, all items ranked without seen ones. Fits for 1, 2, 4, ... epochs, each anew, until a fit takes the CPU
seconds; the learning rate is constant, so they are points of one curve. Settings are those of the library's examples:
size 64, two blocks, two heads, the newest `length` items, batches of 128 users; esasrec is the LiGR block with a
sampled softmax of 256 negatives (Tikhonovich et al. 2025). Prints a line of JSON for each fit.
"""

import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

VARIANTS: dict[str, dict[str, Any]] = {
    "sasrec": {"loss": "softmax"},
    "esasrec": {"loss": "sampled_softmax", "n_negatives": 256, "transformer_layers_type": LiGRLayers}}


def main() -> None:
    """Fit for more and more epochs and print the curve."""
    exported, variant = np.load(sys.argv[1]), VARIANTS[sys.argv[2]]
    length, budget = int(sys.argv[3]), float(sys.argv[4])
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    user, item = exported["train_user"], exported["train_item"]
    # Rows are oldest first.
    order = pd.Timestamp(2000, 1, 1) + pd.to_timedelta(np.arange(len(user)), "s")
    dataset = Dataset.construct(pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0,
                                              Columns.Datetime: order}))
    target = pd.DataFrame({Columns.User: exported["valid_user"], Columns.Item: exported["valid_item"]})
    number, seconds = 1, 0.0
    while seconds < budget:
        torch.manual_seed(1)
        model = SASRecModel(n_factors=64, n_blocks=2, n_heads=2, session_max_len=length, epochs=number, batch_size=128,
                            lr=1e-3, dropout_rate=0.2, **variant)
        started = time.process_time()
        model.fit(dataset)
        seconds = time.process_time() - started
        lists = model.recommend(users=np.unique(user), dataset=dataset, k=10, filter_viewed=True)
        hits = lists.merge(target, on=[Columns.User, Columns.Item])
        # Each user has one held-out item, so the ideal gain is 1.
        ndcg = float((1 / np.log2(hits[Columns.Rank] + 1)).sum() / len(target))
        print(json.dumps({"epoch": number, "seconds": round(seconds, 1), "ndcg@10": round(ndcg, 4)}), flush=True)
        number *= 2


if __name__ == "__main__":
    main()
