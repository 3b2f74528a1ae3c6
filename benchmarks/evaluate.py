"""Time of evaluating all users on the full catalogue, from a fitted model to every figure of metrics.json.

    python benchmarks/evaluate.py [data/prepared/movielens_100k] [repeats]

Prints the best of several repeats: the machine's other load makes the others slower. What is not in it: reading the
data, fitting the model, importing, writing files and drawing plots.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.base import Context, build
from llmrec_cli.scoring.evaluation import Measured, measure
from llmrec_cli.scoring.heldout import held_out
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.head import HEADS, Recipe

CUTOFFS = [5, 10, 20, 50]


def main() -> None:
    """Fit EASE and popularity, measure each and their difference."""
    folder = sys.argv[1] if sys.argv[1:] else "data/prepared/movielens_100k"
    repeats = int(sys.argv[2]) if sys.argv[2:] else 5
    data = read_prepared(folder)
    context = Context(torch.device("cpu"), seed=1)
    heads = {}
    for name in ("ease", "popularity"):
        heads[name] = build(Recipe(head=HEADS[name]()))
        heads[name].fit(data.training("train", "valid"), context)
    history = data.part("train", "valid").matrix
    seconds, task = best(repeats, lambda: held_out(data, "test", data.users, data.items, history, True))
    print(f"{len(task.queries)} users, {len(data.items)} items, cutoffs {CUTOFFS}, 1000 resamples, "
          f"{torch.get_num_threads()} threads; seconds, best of {repeats}")
    print(f"{'who is asked, what counts':38}{seconds:8.3f}")
    ranks = item_hash_ranks(data.items.ids)
    total = seconds
    measured: dict[str, Measured] = {}
    for name, head in heads.items():
        def evaluate(head: Any = head) -> Measured:
            return measure(head.score, task, data.items.attributes, ranks, CUTOFFS, exclude_seen=True,
                           block_size=1024, num_resamples=1000, seed=1)

        def lists(head: Any = head) -> Any:
            return recommend_lists(head.score, task.queries, CUTOFFS[-1], ranks)

        def scores(head: Any = head) -> Any:
            return head.score(task.queries)

        scoring, listing = best(repeats, scores)[0], best(repeats, lists)[0]
        measuring, measured[name] = best(repeats, evaluate)
        resampling = best(repeats, lambda one=measured[name]: intervals_of(one))[0]
        total += measuring + resampling
        for what, value in (("scores", scoring), ("scores, masking, topk", listing),
                            ("the same, all metrics and slices", measuring), ("bootstrap, intervals", resampling)):
            print(f"{name + ': ' + what:38}{value:8.3f}")
    comparing = best(repeats, lambda: measured["ease"].comparison(measured["popularity"]))[0]
    print(f"{'paired comparison':38}{comparing:8.3f}\n{'all together':38}{total + comparing:8.3f}")


def intervals_of(measured: Measured) -> Any:
    """Return all means with their intervals, computed anew: a `Measured` keeps its bootstrap."""
    again = replace(measured)
    return again.summary(), again.slice_summary()


def best(repeats: int, work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the shortest of several durations in seconds, and the last result."""
    durations, result = [], None
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        durations.append(time.perf_counter() - start)
    return min(durations), result


if __name__ == "__main__":
    main()
