"""llmrec's part of benchmarks/heads/run.py, in CPU seconds of one thread; prints one JSON object.

    python ours.py <prepared> <repeats>
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.evaluation.metric_suite import Measures, measure
from llmrec_cli.evaluation.slices import build_slices
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.metrics.hits import ordered_hits
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.ranking import RANKING
from llmrec_cli.scoring.heldout import audience_of, held_out
from llmrec_cli.scoring.scorer import hits, recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.head import HEADS, ModelConfig

CUTOFFS = [5, 10, 20, 50, 100]
L2 = 1200.0
ITERATIONS = (1, 2, 3, 4, 6, 8)


def main() -> None:
    """Measure every head and the evaluation."""
    torch.set_num_threads(1)
    data, repeats = read_prepared(sys.argv[1]), int(sys.argv[2])
    warm_up(data)
    results: dict[str, Any] = {"als": [], "knn_fit": [], "knn_recommend": [], "als_recommend": [], "ease_fit": [],
                               "ease_inverse": [], "lists": [], "evaluate": []}
    ease = unfitted_head("ease", l2=L2)
    for _ in range(repeats):
        results["als"].append([als(data, number) for number in ITERATIONS])
        knn, seconds = fitted(data, "item_knn", k=200, weighting="bm25")
        results["knn_fit"].append(seconds)
        results["knn_recommend"].append(everybody(data, knn))
        model, _ = fitted(data, "ials", embedding_size=128)
        results["als_recommend"].append(everybody(data, model))
        ease, seconds = fitted(data, "ease", l2=L2)
        results["ease_fit"].append(seconds)
        results["ease_inverse"].append(inverse(data))
    task = held_out(data, "test", data.users, data.items, data.part("train").matrix, True)
    ranks = item_hash_ranks(data.items.ids)

    def lists() -> dict[str, np.ndarray]:
        ranked = recommend_lists(ease.score, task.queries, CUTOFFS[-1], ranks)
        hit_counts = ordered_hits(hits(ranked.items_QK, task.relevant_QN), np.diff(task.relevant_QN.indptr), CUTOFFS)
        return evaluate_all(RANKING, hit_counts, CUTOFFS)

    def everything() -> Any:
        heldout = held_out(data, "test", data.users, data.items, data.part("train").matrix, True)
        slices = build_slices([], data, audience_of(data, "users", "test"), data.users.find(heldout.queries.ids),
                              heldout.counts_N, heldout.lengths_Q)
        how = Measures([5, 10, 20, 50], slices, data.items.attributes, 0.5, 1000, 1)
        ranked = recommend_lists(ease.score, heldout.queries, 50, ranks, relevant_QN=heldout.relevant_QN)
        done = measure(ranked, heldout, how)
        return done.summary(), done.slice_summary()

    for _ in range(repeats):
        results["lists"].append(timed(lists))
        results["evaluate"].append(timed(everything))
    print(json.dumps(results))


def warm_up(data: PreparedData) -> None:
    """Fit once, so that imports at first use are not measured."""
    for name in ("ials", "item_knn", "ease"):
        fitted(data, name, **({"iterations": 1, "embedding_size": 8} if name == "ials" else {}))


def unfitted_head(name: str, **settings: Any) -> Head:
    """Return a head before its fit."""
    return build(ModelConfig(head=HEADS[name](**settings)))


def fitted(data: PreparedData, name: str, **settings: Any) -> tuple[Head, float]:
    """Return a head fitted on train, and the seconds it took."""
    head, training = unfitted_head(name, **settings), data.training("train")
    return head, timed(lambda: head.fit(training, Context(torch.device("cpu"), seed=1)))


def als(data: PreparedData, iterations: int) -> tuple[float, float]:
    """Return the seconds of a fit with this number of iterations, and its validation ndcg@10."""
    head, seconds = fitted(data, "ials", embedding_size=128, iterations=iterations)
    validation = validation_of(data, "ndcg@10")
    assert validation is not None
    return seconds, validation(head.score)


def everybody(data: PreparedData, head: Head) -> float:
    """Return the seconds of the 100 best items of every user."""
    matrix, ranks = data.part("train").matrix, item_hash_ranks(data.items.ids)
    queries = known_users(np.arange(len(data.users)), data.users.ids, matrix, matrix)
    return timed(lambda: recommend_lists(head.score, queries, 100, ranks))


def inverse(data: PreparedData) -> float:
    """Return the seconds of only the Cholesky factorisation and inverse of EASE."""
    matrix = data.part("train").matrix
    gram = torch.from_numpy((matrix.T @ matrix).toarray())
    gram.diagonal().add_(L2)
    return timed(lambda: torch.cholesky_inverse(torch.linalg.cholesky(gram)))


def timed(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of `work`."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    main()
