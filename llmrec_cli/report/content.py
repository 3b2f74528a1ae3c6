"""What a report shows, as plain data."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.data.entities import Entities
from llmrec_cli.report.terminal import printable
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists
from llmrec_cli.scoring.topk import item_hash_ranks

NUM_EXAMPLES, NUM_LIKED, LIST_LENGTH = 12, 8, 10
MOST_POINTS = 300


@dataclass(frozen=True)
class Entry:
    """A title in an example; `hit` where the recommendation and what was liked afterwards meet."""

    title: str
    hit: bool = False


@dataclass(frozen=True)
class Example:
    """One user: what was liked, what is recommended, what was liked afterwards; and how many more there are."""

    user: str
    liked: list[Entry]
    recommended: list[Entry]
    went_on: list[Entry]
    num_liked: int
    num_went_on: int


@dataclass(frozen=True)
class Curve:
    """A training curve: what it shows, and (step, value) points."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Content:
    """All of a report.

    Attributes
    ----------
    model : name of the head
    facts : groups of (label, value) about data, model and protocol
    metrics : the content of metrics.json
    cutoff : the list length that headline and examples use
    counts_N, exposure : training interactions of each candidate item, and how often each recommender shows it
    curves : loss and validation curves, empty where the model has none
    examples : a few users, drawn without looking at their results
    """

    model: str
    facts: dict[str, list[tuple[str, str]]]
    metrics: dict[str, Any]
    cutoff: int
    counts_N: np.ndarray
    exposure: dict[str, np.ndarray]
    curves: list[Curve]
    examples: list[Example]


def main_cutoff(cutoffs: list[int]) -> int:
    """Return the list length to talk about: 10 where it was measured, else the one nearest to it."""
    return min(cutoffs, key=lambda k: (abs(k - LIST_LENGTH), k))


def examples(task: HeldOut, lists: Lists, hits_QK: np.ndarray, items: Entities, cutoff: int) -> list[Example]:
    """Return a dozen users, the first in the order of their hashed ids: chance, not their results, picks them."""
    chosen = np.argsort(item_hash_ranks(task.queries.ids, "examples"))[:NUM_EXAMPLES]
    return [_example(int(q), task, lists, hits_QK, items, min(cutoff, LIST_LENGTH)) for q in chosen]


def _example(q: int, task: HeldOut, lists: Lists, hits_QK: np.ndarray, items: Entities, length: int) -> Example:
    history, relevant = task.queries.history, task.relevant_QN
    liked = history.indices[history.indptr[q]:history.indptr[q + 1]]
    went_on = relevant.indices[relevant.indptr[q]:relevant.indptr[q + 1]]
    shown = lists.items_QK[q, :length]
    shown_hits = hits_QK[q, :length]
    found = set(shown[shown_hits].tolist())
    ordered = sorted(went_on.tolist(), key=lambda item: item not in found)
    return Example(printable(str(task.queries.ids[q])), [Entry(_title(items, n)) for n in liked[::-1][:NUM_LIKED]],
                   [Entry(_title(items, n), bool(hit)) for n, hit in zip(shown, shown_hits, strict=True) if n >= 0],
                   [Entry(_title(items, n), n in found) for n in ordered[:LIST_LENGTH]], len(liked), len(went_on))


def _title(items: Entities, item: int) -> str:
    return printable(str(items.titles[item] or items.ids[item]))


def training_curves(log: Path) -> list[Curve]:
    """Return the curves that a finetune run logged: losses by step, then the validation metric by epoch.

    A fit that begins anew (another member, a refit) begins a new curve.
    """
    if not log.is_file():
        return []
    records = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    monitor = next((record["monitor"] for record in records if record["event"] == "chosen"), "the metric")
    losses = [(record["step"], record["loss"]) for record in records if record["event"] == "step"]
    values = [(record["epoch"], record["value"]) for record in records if record["event"] == "validation"]
    return [*_curves("training loss by step", losses), *_curves(f"{monitor} on validation by epoch", values)]


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
