"""implicit 0.7.3: ALS and BM25 item-kNN on exported interactions, in CPU seconds of one thread.

    <python of implicit's environment> peer_implicit.py <exported.npz> <repeats>

Prints one JSON object. The ALS settings are the best ones for implicit (regularisation 100, alpha 10).
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender

FACTORS, REGULARISATION, ALPHA, ITERATIONS, NEIGHBOURS, LENGTH = 128, 100.0, 10.0, 15, 200, 100


def main() -> None:
    """Fit and recommend several times."""
    exported, repeats = np.load(sys.argv[1]), int(sys.argv[2])
    shape = int(exported["num_users"]), int(exported["num_items"])
    parts = {}
    for split in ("train", "valid"):
        user, item = exported[f"{split}_user"], exported[f"{split}_item"]
        parts[split] = sp.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=shape)
    train, users = parts["train"], np.arange(shape[0])
    results: dict[str, Any] = {"als_fit": [], "als_recommend": [], "knn_fit": [], "knn_recommend": []}
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        als = AlternatingLeastSquares(factors=FACTORS, regularization=REGULARISATION, alpha=ALPHA,
                                      iterations=ITERATIONS, num_threads=1, random_state=1)
        results["als_fit"].append(timed(lambda model=als: model.fit(train, show_progress=False)))
        results.setdefault("als_bytes", 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
        results["als_recommend"].append(timed(lambda model=als: model.recommend(users, train, N=LENGTH)))
        knn = BM25Recommender(K=NEIGHBOURS, num_threads=1)
        results["knn_fit"].append(timed(lambda model=knn: model.fit(train, show_progress=False)))
        results["knn_recommend"].append(timed(lambda model=knn: model.recommend(users, train, N=LENGTH)))
        results["als_ndcg"], results["knn_ndcg"] = (ndcg(model, train, parts["valid"]) for model in (als, knn))
    print(json.dumps(results))


def timed(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


def ndcg(model: Any, train: sp.csr_matrix, wanted: sp.csr_matrix) -> float:
    """Return ndcg@10 of the users with items in `wanted`."""
    users = np.flatnonzero(np.diff(wanted.indptr))
    lists, _ = model.recommend(users, train[users], N=10)
    discount = 1 / np.log2(np.arange(2, 12))
    values = []
    for user, ranked in zip(users, lists, strict=True):
        relevant = wanted.indices[wanted.indptr[user]:wanted.indptr[user + 1]]
        values.append(np.isin(ranked, relevant) @ discount / discount[:min(10, len(relevant))].sum())
    return float(np.mean(values))


if __name__ == "__main__":
    main()
