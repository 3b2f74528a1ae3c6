"""What every head promises about groups, asked of every head; those for groups are fitted on groups."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec_cli.data.groups import KnownGroups
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.data.queries import Queries
from llmrec_cli.heads.artifact import load_recommender, save_recommender
from llmrec_cli.heads.base import Head, build
from llmrec_cli.requests.queries import raw_queries
from llmrec_cli.requests.resolve import resolve
from llmrec_cli.scoring.groups import STRATEGIES as OF_MEMBERS
from llmrec_cli.scoring.groups import by_members, scaled
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.head import STRATEGIES, Ease, GroupAggregate, Recipe
from llmrec_cli.settings.heads.features import FeatureWeights
from llmrec_cli.settings.heads.groups import GroupAttention, GroupFusion, GroupHypergraph
from llmrec_cli.settings.optim import AdamW
from tests.heads.conftest import NAMES, Shop, recipes

TRAINED = ("group_fusion", "group_attention", "group_hypergraph")
AGGREGATES = tuple(f"group_aggregate_{strategy}" for strategy in STRATEGIES)
# One of each kind: what they do about groups does not depend on encoder and loss.
PLAIN = ("popularity", "item_knn", "user_knn", "ease", "ials", "mf", "neural_cf", "factorization_machine",
         "two_tower_frozen", "sequential_ids", "content", "item_similarity", "fusion")
every_head = pytest.mark.parametrize("name", [*PLAIN, *AGGREGATES, *TRAINED])


@pytest.fixture(scope="module")
def club(tmp_path_factory: pytest.TempPathFactory, prepare_tiny: list[str], tiny_encoder: Path, shop: Shop) -> Shop:
    """The tiny shop with groups of users of like taste."""
    from llmrec_cli import cli

    folder = tmp_path_factory.mktemp("club")
    with contextlib.chdir(folder):
        assert cli.run(["prepare", *prepare_tiny, "dataset.synthetic_groups=similar", "dataset.num_groups=30",
                        "dataset.group_size=[2,5]"]) == 0
    return Shop(read_prepared(folder / "data" / "prepared" / "tiny"), shop.encoder)


def group_recipes(club: Shop) -> dict[str, Recipe]:
    """Return the heads made for groups."""
    longer = AdamW(epochs=20, batch_size=64, learning_rate=0.02)
    base = {"base": club.recipe(Ease(l2=20, features=FeatureWeights(attributes=3.0)))}
    aggregates = {f"group_aggregate_{strategy}": club.recipe(GroupAggregate(
        members=base, strategy=strategy, **({"depth": 8} if strategy in ("approval", "fair_greedy", "fair_proportional")
                                            else {}))) for strategy in STRATEGIES}
    return aggregates | {"group_fusion": club.recipe(GroupFusion(embedding_size=16), optim=longer),
                         "group_attention": club.recipe(GroupAttention(embedding_size=16), optim=longer),
                         "group_hypergraph": club.recipe(GroupHypergraph(embedding_size=16), optim=longer)}


@pytest.fixture(scope="module")
def taught(club: Shop) -> Callable[[str], Head]:
    """Return a head by its name, fitted once on the club's data."""
    known, found = recipes(club) | group_recipes(club), {}

    def one(name: str) -> Head:
        if name not in found:
            found[name] = build(known[name])
            found[name].fit(club.data.training("train"),
                            club.context(validation=validation_of(club.data, "ndcg@10", "groups")))
        return found[name]

    return one


def ask(club: Shop, *queries: dict[str, object]) -> Queries:
    """Return queries of users and groups, as `recommend` makes them."""
    groups, train = club.data.groups("train"), club.data.part("train").matrix
    history = groups.interactions.matrix
    known = KnownGroups(groups.entities, groups.members, history, history)

    def each(key, nothing):
        return [query.get(key, nothing) for query in queries]

    named = raw_queries(each("user_id", ""), histories=each("history", []), ids=[f"q{n}" for n in range(len(queries))],
                  group_ids=each("group_id", ""), members=each("members", []))
    return resolve(named, club.data.users, club.data.items, train, train, known)[0]


def everybody(club: Shop) -> Queries:
    return ask(club, *({"group_id": key} for key in club.data.groups("train").entities.ids))


def test_the_heads_asked_here_are_among_those_of_the_other_conformance_tests() -> None:
    assert set(PLAIN) <= set(NAMES)


@every_head
def test_scores_of_groups_are_finite_and_do_not_depend_on_who_else_asks(taught, club, name):
    head, queries = taught(name), everybody(club)
    together = head.score(queries)
    assert together.shape == (len(queries), len(club.data.items))
    assert together.dtype == torch.float32
    assert torch.isfinite(together).all()
    for block in (slice(0, 1), slice(4, 11)):
        torch.testing.assert_close(head.score(queries.rows(block)), together[block], rtol=1e-4, atol=1e-5)
    assert torch.equal(head.score(queries), together)


