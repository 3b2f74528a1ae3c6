"""LensKit 2025.8: EASE fitted on exported interactions, in CPU seconds.

    <python of LensKit's environment> peer_lenskit.py <exported.npz> <l2> <repeats>
"""

import json
import sys
import time

import numpy as np
import pandas as pd
import torch
from lenskit.data import from_interactions_df
from lenskit.knn import EASEScorer


def main() -> None:
    """Fit several times."""
    exported, l2, repeats = np.load(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    rows = pd.DataFrame({"user_id": exported["train_user"], "item_id": exported["train_item"]})
    data = from_interactions_df(rows)
    seconds = []
    for _ in range(repeats):
        scorer = EASEScorer(regularization=l2)
        started = time.process_time()
        scorer.train(data)
        seconds.append(time.process_time() - started)
    print(json.dumps({"fit": seconds}))


if __name__ == "__main__":
    main()
