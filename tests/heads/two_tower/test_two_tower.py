"""Two towers: learning with every loss, adapter and adversary."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import build
from llmrec_cli.heads.shared.history_vectors import history_sums, history_vectors, weight_sums
from llmrec_cli.heads.two_tower.steps import TowerSteps
from llmrec_cli.heads.two_tower.towers import Pooling, Towers, age_bucket, ages
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.adversarial import FgmSettings, NoAdversarySettings
from llmrec_cli.settings.head import ModelConfig, PopularitySettings, TwoTowerSettings
from llmrec_cli.settings.loss import BceSettings, MseSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings, LoraSettings, NoPeftSettings, TopLayersSettings
from tests.heads.by_hand import training

SMALL = TwoTowerSettings(embedding_size=16, dropout=0.1)
LONGER = AdamWSettings(epochs=20, batch_size=128, learning_rate=0.02, patience=20)


def losses_of(shop, config):
    """Return the training loss of each step of one epoch, and the fitted head."""
    logged = []
    head = shop.fit(replace(config, optim=AdamWSettings(epochs=1, batch_size=128, learning_rate=0.01)),
                    log=lambda event, **values: logged.append(values["loss"]) if event == "step" else None)
    return logged, head


@pytest.mark.parametrize("loss",
                         [SoftmaxSettings(), SoftmaxSettings(similarity="dot"), BceSettings(),
                          BceSettings(similarity="dot"), MseSettings(),
                                  MseSettings(similarity="dot")], ids=lambda loss: f"{loss.kind}-{loss.similarity}")
def test_every_loss_and_similarity_learns_far_more_than_popularity(shop, loss):
    value = shop.context().validation
    popularity = value(shop.fit(shop.config(PopularitySettings())).score)
    assert value(shop.fit(shop.config(SMALL, loss=loss)).score) > popularity + 0.1


@pytest.mark.parametrize(("peft", "names"), [
    (NoPeftSettings(), "encoder.embeddings"), (FrozenSettings(), None), (TopLayersSettings(num_layers=1), "layer.3."),
    (LoraSettings(rank=2, num_layers=1), "lora_")], ids=lambda peft: getattr(peft, "kind", ""))
def test_only_the_peft_parameters_are_trained_and_saved(shop, peft, names):
    _, head = losses_of(shop, shop.config(replace(SMALL, encoded_items=16), peft=peft))
    saved = [name for name in head.state() if name.startswith("encoder.")]
    assert bool(saved) == (names is not None)
    assert all("lora_" in name for name in saved) or names != "lora_"
    assert any(names in name for name in saved) or names is None


def test_training_the_encoder_changes_the_vectors_of_the_texts(shop):
    _, frozen = losses_of(shop, shop.config(SMALL))
    _, trained = losses_of(shop, shop.config(SMALL, peft=TopLayersSettings(num_layers=1)))
    first, second = frozen.state()["texts.raw_table"], trained.state()["texts.raw_table"]
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("peft", [FrozenSettings(), LoraSettings(rank=2, num_layers=1)], ids=["frozen", "lora"])
def test_an_adversary_adds_its_loss_and_changes_the_model(shop, peft):
    plain, head = losses_of(shop, shop.config(SMALL, peft=peft, adversarial=NoAdversarySettings()))
    attacked, other = losses_of(shop, shop.config(SMALL, peft=peft, adversarial=FgmSettings(epsilon=0.1)))
    # The first step starts from the same weights: the clean loss, and the adversarial loss, which is no smaller.
    assert attacked[0] > 1.9 * plain[0]
    assert (head.state()["towers.text.weight"] != other.state()["towers.text.weight"]).any()


def test_cold_items_are_reachable(shop):
    head = shop.fit(shop.config(SMALL))
    lists = recommend_lists(head.score, shop.known_users(), 10, item_hash_ranks(shop.data.items.ids))
    cold = np.flatnonzero([key.startswith("c") for key in shop.data.items.ids])
    assert len(cold) == 4
    assert np.isin(lists.items_QK, cold).any()


def test_an_items_place_in_the_catalogue_does_not_matter_when_it_is_added(shop):
    """A new item with the text of a known item scores like the known item without its id."""
    head = deepcopy(shop.fit(shop.config(replace(SMALL, id_scale=0.0), loss=MseSettings())))
    items = shop.data.items
    known = type(items)(np.array(["new"], object), items.titles[:1], items.texts[:1], items.attributes[:1],
                        items.attribute_names)
    head.add_items(known)
    scores = head.score(shop.known_users(num_added=1))
    # The encoder's padding depends on the other texts of a batch, which changes the last digits.
    torch.testing.assert_close(scores[:, -1], scores[:, 0], atol=1e-3, rtol=0)
    assert (scores[:, 1] - scores[:, 0]).abs().max() > 0.05


def test_early_stopping_chooses_an_epoch_and_a_refit_runs_exactly_as_long(shop):
    config = shop.config(SMALL, optim=AdamWSettings(epochs=12, batch_size=128, learning_rate=0.05, patience=1))
    logged = []
    head = shop.fit(config, log=lambda event, **values: logged.append(event))
    chosen = head.tuned_config().head.stop_after
    assert 1 <= chosen < 12
    assert logged.count("validation") == chosen + 1
    again = []
    shop.fit(head.tuned_config(), validation=None, log=lambda event, **values: again.append(event))
    assert again.count("step") == chosen * 4
    assert again.count("validation") == 0


def test_a_batch_of_a_user_who_knows_every_item_has_no_negatives_and_is_no_accident():
    config = ModelConfig(head=SMALL, encoder=None, peft=FrozenSettings(), adversarial=NoAdversarySettings(),
                         loss=BceSettings(),
                         optim=AdamWSettings(epochs=1, batch_size=2))
    nothing = np.empty((3, 0), np.int64)
    step = TowerSteps(Towers(3, 4, 8, SMALL, config.loss), Plain(4), config, training(np.ones((3, 4))).interactions,
                      None, nothing, torch.device("cpu"))
    for batch in step.batches(0, np.random.default_rng(0)):
        assert torch.isfinite(step.loss(batch))


class Plain:
    """Item texts as a table of random vectors, without an encoder."""

    def __init__(self, size):
        self.table = torch.randn(size, 8, generator=torch.Generator().manual_seed(0))

    def loss_with(self, live, rows, of, adversarial, attacked, logits=None):
        return of(self.table)


def test_the_batches_of_an_epoch_depend_on_epoch_and_seed_alone(shop):
    head = shop.fit(shop.config(SMALL, optim=AdamWSettings(epochs=1, batch_size=100)))
    nothing = np.empty((60, 0), np.int64)
    step = TowerSteps(head.towers, head.texts, head.config, shop.data.part("train"), None, nothing, torch.device("cpu"))

    def rows(seed):
        return [rows.tolist() for rows, _ in step.batches(0, np.random.default_rng(seed))]

    assert rows(1) == rows(1) != rows(2)
    assert sorted(row for batch in rows(1) for row in batch) == list(range(453))
    # 453 rows in steps of at most 100: five of nearly equal size, and no small rest.
    assert [len(batch) for batch in rows(1)] == [91, 91, 91, 90, 90]


def test_a_history_is_its_items_sum_over_the_root_of_their_number():
    items = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    sums = history_sums(items, torch.tensor([0, 1, 2, 2]), torch.tensor([0, 3, 3, 4]))
    assert sums.tolist() == [[4, 5], [0, 0], [3, 3]]
    vectors = history_vectors(sums, torch.tensor([3, 0, 1]))
    torch.testing.assert_close(vectors, torch.tensor([[4 / 3**0.5, 5 / 3**0.5], [0, 0], [3, 3]]))


def test_attention_over_a_history_equals_a_hand_worked_example():
    """Items (1, 0), (0, 2), (3, 3); q . v / sqrt(2) = 0, 2, 3 under the bound's tanh; a history of all three."""
    items, indices, indptr = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]), torch.tensor([0, 1, 2]), [0, 3]
    indptr = torch.tensor(indptr)
    pooling = Pooling(2, recency=True)
    with torch.no_grad():
        pooling.query_E.copy_(torch.tensor([0.0, 2**0.5]))
        pooling.ages[0], pooling.ages[1] = -3.0, -2.0
    # Ages 2, 1, 0 of the oldest to the newest, the first two in one bucket: logits 0 - 2, 2 - 2, 3 - 3.
    assert ages(indptr).tolist() == [2, 1, 0]
    weights = pooling(items, indices, ages(indptr))
    np.testing.assert_allclose(weights.detach(), [np.exp(4 * np.tanh(-0.5)), 1, 1], rtol=1e-6)
    with torch.no_grad():
        pooling.ages.zero_()
    weights = pooling(items, indices, ages(indptr))
    bounded = [np.exp(4 * np.tanh(logit / 4)) for logit in (0, 2, 3)]
    np.testing.assert_allclose(weights.detach(), bounded, rtol=1e-6)
    vector = history_vectors(history_sums(items, indices, indptr, weights), indptr.diff(), weight_sums(weights, indptr))
    by_hand = sum(w * np.array(v) for w, v in zip(bounded, items.tolist(), strict=True)) / sum(bounded) * 3**0.5
    np.testing.assert_allclose(vector.detach()[0], by_hand, rtol=1e-6)


