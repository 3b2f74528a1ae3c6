"""Kills and power cuts at random moments do not change weights, optimiser state or results (1 to 4, 8)."""

import pytest

from tests.training.killing import forked, outcome, survive, whole_run


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Files, number of operations and seconds of an uninterrupted run."""
    return whole_run(tmp_path_factory.mktemp("whole") / "run")


def test_1_two_runs_that_nobody_kills_are_the_same_bytes(tmp_path, expected):
    assert forked(tmp_path, resumed=False) == 0
    assert outcome(tmp_path) == expected[0]
    assert {"final.safetensors", "trained.json", "checkpoints/step-000012/state.safetensors"} <= expected[0].keys()


def test_1_to_4_and_8_a_dozen_random_kills_change_no_bit(tmp_path, expected):
    assert survive(12, tmp_path / "run", *expected) == []


@pytest.mark.faults
def test_1_to_4_and_8_a_thousand_random_kills_change_no_bit(tmp_path, expected):
    assert survive(1000, tmp_path / "run", *expected, seed=100) == []
