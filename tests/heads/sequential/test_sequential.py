"""The causal transformer: visibility of places, training batches, and learning."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.artifact import save_recommender
from llmrec_cli.heads.base import build
from llmrec_cli.heads.sequential.blocks import BLOCKS, HstuBlock, LigrBlock
from llmrec_cli.heads.sequential.epochs import epochs_within
from llmrec_cli.heads.sequential.gaps import gap_buckets
from llmrec_cli.heads.sequential.head import step_memory
from llmrec_cli.heads.sequential.model import CausalTransformer, SequenceModel
from llmrec_cli.heads.sequential.steps import START, SequenceSteps, cut_sequences, pad_gaps
from llmrec_cli.heads.shared.negatives import mine
from llmrec_cli.settings.head import EaseSettings, PopularitySettings
from llmrec_cli.settings.heads.sequential import SequentialSettings
from llmrec_cli.settings.heads.two_tower import TwoTowerSettings
from llmrec_cli.settings.loss import (
    BceSettings,
    BprSettings,
    GbceSettings,
    HardNegativesSettings,
    MseSettings,
    SampledSoftmaxSettings,
    SoftmaxSettings,
)
from llmrec_cli.settings.optim import AdamWSettings
from tests.heads.peak_bytes import PeakBytes
from tests.some_slow import some_slow

CPU = torch.device("cpu")
SMALL = SequentialSettings(embedding_size=16, num_layers=1, max_length=12, dropout=0.1)
IDS = replace(SMALL, text_scale=0.0, id_dropout=0.0)
LONGER = AdamWSettings(epochs=25, batch_size=128, learning_rate=0.02, patience=25)


def histories(rows: list[list[int]], num_items: int) -> Interactions:
    """Return interactions with these items of each user, oldest first."""
    user = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    item = np.array([item for row in rows for item in row])
    return Interactions(user, item, np.ones(len(item), np.float32), np.arange(len(item)), len(rows), num_items)


def steps_of(rows, num_items, settings=IDS, loss=None, batch_size=8):
    """Return the steps of an untrained model of ids on these histories."""
    config = config_of(settings, loss or SoftmaxSettings(), batch_size)
    part = histories(rows, num_items)
    torch.manual_seed(0)
    model = SequenceModel(part.item_counts > 0, 0, settings, config.loss)
    return SequenceSteps(model, None, config, part, np.empty((len(rows), 0), np.int64), CPU)


def config_of(settings, loss, batch_size):
    from llmrec_cli.settings.head import ModelConfig

    return ModelConfig(head=settings, loss=loss, optim=AdamWSettings(batch_size=batch_size))


def test_inputs_are_the_start_token_and_items_and_targets_the_next_items():
    part = histories([[5, 6, 7, 8], [4]], 9)
    # User 0, places 2 and 3: after 6 comes 7, after 7 comes 8. User 1, place 0: after the start comes 4.
    sequences = cut_sequences(part.matrix, np.array([0, 1]), np.array([2, 0]), np.array([2, 1]))
    assert sequences.inputs.tolist() == [6, 7, START]
    assert part.matrix.indices[sequences.next].tolist() == [7, 8, 4]
    assert sequences.flat.tolist() == [0, 1, 2]  # Two rows of two places; the last place is padding.


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("changed", [1, 4, 9])
def test_later_items_never_change_outputs_of_earlier_positions(changed, block):
    torch.manual_seed(0)
    transformer = CausalTransformer(8, 2, 2, 10, 0.0, block).eval()
    items, lengths = torch.randn(3, 10, 8), torch.tensor([10, 10, 10])
    other = items.clone()
    other[:, changed] = torch.randn(3, 8)
    before, after = transformer(items, lengths), transformer(other, lengths)
    assert torch.equal(before[:, :changed], after[:, :changed])
    assert (before[:, changed:] != after[:, changed:]).any(dim=2).all()


@pytest.mark.parametrize("block", BLOCKS)
def test_padding_after_a_history_changes_nothing(block):
    torch.manual_seed(0)
    transformer = CausalTransformer(8, 2, 2, 10, 0.0, block).eval()
    items, lengths = torch.randn(2, 10, 8), torch.tensor([4, 10])
    alone = transformer(items[:1, :4], lengths[:1])
    torch.testing.assert_close(transformer(items, lengths)[:1, :4], alone)


def test_a_ligr_block_is_its_formula():
    """Size 2, one head, one place: attention returns the value of the place itself."""
    torch.manual_seed(0)
    block = LigrBlock(2, 1, 5, 0.0)
    state = torch.tensor([3.0, 1.0])
    normed = torch.tensor([1.0, -1.0])  # Mean 2, deviation 1.
    value = block.queries_keys_values.weight[4:] @ normed + block.queries_keys_values.bias[4:]
    attended = block.joined.weight @ value + block.joined.bias
    first = state + torch.sigmoid(block.attention_gate.weight @ state + block.attention_gate.bias) * attended
    inside = block.opened_and_fed.weight @ ((first - first.mean()) / (first.var(correction=0) + 1e-5).sqrt())
    fed = block.narrowed.weight @ (inside[:8] * torch.sigmoid(inside[:8]) * inside[8:])
    expected = first + torch.sigmoid(block.feed_gate.weight @ first + block.feed_gate.bias) * fed
    torch.testing.assert_close(block(state[None, None])[0, 0], expected, rtol=1e-4, atol=1e-5)


def test_an_hstu_block_adds_up_values_by_silu_and_its_bias_is_by_distance():
    torch.manual_seed(0)
    block = HstuBlock(2, 1, 5, 0.0)
    states = torch.tensor([[[3.0, 1.0], [0.0, 2.0]]])
    with torch.no_grad():
        block.distance_HS.copy_(torch.tensor([[0.5, -2.0, 9.0, 9.0, 9.0]]))
    normed = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    parts = normed @ block.projected.weight.T + block.projected.bias
    gate, value, query, key = (parts * torch.sigmoid(parts)).chunk(4, dim=1)
    score = torch.stack([query[1] @ key[0] - 2.0, query[1] @ key[1] + 0.5])
    context = (score * torch.sigmoid(score) / 5) @ value  # Divided by the longest sequence.
    after = (context - context.mean()) / (context.var(correction=0) + 1e-5).sqrt()
    expected = states[0, 1] + block.joined.weight @ (after * gate[1]) + block.joined.bias
    torch.testing.assert_close(block(states)[0, 1], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("block", "loss"), [("sasrec", SampledSoftmaxSettings(num_negatives=64)),
                                             ("ligr", SoftmaxSettings()), ("hstu", SoftmaxSettings())])
def test_the_stated_memory_of_a_step_is_not_less_than_its_peak_and_not_three_times_as_much(block, loss):
    rng = np.random.default_rng(0)
    rows = [rng.permutation(500)[:40].tolist() for _ in range(120)]
    settings = replace(IDS, embedding_size=32, num_layers=2, max_length=40, block=block)
    steps = steps_of(rows, 500, settings, loss, batch_size=4800)
    batch = next(iter(steps.batches(0, np.random.default_rng(0))))
    with PeakBytes():  # The first use imports modules, which would be counted.
        steps.loss(batch).backward()
    with PeakBytes() as counted:
        steps.loss(batch).backward()
    stated = step_memory(settings, 4800, 500)
    assert stated / 3 < counted.peak < stated


def test_windows_over_whole_histories_have_every_interaction_once_and_change_with_the_epoch():
    rows = [list(range(40)), list(range(12)), list(range(13)), [3], []]
    steps = steps_of(rows, 40, replace(IDS, windows="all"), batch_size=16)
    epochs = []
    for epoch in range(3):
        batches = list(steps.batches(epoch, np.random.default_rng(epoch)))
        assert len(batches) == steps.num_batches == 5  # 66 interactions.
        targets = []
        for batch in batches:
            assert 1 <= batch.windows.lengths.min() <= batch.windows.lengths.max() <= 12
            for user, first, length in zip(*batch.windows, strict=True):
                targets += [(int(user), place) for place in range(first, first + length)]
            assert torch.isfinite(steps.loss(batch))
        assert sorted(targets) == [(user, place) for user, row in enumerate(rows) for place in range(len(row))]
        epochs.append({window for batch in batches for window in zip(*batch.windows, strict=True)})
    assert epochs[0] != epochs[1]
    assert (1, 0, 12) in epochs[0] & epochs[1] & epochs[2]  # A history that fits is never cut.


def test_windows_over_short_histories_are_the_newest():
    rows = [list(range(12)), [1], [2, 3]]
    batches = [[(batch.windows, batch.seeds) for batch in steps_of(rows, 12, replace(IDS, windows=windows)).batches(
        0, np.random.default_rng(0))] for windows in ("newest", "all")]
    assert str(batches[0]) == str(batches[1])


def test_gaps_are_in_buckets_that_double():
    second = 1000
    times = np.array([0, 999, 999 + second, 4999 + second, 5, 5 + 2**40, UNTIMED, 8], np.int64)
    buckets = gap_buckets(sp.csr_array((times, np.arange(8), np.array([0, 4, 4, 7, 8])), shape=(4, 8)))
    # First, below a second, one, four seconds; first, 2^40 ms > 2^29 s, unknown; first.
    assert buckets.tolist() == [0, 1, 2, 4, 0, 31, 0, 0]


def test_gaps_of_a_window_are_those_before_its_items():
    part = histories([[5, 6, 7, 8], [4]], 9)
    sequences = cut_sequences(part.matrix, np.array([0, 1]), np.array([1, 0]), np.array([3, 1]))
    # Items 5, 6 and 7 of user 0, the start of user 1 and padding.
    assert pad_gaps(np.array([0, 11, 12, 13, 9]), sequences).tolist() == [[0, 11, 12], [0, 0, 0]]


def test_time_gaps_tell_histories_apart_that_differ_in_times_only(shop):
    """After a pause of a day everybody takes item 9, after a second the next item."""
    rng = np.random.default_rng(0)
    user, item, time = [], [], []
    for who in range(200):
        start, pauses = rng.integers(8), rng.random() < 0.5
        user += [who] * 3
        item += [start, start + 10, 9 if pauses else start + 20]
        time += [0, 86_400_000 if pauses else 2000, 10**8]
    data = shop.data.training("train")
    part = Interactions(np.array(user), np.array(item), np.ones(600, np.float32), np.array(time), 200, len(data.items))
    data = replace(data, users=replace(data.users, ids=np.array([f"u{n}" for n in range(200)], object)),
                   interactions=part)
    head = build(shop.config(replace(IDS, time_gaps=True),
                             optim=AdamWSettings(epochs=30, batch_size=128, learning_rate=0.02)))
    head.fit(data, shop.context(validation=None))
    queries = shop.new_users([[str(data.items.ids[n]) for n in (3, 13)]] * 2)
    times = sp.csr_array((np.array([0, 86_400_000, 0, 2000]), queries.history.indices, queries.history.indptr),
                         shape=queries.history.shape)
    scores = head.score(replace(queries, times=times))
    assert scores.argmax(dim=1).tolist() == [9, 23]
    loaded = build(head.config)
    loaded.load(head.state(), data.users, data.items, shop.context())
    assert torch.equal(loaded.score(replace(queries, times=times)), scores)
    with pytest.raises(DataError, match="the histories of this data have no times"):
        head.score(replace(queries, times=None))
    with pytest.raises(DataError, match=r"head\.time_gaps=true: the prepared data has no times"):
        head.fit(replace(data, has_moments=False), shop.context(validation=None))


def test_an_epoch_has_every_interaction_once_in_batches_with_little_padding():
    rng = np.random.default_rng(0)
    rows = [rng.permutation(40)[:size].tolist() for size in rng.integers(1, 31, size=300)]
    steps = steps_of(rows, 40, batch_size=64)
    batches = list(steps.batches(0, np.random.default_rng(1)))
    assert len(batches) == steps.num_batches
    assert sorted(np.concatenate([batch.windows.users for batch in batches]).tolist()) == list(range(300))
    lengths = [batch.windows.lengths for batch in batches]
    assert max(length.max() for length in lengths) == 12
    total = sum(length.sum() for length in lengths)
    assert total == sum(min(len(row), 12) for row in rows)
    assert sum(len(length) * length.max() for length in lengths) < 1.1 * total


def test_one_long_history_among_short_ones_leaves_no_batch_empty():
    steps = steps_of([list(range(12)), [1], [2], [3]], 12, batch_size=2)
    batches = list(steps.batches(0, np.random.default_rng(0)))
    assert len(batches) == steps.num_batches == 1
    assert torch.isfinite(steps.loss(batches[0]))


def test_sampling_all_items_gives_the_full_softmax():
    rows = [[0, 1, 2, 3], [3, 2, 5], [4, 0, 5, 1]]
    full, all_drawn = (steps_of(rows, 6, loss=loss) for loss in (SoftmaxSettings(), SoftmaxSettings(num_negatives=6)))
    batch = next(iter(full.batches(0, np.random.default_rng(0))))
    values = []
    for steps in (full, all_drawn):
        torch.manual_seed(0)
        values.append(steps.loss(batch))
    assert values[0].item() == values[1].item()
    shared = steps_of(rows, 6, loss=SampledSoftmaxSettings(num_negatives=6))
    torch.manual_seed(0)
    assert shared.loss(batch).item() == pytest.approx(values[0].item(), rel=1e-5)
    some = steps_of(rows, 6, loss=SoftmaxSettings(num_negatives=2))
    torch.manual_seed(0)
    assert some.loss(batch).item() != values[0].item()


@pytest.mark.parametrize("loss",
                         some_slow([SoftmaxSettings(num_negatives=10), BprSettings(), BceSettings(),
                                    SoftmaxSettings(similarity="cosine", temperature=0.2),
                                    SoftmaxSettings(label_smoothing=0.1), MseSettings(similarity="cosine"),
                                    SampledSoftmaxSettings(num_negatives=20, negative_popularity=0.5),
                                    SampledSoftmaxSettings(num_negatives=20, similarity="cosine"),
                                    GbceSettings(num_negatives=20)], 2),
                         ids=lambda loss: f"{loss.kind}-{loss.similarity}")
def test_every_loss_learns_more_than_popularity(shop, loss):
    value = shop.context().validation
    popularity = value(shop.fit(shop.config(PopularitySettings())).score)
    assert value(shop.fit(shop.config(SMALL, loss=loss, optim=LONGER)).score) > popularity + 0.05


def test_order_is_learned(shop):
    """Everybody goes from item n to n + 1: the next item can be predicted, but not from a bag of items."""
    rng = np.random.default_rng(0)
    rows = [[(start + n) % 20 for n in range(6)] for start in rng.integers(20, size=200)]
    data = shop.data.training("train")
    part = histories(rows, len(data.items))
    users = replace(data.users, ids=np.array([f"u{n}" for n in range(200)], object))
    head = build(shop.config(IDS, optim=AdamWSettings(epochs=30, batch_size=256, learning_rate=0.02)))
    head.fit(replace(data, users=users, interactions=part), shop.context(validation=None))
    queries = shop.new_users([[str(data.items.ids[n]) for n in (3, 4, 5)], [str(data.items.ids[n]) for n in (5, 4, 3)]])
    scores = head.score(queries)
    assert scores[0].argmax().item() == 6
    assert scores[1].argmax().item() == 4


def test_a_cold_item_is_found_by_its_text(shop):
    """Items c0 to c3 are in no history; users who love a genre must get the cold item of that genre."""
    head = shop.fit(shop.config(replace(SMALL, id_dropout=0.5), optim=LONGER))
    cold = np.flatnonzero([key.startswith("c") for key in shop.data.items.ids])
    assert np.abs(head.state()["model.item_ids.weight"][cold]).max() == 0
    queries = shop.new_users([[f"i{n}" for n in range(genre, 40, 4)][:8] for genre in range(4)])
    scores = head.score(queries)[:, torch.from_numpy(cold)]
    ranks = [(scores[genre] > scores[genre, genre]).sum().item() for genre in range(4)]
    assert np.mean(ranks) < 1.0  # Chance is 1.5.


@pytest.mark.parametrize(("head", "loss"), [
    (SMALL, SoftmaxSettings(num_negatives=10)),
    (replace(IDS, block="ligr", windows="all", max_length=4), SampledSoftmaxSettings(negative_popularity=0.5,
                                                                                     num_negatives=10)),
    (replace(IDS, block="hstu", time_gaps=True), GbceSettings(num_negatives=10))], ids=["softmax", "ligr", "hstu"])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(shop, tmp_path, head, loss):
    optim = AdamWSettings(epochs=2, batch_size=64, learning_rate=0.01, checkpoint_every=3)
    config = shop.config(head, loss=loss, optim=optim)
    whole = shop.fit(config, folder=tmp_path / "whole").state()

    def stopping(event, **values):
        if event == "step" and values["step"] == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.fit(config, folder=tmp_path / "stopped", log=stopping)
    again = shop.fit(config, folder=tmp_path / "stopped", resumed=True).state()
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_hard_negatives_are_never_items_that_the_user_knows(shop, tmp_path):
    save_recommender(tmp_path / "model", shop.fit(shop.config(EaseSettings(l2=20))), shop.data, ("train",),
                     {"metrics": {}})
    settings = HardNegativesSettings(model=str(tmp_path / "model"), num=3, from_rank=2, to_rank=9)
    data = shop.data.training("train")
    mined = mine(settings, data, shop.context())
    assert mined.shape == (60, 8)
    assert (mined >= 0).mean() > 0.9
    history = data.interactions.matrix.toarray()
    assert not any(history[user, item] for user in range(60) for item in mined[user] if item >= 0)
    for head in (SMALL, TwoTowerSettings(embedding_size=16)):
        config = shop.config(head, loss=SoftmaxSettings(num_negatives=5, hard_negatives=settings),
                             optim=AdamWSettings(epochs=1))
        with_hard, without = (shop.fit(r).state() for r in (config,
                                                            replace(config, loss=SoftmaxSettings(num_negatives=5))))
        assert any((with_hard[name] != without[name]).any() for name in without)


def test_hard_negatives_of_a_model_of_other_data_or_of_the_answers_are_refused(shop, tmp_path):
    head = shop.fit(shop.config(PopularitySettings()))
    save_recommender(tmp_path / "taught", head, shop.data, ("train", "valid"), {"metrics": {}})
    data = shop.data.training("train")
    with pytest.raises(ConfigError, match="fitted on valid too"):
        mine(HardNegativesSettings(model=str(tmp_path / "taught")), data, shop.context())
    renamed = replace(data, items=replace(data.items, ids=data.items.ids[::-1]))
    with pytest.raises(DataError, match="has other items than this data"):
        mine(HardNegativesSettings(model=str(tmp_path / "taught")), renamed, shop.context())
    assert mine(HardNegativesSettings(), data, shop.context()).shape == (60, 0)


@pytest.mark.parametrize(("head", "loss", "message"), [
    (SMALL, SoftmaxSettings(temperature=0.2), "loss.temperature=0.2: has no effect on head=sequential without"),
    (SMALL, SoftmaxSettings(popularity_correction=0.5), "loss.popularity_correction=0.5"),
    (SMALL, SoftmaxSettings(hard_negatives=HardNegativesSettings(model="m")),
     "loss.hard_negatives.model=m: has no effect"),
    (SMALL, BceSettings(scale=3.0), "loss.scale=3.0"),
    (SMALL, GbceSettings(scale=3.0), "loss.scale=3.0"),
    (TwoTowerSettings(), SoftmaxSettings(similarity="dot", learn_temperature=False),
     "loss.learn_temperature=False: has no effect"),
    (SMALL, SoftmaxSettings(num_negatives=9, hard_negatives=HardNegativesSettings(model="m")), None),
    (TwoTowerSettings(), SoftmaxSettings(label_smoothing=0.1, num_negatives=4, learn_temperature=False), None)])
def test_a_setting_of_the_loss_without_effect_is_named(head, loss, message):
    problems = list(head.problems_with(loss))
    assert len(problems) == (message is not None)
    assert all(message in problem for problem in problems)


def test_a_sparse_history_of_a_query_is_read_newest_last():
    part = histories([[3, 1, 2]], 5)
    assert isinstance(part.matrix, sp.csr_array)
    sequences = cut_sequences(part.matrix, np.array([0]), np.array([1]), np.array([3]))
    assert sequences.inputs.tolist() == [3, 1, 2]


def test_a_budget_of_cpu_time_gives_the_epochs_that_fit_and_a_refit_keeps_their_number(tmp_path, capsys):
    rows = np.random.default_rng(0).integers(0, 30, (200, 10)).tolist()
    steps = steps_of(rows, 30, batch_size=100)
    parameters = list(steps.model.parameters())
    before = [parameter.clone() for parameter in parameters]
    assert epochs_within(3600, 7, steps, parameters, 1, tmp_path, resumed=False) == 7
    assert "head.budget: 7 of at most 7 epochs" in capsys.readouterr().err
    assert epochs_within(1e-9, 7, steps, parameters, 1, tmp_path, resumed=False) == 1
    assert "a single epoch takes more" in capsys.readouterr().err
    # A resumed run does not measure again.
    assert epochs_within(3600, 7, steps, parameters, 1, tmp_path, resumed=True) == 1
    assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))
    assert all(parameter.grad is None for parameter in parameters)


@pytest.mark.parametrize("batch_size", [100, 10**6])
def test_a_budget_counts_every_step_but_the_first_also_of_epochs_of_a_single_step(batch_size, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 30, (50, 10)).tolist()
    steps = steps_of(rows, 30, batch_size=batch_size)
    readings = itertools.count()  # A second for each step.
    monkeypatch.setattr("llmrec_cli.heads.sequential.epochs.work_seconds", lambda device: float(next(readings)))
    budget = 3 * steps.num_batches + 0.5
    assert epochs_within(budget, 99, steps, list(steps.model.parameters()), 1, None, resumed=False) == 3
