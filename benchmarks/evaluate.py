"""Time of evaluating all users on the full catalogue, from a fitted model to all values of metrics.json.

    python benchmarks/evaluate.py [data/prepared/movielens_100k] [repeats]

Prints CPU seconds (best of several repeats) and ratios to the simplest way in the same run: scores and torch.topk of
100 items, without masking or metrics. Not included: reading the data, fitting the model, imports, writing files and
plots. With OMP_NUM_THREADS=1 CPU seconds are those of one core.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from llmrec_cli.data.prepared import PreparedData, read_prepared
from llmrec_cli.evaluation.metric_suite import Measures, measure, tie_blocks
from llmrec_cli.evaluation.slices import build_slices
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.metrics.hits import TiedHits, ordered_hits
from llmrec_cli.metrics.metric import evaluate_all
from llmrec_cli.metrics.ranking import RANKING
from llmrec_cli.scoring.heldout import HeldOut, audience_of, held_out
from llmrec_cli.scoring.scorer import Lists, blocks, hits, recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.head import HEADS, ModelConfig

CUTOFFS = [5, 10, 20, 50, 100]
BLOCK = 1024


def main() -> None:
    """Fit EASE and popularity, measure each and their difference."""
    folder = sys.argv[1] if sys.argv[1:] else "data/prepared/movielens_100k"
    repeats = int(sys.argv[2]) if sys.argv[2:] else 5
    data = read_prepared(folder)
    context = Context(torch.device("cpu"), seed=1)
    heads = {name: build(ModelConfig(head=HEADS[name]())) for name in ("ease", "popularity")}
    for head in heads.values():
        head.fit(data.training("train", "valid"), context)
    history = data.part("train", "valid").matrix
    seconds, task = best(repeats, lambda: held_out(data, "test", data.users, data.items, history, True))
    print(f"{len(task.queries)} users, {len(data.items)} items, cutoffs {CUTOFFS}, "
          f"{torch.get_num_threads()} threads; CPU seconds, best of {repeats}\n"
          f"{'queries and held-out items':46}{seconds:8.3f}")
    results = {name: timed(name, head, data, task, repeats) for name, head in heads.items()}
    comparing = best(repeats, lambda: results["ease"].comparison(results["popularity"]))[0]
    print(f"{'paired comparison':46}{comparing:8.3f}")


def timed(name: str, head: Head, data: PreparedData, task: HeldOut, repeats: int) -> Any:
    """Print the time of each part and return the evaluation."""
    ranks_N = item_hash_ranks(data.items.ids)

    def scores(then: Callable[[torch.Tensor], Any] = len) -> None:
        with torch.inference_mode():
            for rows in blocks(len(task.queries), len(ranks_N), BLOCK):
                then(head.score(task.queries.rows(rows)))

    def plain() -> None:
        scores(lambda scores_BN: torch.topk(scores_BN, min(CUTOFFS[-1], len(ranks_N)), dim=1))

    def lists(relevant: bool = False) -> Lists:
        return recommend_lists(head.score, task.queries, CUTOFFS[-1], ranks_N, block_size=BLOCK,
                               relevant_QN=task.relevant_QN if relevant else None)

    num_relevant_Q = np.diff(task.relevant_QN.indptr)

    def ranking() -> dict[str, np.ndarray]:
        return of_hits(lists())

    def of_hits(ranked: Lists) -> dict[str, np.ndarray]:
        return evaluate_all(RANKING, ordered_hits(hits(ranked.items_QK, task.relevant_QN), num_relevant_Q, CUTOFFS),
                            CUTOFFS)

    def with_auc() -> float:
        ranked = lists(relevant=True)
        of_hits(ranked)
        assert ranked.auc_Q is not None
        return float(np.average(ranked.auc_Q, weights=num_relevant_Q))

    user_Q = data.users.find(task.queries.ids)
    slices = build_slices([], data, audience_of(data, "users", "test"), user_Q, task.counts_N, task.lengths_Q)
    how = Measures(CUTOFFS, slices, data.items.attributes if data.items.attributes.nnz else None, 0.5, 1000, 1)
    unit = best(repeats, plain)[0]
    parts: dict[str, Callable[[], Any]] = {
        "scores": scores, "scores, torch.topk": plain, "scores, mask, lists": lists,
        "scores, mask, lists, ranking metrics": ranking, "the same and AUC, GAUC": with_auc}
    for what, work in parts.items():
        print_time(f"{name}: {what}", best(repeats, work)[0], unit)
    ranked = lists(relevant=True)
    groups = best(repeats, lambda: evaluate_all(
        RANKING, TiedHits(tie_blocks(ranked, task.relevant_QN), num_relevant_Q, CUTOFFS), CUTOFFS))[0]
    print_time(f"{name}: ties in expectation", groups, unit)
    print_time(f"{name}: all metrics and slices of the lists", best(repeats, lambda: measure(ranked, task, how))[0],
               unit)
    measuring, result = best(repeats, lambda: figures(ranked, task, how))
    print_time(f"{name}: the same, bootstrap, intervals", measuring, unit)
    return result


def figures(lists: Lists, task: HeldOut, how: Measures) -> Any:
    """Return the evaluation with all means and intervals computed."""
    result = measure(lists, task, how)
    result.summary()
    result.slice_summary()
    return result


def print_time(what: str, seconds: float, unit: float) -> None:
    """Print seconds and the ratio to the simplest way."""
    print(f"{what:46}{seconds:8.3f}{seconds / unit:7.2f} x")


def best(repeats: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the shortest of several runs in CPU seconds, and the last result."""
    durations, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        durations.append(time.process_time() - start)
    return min(durations), result


if __name__ == "__main__":
    main()
