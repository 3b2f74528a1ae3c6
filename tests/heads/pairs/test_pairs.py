"""The heads that train a pair model: steps, learning, refusals."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import Context, build
from llmrec_cli.heads.pairs.factorization_machine import FactorizationMachine as Machine
from llmrec_cli.heads.pairs.neural_cf import NeuMf
from llmrec_cli.heads.pairs.steps import ChoiceSteps
from llmrec_cli.heads.shared.pair_targets import mask_interactions, weights_of_choices
from llmrec_cli.settings.adversarial import AprSettings
from llmrec_cli.settings.head import (
    FactorizationMachineSettings,
    InterestSettings,
    MfSettings,
    ModelConfig,
    NeuralCfSettings,
)
from llmrec_cli.settings.loss import BceSettings, BprSettings, MseSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from tests.heads.by_hand import CONTEXT, entities, queries, training

OPTIM = AdamWSettings(epochs=3, batch_size=7, learning_rate=0.02, checkpoint_every=1)
MATRIX = np.random.default_rng(0).random((12, 9)) < 0.4
MATRIX[8, 3] = True
MATRIX[:, 8] = False
MATRIX[11] = False
HEADS = [MfSettings(embedding_size=4), NeuralCfSettings(embedding_size=4, layers=[5, 3]),
         FactorizationMachineSettings(embedding_size=4)]
every_head = pytest.mark.parametrize("settings", HEADS, ids=lambda head: head.kind)


def fit_head(settings, data=None, loss=None, context=CONTEXT, **optim):
    """Fit a head, by default on the small matrix with item attributes."""
    head = build(ModelConfig(head=settings, loss=loss or SoftmaxSettings(), optim=replace(OPTIM, **optim)))
    head.fit(data or small(), context)
    return head


def small():
    """Return data with an item (8) and a user (11) without interactions; items have two of three attributes."""
    return training(MATRIX, np.eye(3)[np.arange(9) % 3] + np.eye(3)[[0] * 9] > 0)


def rated(values, likes=None):
    """Return data of a matrix of ratings, 0 for no rating; ratings below `likes` are dislikes."""
    user, item = np.nonzero(values)
    value = values[user, item].astype(np.float32)
    all_of_them = Interactions(user, item, value, np.arange(len(user)), *values.shape)
    liked = np.full(len(user), True) if likes is None else value >= likes
    negatives = None if likes is None else all_of_them.rows(~liked)
    return TrainingData(entities(len(values), kind="u"), entities(values.shape[1]), all_of_them.rows(liked), negatives)


def test_a_machine_scores_the_sum_over_all_pairs_of_its_features():
    """Rendle 2010: eq. 5, which the head computes, against the definition, eq. 1."""
    head = fit_head(FactorizationMachineSettings(embedding_size=4), epochs=20)
    assert isinstance(head, Machine)
    state, data = head.state(), small()
    users, items = state["model.user_side.ids.rows"], state["model.item_side.ids.rows"]
    attributes = state["model.item_side.attributes.rows"]
    scores = head.score(queries(MATRIX.astype(float), list(range(12)))).numpy()
    for user in range(11):
        for item in range(8):
            owned = data.items.attributes[[item]].indices
            features = [(1.0, users[user]), (1.0, items[item]), *((len(owned)**-0.5, attributes[a]) for a in owned)]
            expected = sum(x * row[-1] for x, row in features) + sum(
                x * y * float(a[:-1] @ b[:-1]) for n, (x, a) in enumerate(features) for y, b in features[:n])
            assert scores[user, item] == pytest.approx(expected, abs=1e-5)


def test_a_block_of_neural_scores_is_the_network_of_the_paper_pair_by_pair():
    torch.manual_seed(0)
    model = NeuMf(NeuralCfSettings(embedding_size=4, layers=[5, 3]), np.ones(3, bool), np.ones(6, bool), 0.5).eval()
    with torch.no_grad():
        users, items = model.users(torch.arange(3)).rows, model.items(torch.arange(6)).rows
        block = model.block(users, items)
        weight = torch.cat([model.of_user.weight, model.of_item.weight], dim=1)
        for u in range(3):
            for i in range(6):
                p, q = model.user_ids.rows[u], model.item_ids.rows[i]
                hidden = (weight @ torch.cat([p[4:8], q[4:8]]) + model.of_user.bias).relu()
                hidden = model.layers[0](hidden).relu()
                expected = (p[:4] * q[:4]).sum() + model.layers[1](hidden)[0] + p[8] + q[8] + 0.5
                assert block[u, i].item() == pytest.approx(expected.item(), abs=1e-5)
                assert model.pairs(users[[u]], items[[i]]).item() == pytest.approx(expected.item(), abs=1e-5)


def test_the_mask_marks_candidates_that_each_user_has_interacted_with():
    matrix = sp.csr_array(np.array([[1, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]]))
    mask = mask_interactions(matrix, np.array([0, 2, 1]), np.array([0, 1, 3]))
    assert mask.tolist() == [[True, False, True], [False, False, False], [False, False, True]]


@pytest.mark.parametrize("candidates", [3, 100])
@pytest.mark.parametrize("loss", [SoftmaxSettings(), BprSettings(), BceSettings(), MseSettings()],
                         ids=lambda loss: loss.kind)
def test_an_epoch_has_every_interaction_once_and_gradients_equal_finite_differences(loss, candidates):
    settings = MfSettings(embedding_size=4, candidates=candidates, target="choice")
    head = fit_head(settings, loss=loss, epochs=1)
    head.model.double().zero_grad()
    steps = ChoiceSteps(head.model, head.settings, loss, small().interactions, 10, torch.device("cpu"))
    batches = list(steps.batches(0, np.random.default_rng(3)))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == list(range(len(steps.user)))
    value, rows = steps.loss(batches[0]), head.model.item_ids.rows
    value.backward()
    gradient = rows.grad.clone()
    for item in range(8):
        with torch.no_grad():
            rows[item, 1] += 1e-5
            above = steps.loss(batches[0])
            rows[item, 1] -= 2e-5
            below = steps.loss(batches[0])
            rows[item, 1] += 1e-5
        assert gradient[item, 1].item() == pytest.approx((above - below).item() / 2e-5, rel=1e-2, abs=2e-4)
    # Nobody interacts with the last item, so it is never a negative either.
    assert not gradient[8].any()


@every_head
def test_a_killed_run_goes_on_to_the_same_bits(settings, tmp_path):
    whole = fit_head(settings).state()

    class Killed(Exception):
        pass

    def dying(event, **values):
        if event == "step" and values["step"] == 8:
            raise Killed

    with pytest.raises(Killed):
        fit_head(settings, context=Context(torch.device("cpu"), 1, folder=tmp_path, log=dying))
    resumed = fit_head(settings, context=Context(torch.device("cpu"), 1, folder=tmp_path, resumed=True)).state()
    for key, value in whole.items():
        np.testing.assert_array_equal(resumed[key], value, err_msg=key)


@every_head
def test_unseen_items_and_users_learn_nothing_and_get_no_advantage(settings):
    head = fit_head(settings)
    scores = head.score(queries(MATRIX.astype(float), list(range(12))))
    if settings.kind != "factorization_machine":  # It has attributes that others have.
        assert (scores[:, 8] == scores[:, :8].min(dim=1).values).all()
    # A user without interactions and an empty history both get the average user.
    nobody = head.score(queries(np.zeros((1, 9))))
    torch.testing.assert_close(nobody[0], scores[11])
    assert scores[11, :8].std() > 0


@pytest.mark.slow
def test_values_are_predicted_also_for_pairs_without_a_value():
    values = np.add.outer(np.arange(12) % 3, np.arange(8) % 3) + 1.0
    values[MATRIX[:, :8]] = 0
    data = rated(values)
    head = fit_head(MfSettings(embedding_size=4, l2=0.001), data, MseSettings(), epochs=200, learning_rate=0.05)
    assert head.score_meaning == "value"
    assert head.tuned_config().head.target == "value"
    scores = head.score(queries((values > 0).astype(float), list(range(12)))).numpy()
    assert np.abs(scores - values)[values > 0].max() < 0.2
    # Predictions without a value are still near the truth, which is a sum of biases.
    truth = np.add.outer(np.arange(12) % 3, np.arange(8) % 3) + 1.0
    assert np.abs(scores - truth)[values == 0].mean() < 0.5


def test_dislikes_are_the_negatives_and_the_logit_is_the_chance_of_a_like():
    values = np.where(np.arange(8) % 2, 5.0, 1.0) * (np.random.default_rng(1).random((12, 8)) < 0.7)
    head = fit_head(MfSettings(embedding_size=4, l2=0.001), rated(values, likes=4), BceSettings(), epochs=100,
                  learning_rate=0.05)
    assert head.score_meaning == "logit"
    likely = torch.sigmoid(head.score(queries((values > 4).astype(float), list(range(12))))).numpy()
    assert likely[values == 5].min() > 0.8
    assert likely[values == 1].max() < 0.2


@pytest.mark.parametrize(("settings", "loss", "message"), [
    (MfSettings(target="value"), MseSettings(), "every interaction has the same value"),
    (MfSettings(target="opinion"), BceSettings(), "no dislikes")])
def test_a_target_that_the_data_does_not_have_is_refused(settings, loss, message):
    with pytest.raises(DataError, match=message):
        fit_head(settings, loss=loss)


def test_loss_settings_without_effect_on_a_head_are_refused_with_the_remedy():
    def problem_keys(head, loss):
        return [problem.partition(":")[0] for problem in ModelConfig(head=head, loss=loss).problems()]

    assert problem_keys(MfSettings(), SoftmaxSettings()) == problem_keys(MfSettings(),
                                                           SoftmaxSettings(similarity="cosine", temperature=0.3)) == []
    assert problem_keys(MfSettings(), SoftmaxSettings(temperature=0.3)) == ["loss.temperature=0.3"]
    assert problem_keys(MfSettings(), BceSettings(num_negatives=5)) == ["loss.num_negatives=5"]
    assert problem_keys(MfSettings(), BprSettings(scale=3.0)) == ["loss.scale=3.0"]
    assert problem_keys(NeuralCfSettings(), BprSettings(similarity="cosine")) == ["loss.similarity=cosine"]
    assert problem_keys(FactorizationMachineSettings(),
                 SoftmaxSettings(popularity_correction=0.5)) == ["loss.popularity_correction=0.5"]
    assert problem_keys(MfSettings(target="value"), BceSettings()) == ["head.target=value"]
    assert problem_keys(MfSettings(target="opinion"), SoftmaxSettings()) == ["head.target=opinion"]


def test_estimated_memory_grows_with_each_size():
    def needed(matrix, **settings):
        head = build(ModelConfig(head=MfSettings(**settings), loss=SoftmaxSettings(), optim=OPTIM))
        return head.estimate_memory(training(matrix))

    assert needed(MATRIX, embedding_size=8) > needed(MATRIX, embedding_size=4)
    assert needed(np.tile(MATRIX, (10, 1))) > 4 * needed(MATRIX)


def test_estimated_memory_counts_four_blocks_of_scores_in_validation():
    matrix = np.eye(1500, 2000, dtype=bool)
    head = build(ModelConfig(head=MfSettings(embedding_size=1), loss=BprSettings(), optim=OPTIM))
    blocks = 4 * 4 * 1024 * 2000
    # Besides the scores there are a few vectors of users, items and interactions.
    assert blocks < head.estimate_memory(training(matrix)) < 1.1 * blocks
    # Blocks of 40 MB are not in the heap: there the scores and the copy that is ranked suffice.
    larger = 2 * 4 * 1024 * 10_000
    assert larger < head.estimate_memory(training(np.eye(1500, 10_000, dtype=bool))) < 1.1 * larger


@every_head
@pytest.mark.parametrize("loss", [SoftmaxSettings(), BprSettings(), BceSettings(), MseSettings()],
                         ids=lambda loss: loss.kind)
@pytest.mark.parametrize("candidates", [5, 100])
def test_54_parts_of_a_batch_sum_to_its_loss_and_its_gradients(settings, loss, candidates):
    data, changed = small(), replace(settings, candidates=candidates, l2=0.3, target="choice")
    model = fit_head(settings).model.eval()
    steps = ChoiceSteps(model, changed, loss, data.interactions, 20, CONTEXT.device)
    batch = next(iter(steps.batches(0, np.random.default_rng(4))))

    def gradients(parts):
        model.zero_grad()
        values = [steps.loss(part) * weight for part, weight in parts]
        sum(values).backward()
        return sum(values).item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    expected, of_whole = gradients([(batch, 1.0)])
    assert expected > 0.1
    for number in (2, 3, 50):
        parts = steps.split(batch, number)
        assert len(parts) == min(number, len(np.unique(data.interactions.user[batch[0]])))
        actual, of_parts = gradients(parts)
        assert actual == pytest.approx(expected, rel=1e-5)
        torch.testing.assert_close(of_parts, of_whole, rtol=1e-4, atol=1e-6)


def test_a_batch_is_not_split_with_an_adversary():
    steps = ChoiceSteps(fit_head(HEADS[0]).model, replace(HEADS[0], target="choice"), SoftmaxSettings(),
                        small().interactions,
                        20, CONTEXT.device, AprSettings())
    assert steps.split is None


@pytest.mark.parametrize(("settings", "loss", "unused"), [
    (MfSettings(target="value"), MseSettings(), True), (MfSettings(), MseSettings(), True),
    (FactorizationMachineSettings(), MseSettings(), True),
    (InterestSettings(), MseSettings(), True), (MfSettings(), BprSettings(), False),
    (MfSettings(target="choice"), MseSettings(), False), (InterestSettings(), BceSettings(), False)])
def test_weights_have_no_effect_and_are_refused_exactly_where_values_are_the_target(settings, loss, unused):
    data = training(np.array([[1.0, 2, 0], [3, 0, 5]]))
    head = build(ModelConfig(head=settings, loss=loss))
    assert set(head.unused_settings(data)) == ({"weight", "decay"} if unused else set())
    if unused:
        with pytest.raises(DataError, match=r"head\.weight=log: has no effect"):
            weights_of_choices(data, replace(settings, weight="log"), "value")
