"""Every head passes the group checks; group heads pass all checks, fitted on groups."""

import contextlib
from collections.abc import Callable

import pytest
import torch

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.heads.base import Head, build
from llmrec_cli.scoring.groups import STRATEGIES as OF_MEMBERS
from llmrec_cli.scoring.groups import scaled, score_by_members
from llmrec_cli.settings.head import HEADS, STRATEGIES, EaseSettings, GroupAggregateSettings
from llmrec_cli.testing.groups import GROUP_CHECKS
from llmrec_cli.testing.heads import HEAD_CHECKS, HeadCase, values_and_ages_of_interactions_change_the_scores
from llmrec_cli.testing.shop import GROUPS, Shop
from llmrec_cli.testing.suite import examples_of, require_all
from tests.heads.conftest import USER_HEADS, cases_of
from tests.some_slow import some_slow

TRAINED = ("group_fusion", "group_attention", "group_hypergraph")
AGGREGATES = tuple(f"group_aggregate_{strategy}" for strategy in STRATEGIES)
FOR_GROUPS = tuple(examples_of("head", [name for name in HEADS if name not in USER_HEADS]))
# A user head's group behaviour does not depend on encoder and loss, so its first example is enough.
PLAIN = tuple(next(iter(examples_of("head", [name]))) for name in USER_HEADS)


@pytest.fixture(scope="module")
def club(tmp_path_factory: pytest.TempPathFactory, prepare_tiny: list[str], shop: Shop) -> Shop:
    """The tiny shop with groups of users of similar taste."""
    from llmrec_cli import cli

    folder = tmp_path_factory.mktemp("club")
    with contextlib.chdir(folder):
        assert cli.run(["prepare", *prepare_tiny, *GROUPS]) == 0
    return Shop(read_prepared(folder / "data" / "prepared" / "tiny"), shop.encoder)


@pytest.fixture(scope="module")
def group_case(club: Shop) -> Callable[[str], HeadCase]:
    """Return a function from an example's name to its case on the club's data."""
    return cases_of(club)


@pytest.fixture(scope="module")
def taught(group_case: Callable[[str], HeadCase]) -> Callable[[str], Head]:
    """Return a function from an example's name to its head, fitted once on the club's data."""
    return lambda name: group_case(name).head


@pytest.mark.parametrize("name", some_slow(sorted([*PLAIN, *FOR_GROUPS], key="interest".__eq__),
                                           len(PLAIN) + len(FOR_GROUPS) - 1))
def test_every_head_keeps_its_promises_about_groups(group_case, name):
    require_all({name: group_case(name)}, GROUP_CHECKS)


# tests/heads/test_interaction_weights.py tests weights and ages.
CHECKS = [check for check in HEAD_CHECKS if check is not values_and_ages_of_interactions_change_the_scores]


@pytest.mark.parametrize("name", FOR_GROUPS)
def test_every_head_for_groups_keeps_every_promise(group_case, name):
    require_all({name: group_case(name)}, CHECKS)


def test_learns_groups_is_true_exactly_for_trained_group_heads(group_case):
    for name in (*PLAIN, *FOR_GROUPS):
        assert group_case(name).head.learns_groups == (name in TRAINED), name


@pytest.mark.parametrize("name", ["ease", *AGGREGATES[:2], *TRAINED])
def test_a_saved_head_answers_groups_with_the_same_bits_and_knows_them(taught, club, name, tmp_path):
    head = taught(name)
    save_recommender(tmp_path / "model", head, club.data, ("train",), {"metrics": {}})
    loaded = load_recommender(tmp_path / "model", club.context(validation=None))
    queries = club.all_groups()
    assert torch.equal(loaded.head.score(queries), head.score(queries))
    groups = club.data.groups("train")
    assert loaded.groups.entities.ids.tolist() == groups.entities.ids.tolist()
    assert (loaded.groups.members != groups.members).nnz == 0
    assert (loaded.groups.history != groups.interactions.matrix).nnz == 0
    assert loaded.groups.synthetic == "similar"


def test_an_aggregate_uses_its_strategy_depth_and_own_history(club: Shop) -> None:
    queries, data = club.all_groups(), club.data.training("train")
    for own_history in (True, False):
        for strategy, depth in (("least_misery", 50), ("approval", 2), ("approval", 8)):
            settings = GroupAggregateSettings(members={"base": club.config(EaseSettings(l2=20))}, strategy=strategy,
                                              depth=depth,
                                              own_history=own_history)
            head = build(club.config(settings))
            head.fit(data, club.context())
            expected = score_by_members(head.members["base"].score_users, queries, OF_MEMBERS[strategy], depth=depth,
                                        own_history=own_history)
            torch.testing.assert_close(head.score(queries), scaled(expected))
