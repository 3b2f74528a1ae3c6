"""Content of a report as plain data."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.report.terminal import printable
from llmrec_cli.scoring.heldout import HeldOut
from llmrec_cli.scoring.scorer import Lists
from llmrec_cli.scoring.topk import item_hash_ranks

_NUM_EXAMPLES, _NUM_LIKED, _LIST_LENGTH, _NUM_DUELS = 12, 8, 10, 3
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
class Shown:
    """A model's lists, which of their entries are relevant, and what each user got by the main metric, (Q,)."""

    lists: Lists
    hits_QK: np.ndarray
    values_Q: np.ndarray


@dataclass(frozen=True)
class Duel:
    """A user with whom two models differ: the example with the list of the first, the second's, and what each got."""

    example: Example
    other: list[Entry]
    values: tuple[float, float]


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
    duels, rivals : the users with whom two models, the rivals, differ most, those with whom the first does better first
    """

    model: str
    facts: dict[str, list[tuple[str, str]]]
    metrics: dict[str, Any]
    cutoff: int
    counts_N: np.ndarray
    exposure: dict[str, np.ndarray]
    curves: list[Curve]
    examples: list[Example]
    duels: list[Duel] = field(default_factory=list)
    rivals: tuple[str, str] = ("", "")


def main_cutoff(cutoffs: list[int]) -> int:
    """Return the list length to talk about: 10 where it was measured, else the one nearest to it."""
    return min(cutoffs, key=lambda k: (abs(k - _LIST_LENGTH), k))


def examples(task: HeldOut, lists: Lists, hits_QK: np.ndarray, items: Catalogue, cutoff: int) -> list[Example]:
    """Return a dozen users, the first in the order of their hashed ids: chance, not their results, picks them."""
    chosen = np.argsort(item_hash_ranks(task.queries.ids, "examples"))[:_NUM_EXAMPLES]
    return [_example(int(q), task, lists, hits_QK, items, min(cutoff, _LIST_LENGTH)) for q in chosen]


def duels(task: HeldOut, ours: Shown, theirs: Shown, items: Catalogue, cutoff: int) -> list[Duel]:
    """Return the users with whom two models differ most, _NUM_DUELS in favour of each."""
    difference_Q = ours.values_Q - theirs.values_Q
    order = np.argsort(-difference_Q, kind="stable")
    chosen = [*order[:_NUM_DUELS][difference_Q[order[:_NUM_DUELS]] > 0],
              *order[::-1][:_NUM_DUELS][difference_Q[order[::-1][:_NUM_DUELS]] < 0]]
    length, found = min(cutoff, _LIST_LENGTH), []
    for q in map(int, chosen):
        relevant = task.relevant_QN.indices[task.relevant_QN.indptr[q]:task.relevant_QN.indptr[q + 1]]
        hit = (*ours.hits_QK[q, :length], *theirs.hits_QK[q, :length])
        shown = (*ours.lists.items_QK[q, :length], *theirs.lists.items_QK[q, :length])
        seen = {int(item) for item, found_it in zip(shown, hit, strict=True) if found_it}
        example = _example(q, task, ours.lists, ours.hits_QK, items, length)
        went_on = [Entry(_title(items, n), n in seen)
                   for n in sorted(relevant.tolist(), key=lambda item: item not in seen)[:_LIST_LENGTH]]
        found.append(Duel(replace(example, went_on=went_on),
                          _recommended(q, theirs.lists, theirs.hits_QK, items, length),
                          (float(ours.values_Q[q]), float(theirs.values_Q[q]))))
    return found


def _recommended(q: int, lists: Lists, hits_QK: np.ndarray, items: Catalogue, length: int) -> list[Entry]:
    return [Entry(_title(items, n), bool(hit))
            for n, hit in zip(lists.items_QK[q, :length], hits_QK[q, :length], strict=True) if n >= 0]


def _example(q: int, task: HeldOut, lists: Lists, hits_QK: np.ndarray, items: Catalogue, length: int) -> Example:
    history, relevant = task.queries.history, task.relevant_QN
    liked = history.indices[history.indptr[q]:history.indptr[q + 1]]
    went_on = relevant.indices[relevant.indptr[q]:relevant.indptr[q + 1]]
    shown = lists.items_QK[q, :length]
    shown_hits = hits_QK[q, :length]
    found = set(shown[shown_hits].tolist())
    ordered = sorted(went_on.tolist(), key=lambda item: item not in found)
    return Example(printable(str(task.queries.ids[q])), [Entry(_title(items, n)) for n in liked[::-1][:_NUM_LIKED]],
                   _recommended(q, lists, hits_QK, items, length),
                   [Entry(_title(items, n), n in found) for n in ordered[:_LIST_LENGTH]], len(liked), len(went_on))


def _title(items: Catalogue, item: int) -> str:
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
