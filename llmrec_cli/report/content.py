"""Content of an evaluation report as plain data."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.report.terminal import printable
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists
from llmrec_cli.scoring.topk import item_hash_ranks

_NUM_EXAMPLES, _MAX_HISTORY, _LIST_LENGTH, _NUM_DISAGREEMENTS = 12, 8, 10, 3
MOST_POINTS = 300


@dataclass(frozen=True)
class Entry:
    """A title in an example; `hit`: the item is both recommended and held out."""

    title: str
    hit: bool = False


@dataclass(frozen=True)
class Example:
    """One user or group: the newest history, the recommendations, the held-out items, and the two total counts."""

    user: str
    history: list[Entry]
    recommended: list[Entry]
    held_out: list[Entry]
    num_history: int
    num_held_out: int


@dataclass(frozen=True)
class ModelLists:
    """A model's lists, a mask of their relevant entries, and the main metric of each query, (Q,)."""

    lists: Lists
    hits_QK: np.ndarray
    values_Q: np.ndarray


@dataclass(frozen=True)
class Disagreement:
    """An example of two models that differ: a user, both models' lists and both metrics."""

    example: Example
    other: list[Entry]
    values: tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A training curve: its name and its (step, value) points."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class EvaluationReport:
    """Content of an evaluation report.

    Attributes
    ----------
    model : name of the head
    facts : groups of (label, value) about data, model and protocol
    metrics : the content of metrics.json
    cutoff : list length for headline and examples
    counts_N, exposure : training interactions of each candidate item, and number of lists of each recommender with it
    curves : loss and validation curves, empty if the model has none
    examples : a few users, chosen independently of their results
    disagreements : users with the largest differences between two models, first those that favour the first model
    compared_models : names of these two models
    is_named : the setting `about` names the model; otherwise it is the best of several
    """

    model: str
    facts: dict[str, list[tuple[str, str]]]
    metrics: dict[str, Any]
    cutoff: int
    counts_N: np.ndarray
    exposure: dict[str, np.ndarray]
    curves: list[Curve]
    examples: list[Example]
    disagreements: list[Disagreement] = field(default_factory=list)
    compared_models: tuple[str, str] = ("", "")
    is_named: bool = False


def main_cutoff(cutoffs: list[int]) -> int:
    """Return the list length for headline and examples: 10 if measured, else the nearest to 10."""
    return min(cutoffs, key=lambda k: (abs(k - _LIST_LENGTH), k))


def examples(task: HeldOut, lists: Lists, hits_QK: np.ndarray, items: Catalogue, cutoff: int) -> list[Example]:
    """Return a dozen examples, the first in the order of hashed ids, so the choice does not depend on results."""
    rows = np.argsort(item_hash_ranks(task.queries.ids, "examples"))[:_NUM_EXAMPLES]
    return [_example(int(q), task, lists, hits_QK, items, min(cutoff, _LIST_LENGTH)) for q in rows]


def find_disagreements(task: HeldOut, ours: ModelLists, theirs: ModelLists, items: Catalogue,
                       cutoff: int) -> list[Disagreement]:
    """Return the users with the largest differences between two models, _NUM_DISAGREEMENTS in favour of each."""
    difference_Q = ours.values_Q - theirs.values_Q
    order = np.argsort(-difference_Q, kind="stable")
    rows = [*order[:_NUM_DISAGREEMENTS][difference_Q[order[:_NUM_DISAGREEMENTS]] > 0],
            *order[::-1][:_NUM_DISAGREEMENTS][difference_Q[order[::-1][:_NUM_DISAGREEMENTS]] < 0]]
    length, result = min(cutoff, _LIST_LENGTH), []
    for q in map(int, rows):
        relevant = task.relevant_QN.indices[task.relevant_QN.indptr[q]:task.relevant_QN.indptr[q + 1]]
        hit = (*ours.hits_QK[q, :length], *theirs.hits_QK[q, :length])
        item_rows = (*ours.lists.items_QK[q, :length], *theirs.lists.items_QK[q, :length])
        hit_items = {int(item) for item, is_hit in zip(item_rows, hit, strict=True) if is_hit}
        example = _example(q, task, ours.lists, ours.hits_QK, items, length)
        held_out = [Entry(_title(items, n), n in hit_items)
                    for n in sorted(relevant.tolist(), key=lambda item: item not in hit_items)[:_LIST_LENGTH]]
        result.append(Disagreement(replace(example, held_out=held_out),
                                   _recommended(q, theirs.lists, theirs.hits_QK, items, length),
                                   (float(ours.values_Q[q]), float(theirs.values_Q[q]))))
    return result


def _recommended(q: int, lists: Lists, hits_QK: np.ndarray, items: Catalogue, length: int) -> list[Entry]:
    return [Entry(_title(items, n), bool(hit))
            for n, hit in zip(lists.items_QK[q, :length], hits_QK[q, :length], strict=True) if n >= 0]


def _example(q: int, task: HeldOut, lists: Lists, hits_QK: np.ndarray, items: Catalogue, length: int) -> Example:
    history, relevant = task.queries.history, task.relevant_QN
    history_items = history.indices[history.indptr[q]:history.indptr[q + 1]]
    held_out = relevant.indices[relevant.indptr[q]:relevant.indptr[q + 1]]
    recommended = lists.items_QK[q, :length]
    is_hit = hits_QK[q, :length]
    hit_items = set(recommended[is_hit].tolist())
    ordered = sorted(held_out.tolist(), key=lambda item: item not in hit_items)
    return Example(printable(str(task.queries.ids[q])), [Entry(_title(items,
                                                                      n)) for n in history_items[::-1][:_MAX_HISTORY]],
                   _recommended(q, lists, hits_QK, items, length),
                   [Entry(_title(items, n), n in hit_items) for n in ordered[:_LIST_LENGTH]], len(history_items),
                   len(held_out))


def _title(items: Catalogue, item: int) -> str:
    return printable(str(items.titles[item] or items.ids[item]))


def training_curves(log: Path) -> list[Curve]:
    """Return the curves in the log of a finetune run: losses by step, then the validation metric by epoch.

    Each fit (another member, a refit) is a curve of its own.
    """
    if not log.is_file():
        return []
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    monitor = next((record["monitor"] for record in records if record["event"] == "chosen"), Phrase("the metric"))
    losses = [(record["step"], record["loss"]) for record in records if record["event"] == "step"]
    values = [(record["epoch"], record["value"]) for record in records if record["event"] == "validation"]
    return [*_curves(Phrase("training loss by step"), losses),
            *_curves(Phrase("{metric} on validation by epoch", metric=monitor), values)]


def _curves(name: str, points: list[tuple[float, float]]) -> list[Curve]:
    if not points:
        return []
    place = np.array(points, np.float64)
    starts = np.flatnonzero(np.diff(place[:, 0]) <= 0) + 1
    return [Curve(name, _thinned(part)) for part in np.split(place, starts)]


def _thinned(points: np.ndarray) -> list[tuple[float, float]]:
    """Return at most MOST_POINTS points, each the mean of its neighbours."""
    groups = np.array_split(points, min(len(points), MOST_POINTS))
    return [(float(place), float(value)) for place, value in (group.mean(0) for group in groups)]
