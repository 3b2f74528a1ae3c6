"""History in a training step: only interactions before the target, if the split is by time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import known_users
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.heads.base import build
from llmrec_cli.heads.interest.head import Interest
from llmrec_cli.heads.interest.pairs import Pairs
from llmrec_cli.heads.shared.training_history import earlier_items, newest_entries, resolve_history
from llmrec_cli.heads.two_tower import steps as two_tower_steps
from llmrec_cli.heads.two_tower import towers as towers_module
from llmrec_cli.heads.two_tower.steps import TowerSteps
from llmrec_cli.heads.two_tower.towers import Towers, ages
from llmrec_cli.settings.adversarial import NoAdversarySettings
from llmrec_cli.settings.encoder import HuggingFaceSettings, TfIdfSettings
from llmrec_cli.settings.head import InterestSettings, ModelConfig, TwoTowerSettings
from llmrec_cli.settings.loss import BceSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import FrozenSettings
from tests.heads.by_hand import CONTEXT, entities

NUM_USERS, NUM_ITEMS, NUM_KINDS, LENGTH = 400, 48, 4, 10
ATTENTION = TwoTowerSettings(embedding_size=16, dropout=0.0, id_dropout=0.0, history="attention", recency=True)


def rows_of(*histories, times=None, num_items=8):
    """Return interactions: histories of users, at the times given or 0, 1, 2 of each user."""
    user = np.repeat(np.arange(len(histories)), [len(items) for items in histories])
    item = np.concatenate([np.array(items, np.int64) for items in histories])
    time = np.concatenate([np.arange(len(items)) for items in histories] if times is None else times)
    return Interactions(user, item, np.ones(len(user), np.float32), time.astype(np.int64), len(histories), num_items)


def data_of(interactions, **facts):
    """Return training data with times, of a split by time, with uninformative texts."""
    items = entities(interactions.num_items)
    items = replace(items, texts=np.array([f"thing {n % 7} {n % 7}" for n in range(len(items))], object))
    usual = {"has_order": True, "split": "leave_last_out"}
    return TrainingData(entities(interactions.num_users, kind="u"), items, interactions, **(usual | facts))


def config_of(head, **changed):
    usual = {"encoder": TfIdfSettings(), "peft": FrozenSettings(), "adversarial": NoAdversarySettings(),
             "loss": SoftmaxSettings(),
             "optim": AdamWSettings(epochs=6, batch_size=256, learning_rate=0.03)}
    return ModelConfig(head=head, **(usual | changed))


def chains(seed=0):
    """Return NUM_USERS histories of LENGTH items (U, LENGTH) and the next item of each.

    Each item has a kind and a random next kind: the next item has the next kind of the last item. No item repeats.
    """
    rng = np.random.default_rng(seed)
    following_N = rng.integers(NUM_KINDS, size=NUM_ITEMS)
    chain = np.zeros((NUM_USERS, LENGTH + 1), np.int64)
    for row in chain:
        row[0] = rng.integers(NUM_ITEMS)
        for place in range(1, LENGTH + 1):
            free = np.setdiff1d(np.arange(following_N[row[place - 1]], NUM_ITEMS, NUM_KINDS), row[:place])
            row[place] = rng.choice(free if len(free) else np.setdiff1d(np.arange(NUM_ITEMS), row[:place]))
    return chain[:, :-1], chain[:, -1]


def hits(head, data, next_U):
    """Return the share of users whose next item is among the five best that they have not had."""
    matrix = data.interactions.matrix
    scores = head.score(known_users(np.arange(len(next_U)), data.users.ids, matrix, matrix)).numpy().copy()
    scores[matrix.toarray() > 0] = -np.inf
    return float((np.argsort(-scores, axis=1)[:, :5] == next_U[:, None]).any(axis=1).mean())


@pytest.mark.slow
def test_two_tower_learns_successors_only_if_histories_end_before_the_target():
    """Five of about ten unseen items of the right kind: .5 is the optimum, .13 is chance."""
    histories, next_U = chains()
    data = data_of(rows_of(*histories, num_items=NUM_ITEMS))
    values = {}
    for setting in ("auto", "others"):
        head = build(config_of(replace(ATTENTION, training_history=setting)))
        head.fit(data, CONTEXT)
        values[setting] = hits(head, data, next_U)
    assert values["auto"] > 0.4
    assert values["others"] < 0.25


@pytest.mark.parametrize(("has_order", "split", "expected"), [
    (True, "leave_last_out", "before"), (True, "temporal", "before"), (True, "none", "before"),
    (True, "random", "others"), (True, "cold_items", "others"), (True, "cold_users", "others"),
    (True, "given", "others"), (False, "none", "others"), (False, "random", "others")])
def test_histories_end_before_the_target_where_the_split_goes_by_time(has_order, split, expected):
    data, logged = data_of(rows_of([0, 1], [2]), has_order=has_order, split=split), []
    context = replace(CONTEXT, log=lambda event, **values: logged.append((event, values["chosen"])))
    assert resolve_history("auto", data, context) == expected
    assert logged == [("training_history", expected)]
    assert resolve_history("others", data, context) == "others"


def test_histories_may_be_asked_to_end_before_the_target_under_any_split_with_times():
    assert resolve_history("before", data_of(rows_of([0, 1]), split="given"), CONTEXT) == "before"


@pytest.mark.parametrize("facts", [{"has_order": False}, {"times": [np.zeros(3), np.ones(2)]}], ids=["none", "equal"])
def test_histories_before_the_target_are_empty_for_missing_or_equal_times(facts):
    data = data_of(rows_of([0, 1, 2], [3, 4], times=facts.get("times")), has_order=facts.get("has_order", True))
    assert resolve_history("auto", data, CONTEXT) == "others"
    with pytest.raises(DataError, match=r"head\.training_history=before: .* dataset\.columns\.timestamp"):
        resolve_history("before", data, CONTEXT)


def test_recency_without_times_is_refused():
    with pytest.raises(DataError, match=r"head\.recency=true: the interactions have no times"):
        build(config_of(ATTENTION)).fit(data_of(rows_of([0, 1], [2]), has_order=False), CONTEXT)


def test_earlier_items_are_the_oldest_of_a_row_oldest_first():
    indices, indptr = earlier_items(rows_of([5, 3, 1], [2, 7], [4]).matrix, np.array([0, 1, 0, 2]),
                                    np.array([2, 1, 0, 0]))
    assert indices.tolist() == [5, 3, 2]
    assert indptr.tolist() == [0, 2, 3, 3, 3]


def test_newest_entries_are_the_last_of_each_row():
    matrix = rows_of([5, 3, 1], [2], [4, 7]).matrix
    indices, indptr = newest_entries(matrix.indices, matrix.indptr, 2)
    assert indices.tolist() == [3, 1, 2, 4, 7]
    assert indptr.tolist() == [0, 2, 3, 5]


def towers_at_random(settings, num_items):
    """Return towers with attention weights that differ between items and ages, and item vectors."""
    generator = torch.Generator().manual_seed(1)
    towers = Towers(3, num_items, 4, settings, SoftmaxSettings())
    if towers.pooling is not None:
        with torch.no_grad():
            towers.pooling.query_E.normal_(generator=generator)
            if towers.pooling.ages is not None:
                towers.pooling.ages.normal_(generator=generator)
    return towers, torch.randn(num_items, 16, generator=generator)


@pytest.mark.parametrize(("settings", "most_entries"), [
    (ATTENTION, 40 * 16), (replace(ATTENTION, recency=False), 60), (TwoTowerSettings(embedding_size=16), 60)],
    ids=["recency", "attention", "sum"])
def test_a_step_reads_a_long_history_once_or_with_recency_the_newest_per_target(settings, most_entries,
                                                                                        monkeypatch):
    """One user has 60 items, 40 of them targets: 40 x 30 entries on average if each target read all earlier items."""
    monkeypatch.setattr(two_tower_steps, "MOST_WITH_RECENCY", 16)
    towers, items = towers_at_random(settings, 64)
    data = rows_of(np.arange(60), [5, 1, 0], [2], num_items=64)
    rows = np.random.default_rng(0).permutation(np.concatenate([np.arange(20, 60), [60, 62, 63]]))
    num_entries, sums = [], towers_module.history_sums
    for module in (two_tower_steps, towers_module):
        monkeypatch.setattr(module, "history_sums", lambda items_NE, indices, *rest: num_entries.append(len(indices)) or
                            sums(items_NE, indices, *rest))
    steps = TowerSteps(towers, None, config_of(settings), data, None, np.empty((3, 0), np.int64),
                       torch.device("cpu"), is_causal=True)
    actual = steps._earlier(rows, data.user[rows])(items, items[torch.from_numpy(data.item[rows])])
    assert sum(num_entries) <= most_entries + 2
    for row, vector in zip(rows, actual, strict=True):
        before = data.item[data.matrix.indptr[data.user[row]]:row]
        before = before[-16:] if settings.recency else before
        alone = towers.histories(items, torch.from_numpy(before), torch.tensor([0, len(before)]))[0]
        torch.testing.assert_close(vector, alone)


@pytest.mark.parametrize("settings",
                         [ATTENTION, replace(ATTENTION, recency=False), TwoTowerSettings(embedding_size=16)],
                         ids=["recency", "attention", "sum"])
def test_nothing_that_comes_later_changes_the_history_of_a_target(settings):
    """Histories equal those of lists that end before the target, and are bit-identical under another future."""
    past, future, other = [4, 0, 6], [1, 2, 3], [7, 5, 2]
    generator = torch.Generator().manual_seed(1)
    towers = Towers(2, 8, 4, settings, SoftmaxSettings())
    if towers.pooling is not None:
        with torch.no_grad():
            towers.pooling.query_E.normal_(generator=generator)
            if towers.pooling.ages is not None:
                towers.pooling.ages.normal_(generator=generator)
    items = torch.randn(8, 16, generator=generator)
    rows, histories = np.array([3, 0, 8]), []
    for later in (future, other):
        data = rows_of(past + later, [5, 1, 0])
        steps = TowerSteps(towers, None, config_of(settings), data, None, np.empty((2, 0), np.int64),
                           torch.device("cpu"), is_causal=True)
        histories.append(steps._earlier(rows, data.user[rows])(items, items[torch.from_numpy(data.item[rows])]))
    assert torch.equal(*histories)
    alone = towers.histories(items, torch.tensor([*past, 5, 1]), torch.tensor([0, 3, 3, 5]))
    torch.testing.assert_close(histories[0], alone)
    assert ages(torch.tensor([0, 3])).tolist() == [2, 1, 0]  # From the target: the item just before it has age 0.


def test_targets_without_earlier_interactions_have_an_empty_history():
    data = data_of(rows_of([0], [1], [2, 3]))
    head = build(config_of(ATTENTION, optim=AdamWSettings(epochs=2, batch_size=2)))
    head.fit(data, CONTEXT)
    assert all(np.isfinite(array).all() for array in head.state().values() if array.dtype == np.float32)


@pytest.mark.parametrize("head", [ATTENTION, InterestSettings(candidates="popularity")], ids=lambda head: head.kind)
def test_the_model_records_the_kind_of_its_training_histories(head, tiny_encoder):
    encoder = HuggingFaceSettings(path=str(tiny_encoder), max_length=24)
    loss = SoftmaxSettings() if head.kind == "two_tower" else BceSettings()
    model = build(config_of(head, encoder=encoder, loss=loss, optim=AdamWSettings(epochs=1, batch_size=8)))
    model.fit(data_of(rows_of([0, 1, 2], [2, 3])), CONTEXT)
    assert model.tuned_config().head.training_history == "before"


def test_interest_reads_the_history_before_each_pair():
    """User 0 likes 4, 0, 6 at times 0, 10, 20 and dislikes 5 at 10 and 7 at 15; user 1 likes 1."""
    likes = rows_of([4, 0, 6], [1], times=[np.array([0, 10, 20]), np.array([5])])
    dislikes = Interactions(np.array([0, 0, 1]), np.array([5, 7, 2]), np.ones(3, np.float32), np.array([10, 15, 3]), 2,
                            8)
    data = replace(data_of(likes), negatives=dislikes)
    pairs = Pairs(data, "opinion", 10, is_causal=True)
    # The like at the time of the dislike does not count as before it.
    assert pairs.labelled.num_before.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert Pairs(data, "opinion", 10).labelled.num_before.tolist() == [3, 3, 3, 1, 3, 3, 1]
    head = Interest(config_of(InterestSettings(candidates="popularity", history_items=2), loss=BceSettings()))
    head.titles = np.array([f"t{n}" for n in range(8)], object)
    texts = [head._user_text(likes.matrix, user, item, num) for user, item, num in
             zip(pairs.labelled.user, pairs.labelled.item, pairs.labelled.num_before, strict=True)]
    assert texts == ["", "t4", "t0; t4", "", "t4", "t0; t4", ""]


def test_a_sampled_negative_of_interest_has_the_history_of_its_positive():
    pairs = Pairs(data_of(rows_of([4, 0, 6], [1, 3])), "choice", 100, is_causal=True)
    [batch] = pairs.batches(0, np.random.default_rng(0))
    liked = batch.target > 0
    before = dict(zip(zip(batch.user[liked], batch.item[liked], strict=True), batch.num_before[liked], strict=True))
    assert before == {(0, 4): 0, (0, 0): 1, (0, 6): 2, (1, 1): 0, (1, 3): 1}
    # Negatives come last, in the order of their interactions.
    negatives = list(zip(batch.user[~liked], batch.num_before[~liked], strict=True))
    positives = list(zip(batch.user[liked], batch.num_before[liked], strict=True))
    assert all(pair in positives for pair in negatives)
    assert negatives == [pair for pair in positives if pair in negatives]


@pytest.mark.parametrize("head", [ATTENTION, InterestSettings(candidates="popularity")], ids=lambda head: head.kind)
def test_training_on_what_came_before_resumes_to_the_same_bits(head, tiny_encoder, tmp_path):
    class Killed(Exception):
        pass

    def kill(event, **values):
        if event == "step" and values["step"] == 5:
            raise Killed

    encoder, loss = HuggingFaceSettings(path=str(tiny_encoder),
                                        max_length=24), SoftmaxSettings() if head.kind == "two_tower" else BceSettings()
    config = config_of(head, encoder=encoder, loss=loss,
                       optim=AdamWSettings(epochs=4, batch_size=4, checkpoint_every=1))
    data = data_of(rows_of([0, 1, 2], [2, 3], [4, 6, 5, 1], times=[np.arange(3), np.zeros(2), np.arange(4)]))
    heads = [build(config) for _ in range(3)]
    heads[0].fit(data, CONTEXT)
    with pytest.raises(Killed):
        heads[1].fit(data, replace(CONTEXT, folder=tmp_path, log=kill))
    heads[2].fit(data, replace(CONTEXT, folder=tmp_path, resumed=True))
    whole, resumed = heads[0].state(), heads[2].state()
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(array, resumed[name]) for name, array in whole.items())
