"""The two towers: what they learn, with every loss, adapter and adversary."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.heads.base import build
from llmrec_cli.heads.towers import Towers, history_sums, history_vectors
from llmrec_cli.heads.two_tower import _Step
from llmrec_cli.scoring.scorer import recommend_lists
from llmrec_cli.scoring.topk import item_hash_ranks
from llmrec_cli.settings.adversarial import Fgm, NoAdversary
from llmrec_cli.settings.head import Popularity, Recipe, TwoTower
from llmrec_cli.settings.loss import Bce, Mse, Softmax
from llmrec_cli.settings.optim import AdamW
from llmrec_cli.settings.peft import Frozen, Lora, NoPeft, TopLayers
from tests.heads.by_hand import training

SMALL = TwoTower(embedding_size=16, dropout=0.1)


def losses_of(shop, recipe):
    """Return the training loss of each step of one epoch, and the fitted head."""
    logged = []
    head = shop.fit(replace(recipe, optim=AdamW(epochs=1, batch_size=128, learning_rate=0.01)),
                    log=lambda event, **values: logged.append(values["loss"]) if event == "step" else None)
    return logged, head


@pytest.mark.parametrize("loss", [Softmax(), Softmax(similarity="dot"), Bce(), Bce(similarity="dot"), Mse(),
                                  Mse(similarity="dot")], ids=lambda loss: f"{loss.kind}-{loss.similarity}")
def test_every_loss_and_similarity_learns_far_more_than_popularity(shop, loss):
    value = shop.context().validation
    popularity = value(shop.fit(shop.recipe(Popularity())).score)
    assert value(shop.fit(shop.recipe(SMALL, loss=loss)).score) > popularity + 0.1


@pytest.mark.parametrize(("peft", "names"), [
    (NoPeft(), "encoder.embeddings"), (Frozen(), None), (TopLayers(num_layers=1), "layer.3."),
    (Lora(rank=2, num_layers=1), "lora_")], ids=lambda peft: getattr(peft, "kind", ""))
def test_only_what_peft_names_is_trained_and_saved(shop, peft, names):
    _, head = losses_of(shop, shop.recipe(replace(SMALL, encoded_items=16), peft=peft))
    saved = [name for name in head.state() if name.startswith("encoder.")]
    assert bool(saved) == (names is not None)
    assert all("lora_" in name for name in saved) or names != "lora_"
    assert any(names in name for name in saved) or names is None


def test_training_the_encoder_changes_the_vectors_of_the_texts(shop):
    _, frozen = losses_of(shop, shop.recipe(SMALL))
    _, trained = losses_of(shop, shop.recipe(SMALL, peft=TopLayers(num_layers=1)))
    first, second = frozen.state()["texts.raw_table"], trained.state()["texts.raw_table"]
    assert first.shape == second.shape
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("peft", [Frozen(), Lora(rank=2, num_layers=1)], ids=["frozen", "lora"])
def test_an_adversary_adds_the_loss_under_attack_and_changes_what_is_learned(shop, peft):
    plain, head = losses_of(shop, shop.recipe(SMALL, peft=peft, adversarial=NoAdversary()))
    attacked, other = losses_of(shop, shop.recipe(SMALL, peft=peft, adversarial=Fgm(epsilon=0.1)))
    # The first step is from the same weights: the clean loss, and one that the attack made no smaller.
    assert attacked[0] > 1.9 * plain[0]
    assert (head.state()["towers.text.weight"] != other.state()["towers.text.weight"]).any()


def test_cold_items_are_reachable(shop):
    head = shop.fit(shop.recipe(SMALL))
    lists = recommend_lists(head.score, shop.known(), 10, item_hash_ranks(shop.data.items.ids))
    cold = np.flatnonzero([key.startswith("c") for key in shop.data.items.ids])
    assert len(cold) == 4
    assert np.isin(lists.items_QK, cold).any()


def test_an_items_place_in_the_catalogue_does_not_matter_when_it_is_added(shop):
    """A new item with the text of a known one scores as that one does without its id."""
    head = deepcopy(shop.fit(shop.recipe(replace(SMALL, id_scale=0.0), loss=Mse())))
    items = shop.data.items
    known = type(items)(np.array(["new"], object), items.titles[:1], items.texts[:1], items.attributes[:1],
                        items.attribute_names)
    head.add_items(known)
    scores = head.score(shop.known(num_added=1))
    # The encoder pads a text differently in other company, which changes the last digits.
    torch.testing.assert_close(scores[:, -1], scores[:, 0], atol=1e-3, rtol=0)
    assert (scores[:, 1] - scores[:, 0]).abs().max() > 0.05


def test_early_stopping_chooses_an_epoch_and_a_refit_runs_exactly_as_long(shop):
    recipe = shop.recipe(SMALL, optim=AdamW(epochs=12, batch_size=128, learning_rate=0.05, patience=1))
    logged = []
    head = shop.fit(recipe, log=lambda event, **values: logged.append(event))
    chosen = head.chosen().head.stop_after
    assert 1 <= chosen < 12
    assert logged.count("validation") == chosen + 1
    again = []
    shop.fit(head.chosen(), validation=None, log=lambda event, **values: again.append(event))
    assert again.count("step") == chosen * 4
    assert again.count("validation") == 0


def test_a_batch_of_a_user_who_knows_every_item_has_no_negatives_and_is_no_accident():
    recipe = Recipe(head=SMALL, encoder=None, peft=Frozen(), adversarial=NoAdversary(), loss=Bce(),
                    optim=AdamW(epochs=1, batch_size=2))
    head = build(recipe)
    head.towers = Towers(3, 4, 8, SMALL, recipe.loss)
    head.texts = Plain(4)
    step = _Step(head, training(np.ones((3, 4))).interactions, torch.device("cpu"))
    for batch in step.batches(0, np.random.default_rng(0)):
        assert torch.isfinite(step.loss(batch))


class Plain:
    """Item texts as a table of random vectors, without an encoder."""

    def __init__(self, size):
        self.table = torch.randn(size, 8, generator=torch.Generator().manual_seed(0))

    def loss_with(self, live, rows, of, adversarial, attacked, logits=None):
        return of(self.table)


def test_the_batches_of_an_epoch_depend_on_epoch_and_seed_alone(shop):
    head = shop.fit(shop.recipe(SMALL, optim=AdamW(epochs=1, batch_size=100)))
    step = _Step(head, shop.data.part("train"), torch.device("cpu"))

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
