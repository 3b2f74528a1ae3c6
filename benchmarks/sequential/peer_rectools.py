"""RecTools 0.19.0: SASRec fitted on exported interactions, in CPU seconds of one thread.

    <python of RecTools' environment> peer_rectools.py <exported.npz> <epochs> <embedding size> <length>

Fitted on train and valid together; prints one JSON object: seconds per epoch, and ndcg@10 of the test items in the full
ranking without seen items, read once after the last epoch.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main() -> None:
    """Fit, recommend, measure."""
    exported, epochs, size, length = np.load(sys.argv[1]), *map(int, sys.argv[2:5])
    torch.set_num_threads(1)
    torch.manual_seed(1)
    warnings.filterwarnings("ignore")
    user, item = (np.concatenate([exported[f"train_{name}"], exported[f"valid_{name}"]]) for name in ("user", "item"))
    # Rows are oldest first; rows of valid are newer than rows of train.
    order = pd.Timestamp(2000, 1, 1) + pd.to_timedelta(np.arange(len(user)), "s")
    interactions = pd.DataFrame({Columns.User: user, Columns.Item: item, Columns.Weight: 1.0, Columns.Datetime: order})
    dataset = Dataset.construct(interactions)
    model = SASRecModel(n_factors=size, n_blocks=2, n_heads=2, session_max_len=length, epochs=epochs, batch_size=128,
                        lr=1e-3, loss="softmax", dropout_rate=0.2)
    started = time.process_time()
    model.fit(dataset)
    fitted = time.process_time() - started
    started = time.process_time()
    lists = model.recommend(users=np.unique(user), dataset=dataset, k=10, filter_viewed=True)
    recommended = time.process_time() - started
    target = pd.DataFrame({Columns.User: exported["test_user"], Columns.Item: exported["test_item"]})
    hits = lists.merge(target, on=[Columns.User, Columns.Item])
    # Each user has one held-out item, so the ideal gain is 1.
    ndcg = float((1 / np.log2(hits[Columns.Rank] + 1)).sum() / len(target))
    print(json.dumps({"epoch": fitted / epochs, "recommend": recommended, "ndcg@10": ndcg}))


if __name__ == "__main__":
    main()
