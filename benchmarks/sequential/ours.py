"""llmrec's part of benchmarks/sequential/run.py, in CPU seconds of one thread; prints one JSON object.

    python ours.py <prepared> <epochs> <embedding size> <length> [setting ...]

Settings are those of `llmrec finetune head=sequential`, for example `loss=sampled_softmax head.block=ligr`. Fitted on
train and valid together, like the peer, with ids only; the test split is read once, after the last epoch.
"""

import json
import sys
import time

import numpy as np
import torch

from llmrec_cli.config import compose
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.base import Context, build
from llmrec_cli.metrics.hits import monitored_values
from llmrec_cli.scoring.heldout import held_out
from llmrec_cli.scoring.scorer import hits, recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks


def main() -> None:
    """Fit, recommend, measure."""
    torch.set_num_threads(1)
    data, (epochs, size, length), typed = read_prepared(sys.argv[1]), map(int, sys.argv[2:5]), sys.argv[5:]
    # The batch size and the learning rate were chosen on validation.
    cfg = compose("finetune", ["head=sequential", f"head.embedding_size={size}", f"head.max_length={length}",
                               "head.text_scale=0", "head.id_dropout=0", f"optim.epochs={epochs}",
                               "optim.batch_size=1024", "optim.learning_rate=0.002", *typed])
    head = build(cfg.config)
    started = time.process_time()
    head.fit(data.training("train", "valid"), Context(torch.device("cpu"), seed=1))
    fitted = time.process_time() - started
    history = data.part("train", "valid").matrix
    task = held_out(data, "test", data.users, data.items, history, True)
    started = time.process_time()
    lists = recommend_lists(head.score, task.queries, 10, item_hash_ranks(data.items.ids))
    recommended = time.process_time() - started
    ndcg_Q = monitored_values("ndcg@10", hits(lists.items_QK, task.relevant_QN), np.diff(task.relevant_QN.indptr))
    print(json.dumps({"epoch": fitted / epochs, "recommend": recommended, "ndcg@10": float(ndcg_Q.mean())}))


if __name__ == "__main__":
    main()
