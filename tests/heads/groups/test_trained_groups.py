"""The heads trained on groups: hand-worked formulas, learning, and scores of groups and users."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.groups.attention import votes
from llmrec_cli.heads.groups.fusion import cosines
from llmrec_cli.heads.groups.inputs import inputs_of, of_queries
from llmrec_cli.heads.groups.model import IdMasks
from llmrec_cli.heads.groups.steps import GroupSteps, num_steps
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.head import GroupAttentionSettings, GroupFusionSettings, GroupHypergraphSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import BceSettings, BprSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import TopLayersSettings
from tests.heads.group_shop import NUM_ITEMS, NUM_USERS, GroupShop, csr, entities, group_shop, hit_rate
from tests.heads.groups.test_group_inputs import PAST
from tests.some_slow import some_slow

CPU = torch.device("cpu")
SETTINGS = {"fusion": GroupFusionSettings(embedding_size=16, text=False, id_dropout=0.5),
            "attention": GroupAttentionSettings(embedding_size=16, attention_size=4, text=False, id_dropout=0.5),
            "hypergraph": GroupHypergraphSettings(embedding_size=16, layers=2, text=False, id_dropout=0.5)}
each = pytest.mark.parametrize("name", SETTINGS)
each_in_part = pytest.mark.parametrize("name", some_slow(SETTINGS))


@pytest.fixture(scope="module")
def friends() -> GroupShop:
    return group_shop()


@pytest.fixture(scope="module")
def trained(friends):
    return {name: friends.fit(friends.config(settings)) for name, settings in SETTINGS.items()}


# Formulas.

def test_cosines_by_dot_products_are_those_of_the_vectors_themselves():
    groups, items, behaviour = (torch.randn(size, 5, generator=torch.Generator().manual_seed(size))
                                for size in (3, 7, 4))
    behaviour = behaviour[:3]
    actual = cosines(groups, items, behaviour)
    for q in range(3):
        for r in range(7):
            sum_E = groups[q] + items[r]
            cosine = sum_E @ behaviour[q] / (sum_E.norm() * behaviour[q].norm())
            torch.testing.assert_close(actual[q, r], cosine * behaviour[q].norm())


def test_votes_are_weighted_by_a_softmax_over_the_members_for_each_item():
    # Two members. Keys 1 and 0 meet the item's query log 3: weights 3/4 and 1/4; votes 2 and 6: 3/4 x 2 + 1/4 x 6 = 3.
    actual = votes(torch.tensor([0, 2, 2]), torch.tensor([[2.0], [6.0]]), torch.tensor([[1.0]]),
                  torch.tensor([[1.0], [0.0]]), torch.tensor([[np.log(3.0)]], dtype=torch.float32))
    torch.testing.assert_close(actual, torch.tensor([[3.0], [0.0]]))


@pytest.mark.slow
def test_attention_by_parts_of_the_catalogue_is_attention_over_all_of_it(friends, trained, monkeypatch):
    head, queries = trained["attention"], friends.known_groups()
    whole = head.score(queries)
    monkeypatch.setattr("llmrec_cli.heads.groups.attention.MEMBERS", 7)
    monkeypatch.setattr("llmrec_cli.heads.groups.attention.ITEMS", 5)
    torch.testing.assert_close(head.score(queries), whole)


@pytest.mark.slow
def test_overlapping_groups_are_weighted_by_their_shared_members(trained):
    # A list of users 0 and 1 shares two members with A and one with B: (2 A + B) / 3.
    inputs = inputs_of(PAST, csr([[0, 1]], 2), np.array([0, 1]), csr([[], []], 4), csr([[]], 4), np.array([-1]), CPU)
    model = build(group_shop().config(replace(SETTINGS["hypergraph"], layers=1))).model_class
    one = object.__new__(model)
    torch.nn.Module.__init__(one)
    one.settings = replace(SETTINGS["hypergraph"], layers=1)
    actual = one.overlapping(inputs, torch.tensor([[3.0], [9.0]]))
    torch.testing.assert_close(actual, torch.tensor([[5.0]]))
    # Two layers: A's members get A, and (A + B) / 2: A becomes (3 + (3 + 6) / 2) / 2 = 3.75, B (9 + (6 + 9) / 2) / 2.
    one.settings = replace(SETTINGS["hypergraph"], layers=2)
    torch.testing.assert_close(one.overlapping(inputs, torch.tensor([[3.0], [9.0]])),
                               torch.tensor([[(2 * 3.75 + 8.25) / 3]]))


# Learning.

@each
def test_a_head_learns_what_groups_choose_far_beyond_popularity(friends, trained, name):
    popularity = hit_rate(np.tile(friends.data.groups.interactions.item_counts, (40, 1)).astype(float), friends)
    assert hit_rate(trained[name].score(friends.known_groups()).numpy(), friends) > popularity + 0.25


@pytest.mark.parametrize(("name", "loss"),
                         [("fusion", BprSettings(num_negatives=16)), ("attention", BceSettings(num_negatives=16)),
                                            ("hypergraph", SoftmaxSettings(num_negatives=8))],
                         ids=("bpr", "bce", "softmax"))
def test_a_group_head_learns_with_sampled_negatives(friends, name, loss):
    logged = []
    friends.fit(friends.config(SETTINGS[name], loss=loss,
                               optim=AdamWSettings(epochs=3, batch_size=128, learning_rate=0.03)),
                validates=False,
                log=lambda event, **values: logged.append(values["loss"]) if event == "step" else None)
    assert np.mean(logged[-5:]) < 0.95 * np.mean(logged[:5])


@each
def test_an_ad_hoc_group_gets_items_of_its_members_taste(friends, trained, name):
    # Users 0, 8 and 16 have taste 0, users 2, 10 and 18 taste 1; neither list is a training group.
    scores = trained[name].score(friends.together([[0, 8, 16], [2, 10, 18]])).numpy()
    of_taste = scores.reshape(2, NUM_ITEMS // 4, 4).mean(axis=1)
    assert of_taste[0].argmax() == 0
    assert of_taste[1].argmax() == 1


@each
def test_the_same_model_scores_single_users(friends, trained, name):
    queries = friends.users()
    scores = trained[name].score(queries).numpy()
    assert scores.shape == (NUM_USERS, NUM_ITEMS)
    right = scores.reshape(NUM_USERS, NUM_ITEMS // 4, 4).mean(axis=1).argmax(axis=1) == np.arange(NUM_USERS) // 2 % 4
    assert right.mean() > 0.7


@each
def test_the_id_of_a_group_helps_but_is_not_needed(friends, trained, name):
    members = [list(friends.data.groups.members[[group]].indices) for group in range(40)]
    history = friends.data.groups.interactions.matrix
    histories = [list(history[[group]].indices) for group in range(40)]
    without_id = trained[name].score(friends.together(members, histories=histories)).numpy()
    with_id = trained[name].score(friends.known_groups()).numpy()
    assert not np.allclose(without_id, with_id)
    assert hit_rate(without_id, friends) > hit_rate(with_id, friends) - 0.2


@each
def test_scores_do_not_depend_on_other_queries_or_block_size(friends, trained, name, monkeypatch):
    head, queries = trained[name], friends.known_groups()
    whole = head.score(queries)
    torch.testing.assert_close(head.score(queries.rows(slice(3, 4))), whole[3:4], rtol=1e-4, atol=1e-5)
    users = head.score(friends.users())
    for limit, size in (("MEMBERSHIPS", 7), ("CELLS", 3 * NUM_ITEMS)):
        monkeypatch.setattr(f"llmrec_cli.heads.groups.trained.{limit}", size)
        torch.testing.assert_close(head.score(queries), whole, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(head.score(friends.users()), users, rtol=1e-4, atol=1e-5)


@each
def test_a_list_without_members_or_of_unknown_ones_gets_finite_scores(friends, trained, name):
    assert torch.isfinite(trained[name].score(friends.together([[]]))).all()
    nobody = friends.together([[], [0]])
    members = nobody.groups.members
    unknown = replace(nobody, groups=replace(nobody.groups, members=replace(members, user=np.full(len(members), -1))))
    scores = trained[name].score(unknown)
    assert torch.isfinite(scores).all()
    assert scores.shape == (2, NUM_ITEMS)


@each
def test_a_loaded_group_head_scores_the_same(friends, trained, name):
    head = trained[name]
    again = build(head.tuned_config())
    again.load(head.state(), friends.data.users, friends.data.items, Context(CPU, 0))
    assert torch.equal(again.score(friends.known_groups()), head.score(friends.known_groups()))
    assert torch.equal(again.score(friends.users()), head.score(friends.users()))


@each_in_part
def test_the_same_seed_gives_the_same_bits(friends, trained, name):
    again = friends.fit(friends.config(SETTINGS[name])).state()
    for key, value in trained[name].state().items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


@each
def test_id_dropout_masks_exactly_the_dropped_ids(friends, trained, name):
    model, queries = trained[name].model, friends.known_groups([0, 1])
    inputs = of_queries(trained[name].past, queries, CPU)
    no_ids = IdMasks(torch.zeros(len(inputs.user)), torch.zeros(2))
    none, both = (model.of_group(inputs, masks) for masks in (no_ids, IdMasks(no_ids.users, torch.ones(2))))
    assert not none.any()
    torch.testing.assert_close(both, model.group_ids.weight[:2])
    items = model.items(None, None, NUM_ITEMS)
    away = model.members(inputs, items) - model.members(inputs, items, no_ids)
    torch.testing.assert_close(away, model.user_ids.weight[inputs.user[inputs.place]], rtol=1e-4, atol=1e-6)


# Texts and features.

@pytest.fixture(scope="module")
def encoder(tiny_encoder) -> HuggingFaceSettings:
    return HuggingFaceSettings(path=str(tiny_encoder), max_length=16)


def test_added_items_are_scored_by_their_text(friends, encoder):
    settings = replace(SETTINGS["hypergraph"], text=True, item_id_dropout=0.5)
    head = friends.fit(friends.config(settings, encoder=encoder))
    head.add_items(entities([f"new {n}" for n in range(8)], friends.data.items.texts[:8]))
    scores = head.score(friends.known_groups()).numpy()
    assert scores.shape == (40, NUM_ITEMS + 8)
    right = scores[:, NUM_ITEMS:].reshape(40, 2, 4).mean(axis=1).argmax(axis=1) == np.arange(40) % 4
    assert right.mean() > 0.6
    assert head.score_text(np.array(["robot galaxy"], object)).shape == (1, NUM_ITEMS + 8)


def test_an_encoder_in_the_loop_is_trained(friends, encoder):
    settings = replace(SETTINGS["attention"], text=True, encoded_items=8)
    short = AdamWSettings(epochs=1, batch_size=64, learning_rate=0.01)
    frozen, tuned = (friends.fit(friends.config(settings, encoder=encoder, optim=short, **changed)).state()
                     for changed in ({}, {"peft": TopLayersSettings(num_layers=1)}))
    assert np.abs(frozen["texts.raw_table"] - tuned["texts.raw_table"]).max() > 1e-3


def test_group_texts_are_used_also_those_of_new_groups(friends, encoder):
    settings = replace(SETTINGS["fusion"], group_text=True)
    head = friends.fit(friends.config(settings, encoder=encoder))
    without_text = friends.together([[0], [0]])
    with_text = replace(without_text, texts=np.array(["friends of robot galaxy", "friends of clown circus"], object))
    assert torch.equal(head.score(without_text)[0], head.score(without_text)[1])
    scores = head.score(with_text).numpy().reshape(2, NUM_ITEMS // 4, 4).mean(axis=1)
    assert scores[0, 0] - scores[0, 3] > scores[1, 0] - scores[1, 3]


@pytest.mark.slow
def test_item_words_are_features_without_an_encoder(friends):
    settings = replace(SETTINGS["hypergraph"], features=FeatureWeightsSettings(words=1.0))
    head = friends.fit(friends.config(settings))
    assert np.abs(head.state()["model.sparse_FE"]).max() > 0
    again = build(head.tuned_config())
    again.load(head.state(), friends.data.users, friends.data.items, Context(CPU, 0))
    assert torch.equal(again.score(friends.known_groups()), head.score(friends.known_groups()))


# Refusals.

@each
def test_data_without_groups_is_refused(friends, name):
    head = build(friends.config(SETTINGS[name]))
    with pytest.raises(DataError, match=f"head=group_{name}: the prepared data has no groups; prepare with dataset.gr"):
        head.fit(replace(friends.data, groups=None), Context(CPU, 0))
    idle = friends.data.groups.rows(np.zeros(len(friends.data.groups.interactions), bool))
    with pytest.raises(DataError, match="no group has training interactions"):
        head.fit(replace(friends.data, groups=idle), Context(CPU, 0))


def test_settings_without_an_effect_are_refused():
    problems = list(GroupFusionSettings(text=False, popularity=False, item_id_dropout=0.5, encoded_items=4).problems())
    assert [line.split("=")[0] for line in problems] == ["item_id_dropout", "encoded_items", "certainty"]
    cosine, dot = SoftmaxSettings(similarity="cosine"), SoftmaxSettings(similarity="dot")
    assert "loss.similarity=cosine" in next(GroupAttentionSettings().problems_with(cosine))
    assert "loss.similarity=dot" in next(GroupFusionSettings().problems_with(dot))
    assert "text=true" in next(GroupHypergraphSettings(features=FeatureWeightsSettings(text=1.0)).problems())


def test_a_step_hides_at_most_a_tenth_and_an_epoch_targets_everything_once(friends):
    head = friends.fit(friends.config(SETTINGS["attention"], optim=AdamWSettings(epochs=1, batch_size=4096)))
    steps = GroupSteps(head.model, None, head.config, friends.data, None, None, CPU)
    batches = list(steps.batches(0, np.random.default_rng(0)))
    assert len(batches) == steps.num_batches == 10
    data = friends.data
    for kind, interactions in (("of_groups", data.groups.interactions), ("of_users", data.interactions)):
        rows = np.concatenate([getattr(batch, kind) for batch in batches])
        assert sorted(rows) == list(range(len(interactions)))
        assert max(len(getattr(batch, kind)) for batch in batches) <= len(interactions) / 10 + 1


def tasks(friends, settings):
    """Yield each batch of an epoch with its tasks."""
    head = friends.fit(friends.config(settings, optim=AdamWSettings(epochs=1, batch_size=4096)))
    steps = GroupSteps(head.model, None, head.config, friends.data, None, None, CPU)
    generator = np.random.default_rng(0)
    for batch in steps.batches(0, generator):
        yield batch, steps._tasks(batch.of_groups, batch.of_users, steps.warm_items, generator)


def test_a_steps_targets_are_in_no_history_of_the_step(friends):
    groups, users = friends.data.groups.interactions, friends.data.interactions

    def row(bags, n):
        return bags.indices[bags.indptr[n]:bags.indptr[n + 1]].tolist()

    for batch, step_tasks in tasks(friends, SETTINGS["hypergraph"]):
        step_groups, step_users = (np.unique(one.user[of]).tolist() for one, of in
                                   ((groups, batch.of_groups), (users, batch.of_users)))
        for task in step_tasks:
            assert len(task.inputs.past_history.indices) == len(groups) - len(batch.of_groups)
        for n in batch.of_groups:
            group, item = int(groups.user[n]), int(groups.item[n])
            assert item not in row(step_tasks[0].inputs.own, step_groups.index(group))
            assert all(item not in row(task.inputs.past_history, group) for task in step_tasks)
        for n in batch.of_users:
            user, item = int(users.user[n]), int(users.item[n])
            assert item not in row(step_tasks[-1].inputs.history, step_users.index(user))


def test_ids_are_hidden_in_a_step_as_often_as_the_setting_says(friends):
    for chance in (0.0, 0.5):
        masks = [task.masks for _, step_tasks in tasks(friends, replace(SETTINGS["attention"], id_dropout=chance))
                 for task in step_tasks if task.of_groups]
        for kind_masks in zip(*masks, strict=True):
            assert abs(float(torch.cat(kind_masks).mean()) - (1 - chance)) <= 0.15 * (chance > 0)


def test_estimated_memory_counts_nine_copies_of_a_steps_scores_and_one_of_the_histories(friends):
    data, size = friends.data, 4
    settings = GroupHypergraphSettings(embedding_size=size, layers=1, text=False)
    config = replace(friends.config(settings), loss=SoftmaxSettings(), optim=AdamWSettings(batch_size=10**6))
    groups, users = data.groups, len(data.interactions)
    steps = num_steps(len(groups.interactions), users, 10**6)
    of_groups, of_users = -(-len(groups.interactions) // steps), -(-users // steps)
    members = min(of_groups, len(groups)) * groups.members.nnz / len(groups)
    scores = 9 * (of_groups + of_users) * len(data.items)
    rows = len(data.users) + len(data.items) + len(groups)
    step = int(4 * (scores + members * 8 * size)) + 25 * users
    assert build(config).estimate_memory(data) == 4 * 5 * size * rows + step