def test_attention_starts_as_the_plain_sum_and_an_empty_history_is_zero():
    items, indices = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3, 4, 1])
    indptr = torch.tensor([0, 3, 3, 4])
    weights = Pooling(4, recency=True)(items, indices, ages(indptr))
    sums = history_sums(items, indices, indptr, weights)
    attended = history_vectors(sums, indptr.diff(), weight_sums(weights, indptr))
    torch.testing.assert_close(attended, history_vectors(history_sums(items, indices, indptr), indptr.diff()))
    assert attended[1].tolist() == [0.0] * 4


def test_ages_are_in_buckets_that_double():
    assert age_bucket(torch.tensor([0, 1, 2, 3, 6, 7, 14, 15, 100_000])).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 11]


def test_a_training_step_leaves_the_target_out_of_the_attention(shop):
    """The history of a row is the user's history without the target, except for the ages of the other items."""
    settings = replace(SMALL, history="attention")
    config = shop.config(settings, optim=AdamWSettings(epochs=1, batch_size=100))
    part = shop.data.part("train")
    towers = Towers(60, 44, 8, settings, config.loss)
    with torch.no_grad():
        towers.pooling.query_E.normal_(generator=torch.Generator().manual_seed(1))
    steps = TowerSteps(towers, Plain(44), config, part, None, np.empty((60, 0), np.int64), torch.device("cpu"))
    items = torch.randn(44, 16, generator=torch.Generator().manual_seed(2))
    rows = np.array([3, 200, 11])
    got = steps._others(rows, part.user[rows])(items, items[torch.from_numpy(part.item[rows])])
    for row, vector in zip(rows, got, strict=True):
        mine = part.matrix.indices[part.matrix.indptr[part.user[row]]:part.matrix.indptr[part.user[row] + 1]]
        others = torch.from_numpy(mine[mine != part.item[row]].astype(np.int64))
        indptr = torch.tensor([0, len(others)])
        weights = towers.pooling(items, others, ages(indptr))
        alone = history_vectors(history_sums(items, others, indptr, weights), indptr.diff(),
                                weight_sums(weights, indptr))
        torch.testing.assert_close(vector, alone[0], rtol=1e-4, atol=1e-5)


