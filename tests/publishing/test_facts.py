"""The numbers that the gate judges, against brute force and by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.publishing.facts import list_facts, loss


def write(file: Path, lists: dict[str, list[str]]) -> Path:
    """Write lists, query -> items."""
    rows = [(query, rank, item) for query, items in lists.items() for rank, item in enumerate(items, 1)]
    names = ("query_id", "rank", "item_id")
    pq.write_table(pa.table({name: [row[n] for row in rows] for n, name in enumerate(names)}), file)
    return file


def test_the_numbers_of_lists_worked_by_hand(tmp_path: Path) -> None:
    before = write(tmp_path / "before.parquet", {"u": ["a", "b"], "v": ["a", "c"], "gone": ["a", "b"]})
    lists = write(tmp_path / "now.parquet", {"u": ["a", "b"], "v": ["b", "d"], "w": ["a", "b"], "x": ["z"]})
    facts = list_facts(lists, 2, np.array(["a", "b", "c", "d"], object), 5, before)
    # One of five queries has no list, one of four lists is short, and u and w have the same.
    assert facts["empty_share"] == pytest.approx(0.2)
    assert facts["short_share"] == 0.25
    assert facts["same_share"] == 0.5
    assert (facts["covered_items"], facts["unknown_items"]) == (4, 1)
    # u keeps a and b, v none of a and c.
    assert facts["kept_share"] == 0.5


def test_gini_is_the_mean_difference_of_counts_over_the_whole_catalogue(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lists = {f"u{n}": [f"i{m}" for m in rng.choice(20, 5, replace=False, p=np.arange(1, 21) / 210)] for n in range(30)}
    catalogue = np.array([f"i{m}" for m in range(25)], object)
    counts = np.array([sum(item in items for items in lists.values()) for item in catalogue])
    expected = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert list_facts(write(tmp_path / "l.parquet", lists), 5, catalogue, 30, None)["gini"] == pytest.approx(expected)


def test_a_loss_counts_only_beyond_its_interval() -> None:
    # Differences of -.1 with deviations of .1 over 100 queries: an upper end of about -.1 + .0197.
    theirs = np.full(100, 0.5)
    ours = theirs - 0.1 + 0.1 * np.tile([1.0, -1.0], 50)
    assert loss(ours, theirs) == pytest.approx((0.1 - 1.959964 * 0.1 * np.sqrt(100 / 99) / 10) / 0.5)
    assert loss(theirs, ours) == 0
    assert loss(theirs + 0.01 * np.tile([1.0, -1.0], 50), theirs) == 0
    assert loss(np.array([0.5]), np.array([0.4])) is None
    assert loss(np.array([np.nan, 0.2, 0.2]), np.array([0.4, 0.4, 0.4])) == pytest.approx(0.5)
