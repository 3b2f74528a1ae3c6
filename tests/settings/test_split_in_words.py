"""The split in the words of the report."""

import pytest

from llmrec_cli.settings.base import to_plain
from llmrec_cli.settings.split import SPLITS, describe_split


@pytest.mark.parametrize(("kind", "changes", "words"), [
    ("random", {}, "random interactions of each user: 10% for validation, 10% for test (seed 42)"),
    ("cold_items", {"valid": 0.07, "test": 0.125},
     "random items with all their interactions: 7% for validation, 12.5% for test (seed 42)"),
    ("cold_users", {"seed": 3},
     "random users with all their interactions: 10% for validation, 10% for test (seed 3)"),
    ("leave_last_out", {}, "each user's last interaction for test, the one before it for validation"),
    ("given", {"leaks": "drop"},
     "given by the input files; pairs in several splits are kept in the earliest only"),
    ("given", {"valid": 0.1}, "given by the input files; 10% of the training file for validation (seed 42)"),
    ("none", {}, "nothing is held out"),
    ("temporal", {"group": "leave_last_out"},
     "by time, with the same cutoffs for all users; interactions of groups: leave last out")])
def test_every_split_is_described_in_words(kind, changes, words):
    assert describe_split(to_plain(SPLITS[kind](**changes)), "s") == words


@pytest.mark.parametrize(("unit", "words"), [
    ("ms", "validation from 2024-05-01 00:00 UTC; test from 2024-05-31 12:30 UTC"),
    ("order", "validation from position 1,714,521,600,000; test from position 1,717,158,600,000")])
def test_the_cutoffs_of_a_temporal_split_are_times_or_positions(unit, words):
    split = {"kind": "temporal", "cutoff": {"test": 1_717_158_600_000, "valid": 1_714_521_600_000}}
    assert describe_split(split, unit) == f"by time, with the same cutoffs for all users; {words}"


def test_a_split_of_a_plugin_has_its_name():
    assert describe_split({"kind": "by_country", "countries": ["fr"]}, "s") == "by country"