def test_every_part_of_the_user_tower_learns_far_more_than_popularity(shop):
    value = shop.context().validation
    popularity = value(shop.fit(shop.config(PopularitySettings())).score)
    for settings in (replace(SMALL, history="attention", recency=True), replace(SMALL, layers=[32])):
        assert value(shop.fit(shop.config(settings, optim=LONGER)).score) > popularity + 0.1


def with_profiles(shop):
    """Return the shop's training data with a text of each user that names the genre they love."""
    data = shop.data.training("train")
    words = np.array([" ".join(str(data.items.texts[user % 4]).split()[:6]) for user in range(60)], object)
    return replace(data, users=replace(data.users, texts=words))


def test_a_new_user_is_answered_by_a_profile_as_known_users_with_it_are(shop):
    head = build(shop.config(replace(SMALL, profile=True, dropout=0.6, id_dropout=0.5), optim=LONGER))
    data = with_profiles(shop)
    head.fit(data, shop.context())
    assert np.abs(head.state()["towers.profile.weight"]).max() > 0.01
    scores = head.score_text(data.users.texts[:4])
    genre = np.array([int(key[1:]) % 4 for key in data.items.ids])
    own = [float(scores[n][torch.from_numpy(genre == n)].mean() - scores[n].mean()) for n in range(4)]
    assert min(own) > 0
    again = build(head.tuned_config())
    again.load(head.state(), data.users, data.items, shop.context())
    torch.testing.assert_close(again.score_text(data.users.texts[:4]), scores, rtol=1e-4, atol=1e-4)
    assert torch.equal(again.score(shop.known_users()), head.score(shop.known_users()))


def test_profiles_without_a_text_of_any_user_are_refused(shop):
    data = shop.data.training("train")
    silent = replace(data, users=replace(data.users, texts=np.full(60, "", object)))
    with pytest.raises(DataError, match=r"head\.profile=true: no user in training has a text"):
        build(shop.config(replace(SMALL, profile=True))).fit(silent, shop.context())
