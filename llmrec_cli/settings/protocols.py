"""Published protocols of evaluation: who is ranked for, among which items, and how lists are measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PublishedProtocol:
    """A protocol that papers share.

    Attributes
    ----------
    title : one sentence for reports
    values : settings of `evaluate` -> what the protocol says of them; another value is refused
    chosen : settings that are usual in the papers and free, such as k
    splits : rules of the split that the data may have been prepared with; empty for any
    needs : setting that must name a file, with the columns of that file; "" for none
    """

    title: str
    values: Mapping[str, Any]
    chosen: Mapping[str, Any]
    splits: tuple[str, ...] = ()
    needs: tuple[str, str] = ("", "")


PROTOCOLS = {
    "sequential": PublishedProtocol(
        "sequential papers: each user's last interaction, ranked among all items that the user has not seen (Petrov "
        "and Macdonald 2023; Tikhonovich et al. 2025)",
        {"candidates": "all", "exclude_seen": True, "split": "test", "audience": "users"},
        {"k": [5, 10, 20]}, ("leave_last_out", "given")),
    "rows": PublishedProtocol(
        "papers on language models: rows with their histories, ranked among all items, seen ones too (MiniOneRec 2025)",
        {"candidates": "all", "exclude_seen": False}, {"k": [3, 5, 10, 20]},
        needs=("queries", "history and relevant")),
    "ncf": PublishedProtocol(
        "neural collaborative filtering: each user's last interaction, ranked among 99 other items (He et al. 2017)",
        {"exclude_seen": False, "ties": "expected", "split": "test", "audience": "users"},
        {"candidates": "sampled:99", "k": [5, 10]}, ("leave_last_out", "given")),
    "groups": PublishedProtocol(
        "group recommendation: each interaction of a group, ranked among 100 given items (Cao et al. 2018; ConsRec "
        "2023)",
        {"audience": "groups", "exclude_seen": False, "ties": "expected", "split": "test"}, {"k": [5, 10]},
        needs=("candidates", "group_id, item_id and negatives"))}
"""Values of the setting `protocol` of `evaluate`."""