@pytest.mark.parametrize("name", [*PLAIN, *AGGREGATES])
def test_a_group_of_one_gets_its_members_list(taught, club, name):
    head, ids = taught(name), club.data.users.ids[:20]
    groups, users = ask(club, *({"members": [key]} for key in ids)), ask(club, *({"user_id": key} for key in ids))
    ranks = item_hash_ranks(club.data.items.ids)
    ours, theirs = (recommend_lists(head.score, asking, 10, ranks, exclude_seen=False) for asking in (groups, users))
    if name == "popularity":  # What groups chose together is not what users chose.
        assert (ours.items_QK == ours.items_QK[0]).all()
        return
    # Scaling may make two scores of a hair's breadth equal.
    assert (ours.items_QK == theirs.items_QK).mean() > 0.98
    assert (ours.items_QK[:, 0] == theirs.items_QK[:, 0]).all()


@every_head
def test_a_member_named_twice_counts_once_and_unknown_members_not_at_all(taught, club, name):
    queries = ask(club, {"members": ["u1", "u2"]}, {"members": ["u2", "nobody", "u1", "u2"]})
    scores = taught(name).score(queries)
    torch.testing.assert_close(scores[0], scores[1])


@every_head
def test_the_order_in_which_members_are_named_does_not_matter(taught, club, name):
    scores = taught(name).score(ask(club, {"members": ["u1", "u2", "u9"]}, {"members": ["u9", "u1", "u2"]}))
    torch.testing.assert_close(scores[0], scores[1])


@every_head
def test_a_group_of_unknown_members_gets_finite_scores(taught, club, name):
    scores = taught(name).score(ask(club, {"members": ["nobody", "no one"]}, {"members": ["u1"]}))
    assert torch.isfinite(scores).all()


@every_head
def test_users_and_groups_in_one_block_get_what_they_would_get_apart(taught, club, name):
    head = taught(name)
    mixed = head.score(ask(club, {"user_id": "u3"}, {"members": ["u1", "u2"]}, {"user_id": "u4"}))
    torch.testing.assert_close(mixed[[0, 2]], head.score(ask(club, {"user_id": "u3"}, {"user_id": "u4"})),
                               rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mixed[1], head.score(ask(club, {"members": ["u1", "u2"]}))[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in (*PLAIN, *AGGREGATES, *TRAINED) if n != "popularity"])
def test_people_of_one_taste_are_recommended_what_goes_with_it(taught, club, name):
    # Users love the genre `number % 4`; items have the genre `number % 4`.
    queries = ask(club, *({"members": [f"u{genre + 4 * n}" for n in range(4)]} for genre in range(4)))
    lists = recommend_lists(taught(name).score, queries, 8, item_hash_ranks(club.data.items.ids))
    own = sum(int(club.data.items.ids[item][1:]) % 4 == genre
              for genre, items in enumerate(lists.items_QK) for item in items)
    assert own > 14  # Chance is 8 of 32.


@pytest.mark.parametrize("name", ["ease", *AGGREGATES[:2], *TRAINED])
def test_a_saved_head_answers_groups_with_the_same_bits_and_knows_them(taught, club, name, tmp_path):
    head = taught(name)
    save_recommender(tmp_path / "model", head, club.data, ("train",), {"metrics": {}})
    loaded = load_recommender(tmp_path / "model", club.context(validation=None))
    queries = everybody(club)
    assert torch.equal(loaded.head.score(queries), head.score(queries))
    groups = club.data.groups("train")
    assert loaded.groups.entities.ids.tolist() == groups.entities.ids.tolist()
    assert (loaded.groups.members != groups.members).nnz == 0
    assert (loaded.groups.history != groups.interactions.matrix).nnz == 0
    assert loaded.groups.synthetic == "similar"


@pytest.mark.parametrize("name", TRAINED)
def test_the_same_seed_gives_the_same_bits(taught, club, name):
    again = build(group_recipes(club)[name])
    again.fit(club.data.training("train"), club.context(validation=validation_of(club.data, "ndcg@10", "groups")))
    first = taught(name).state()
    for key, value in again.state().items():
        np.testing.assert_array_equal(first[key], value, err_msg=key)


def test_an_aggregate_heeds_its_strategy_its_depth_and_whether_the_group_speaks_itself(club: Shop) -> None:
    queries, data = everybody(club), club.data.training("train")
    for own_history in (True, False):
        for strategy, depth in (("least_misery", 50), ("approval", 2), ("approval", 8)):
            settings = GroupAggregate(members={"base": club.recipe(Ease(l2=20))}, strategy=strategy, depth=depth,
                                      own_history=own_history)
            head = build(club.recipe(settings))
            head.fit(data, club.context())
            expected = by_members(head.members["base"].score_users, queries, OF_MEMBERS[strategy], depth=depth,
                                  own_history=own_history)
            torch.testing.assert_close(head.score(queries), scaled(expected))
