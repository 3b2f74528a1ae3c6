"""Training of item texts on interactions, before a head uses them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.encoders.embedding_adapter import EmbeddingMap
from llmrec_cli.encoders.whitening import fit_whitening
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.heads.shared import item_tuning
from llmrec_cli.settings.encoder import HuggingFaceSettings, TfIdfSettings
from llmrec_cli.settings.head import ContentSettings, EaseSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import DistillationSettings, ReadersSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import (
    AdaLoraSettings,
    EmbeddingAdapterSettings,
    LoraSettings,
    PromptSettings,
    TopLayersSettings,
)
from llmrec_cli.training.losses import readers
from tests.tiny_models import save_tiny

TUNED_TEXT = FeatureWeightsSettings(text=1.0, tuned=True)


def tuned_config(shop, peft, head=None, **changed):
    return shop.config(head or ContentSettings(features=TUNED_TEXT), peft=peft,
                       **({"optim": AdamWSettings(epochs=3, batch_size=16, encoder_learning_rate=1e-3),
                           "loss": ReadersSettings()} | changed))


def values_of(monkeypatch, *values):
    """Let validation measure these values: the original vectors, each epoch, and the best epoch again, per training.

    A number is the value of each metric of each of 10 queries.
    """
    rest = iter(values)
    monkeypatch.setattr(item_tuning._Tuning, "_values", lambda *_: np.ones((3, 10)) * next(rest))


@pytest.mark.parametrize("loss", [pytest.param(ReadersSettings(), id="readers"),
                                  pytest.param(DistillationSettings(), id="distillation", marks=pytest.mark.slow)])
@pytest.mark.parametrize("peft",
                         [EmbeddingAdapterSettings(rank=4), LoraSettings(rank=2, num_layers=1),
                          TopLayersSettings(num_layers=1),
                                  AdaLoraSettings(rank=4, target_rank=3, num_layers=1, orthogonality=0.0),
                          PromptSettings()],
                         ids=lambda p: p.kind)
def test_the_loss_falls_whatever_is_trained(shop, peft, loss):
    losses = []

    def log(event, **values):
        if event == "step":
            losses.append(values["loss"])

    shop.fit(tuned_config(shop, peft, optim=AdamWSettings(epochs=16, batch_size=64, patience=16, learning_rate=0.01,
                                                   encoder_learning_rate=1e-2), loss=loss), log=log)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_vectors_that_no_epoch_improves_stay_as_they_came(shop, monkeypatch):
    values_of(monkeypatch, 0.5, 0.4, 0.3, 0.2, 0.4)
    head = shop.fit(tuned_config(shop, LoraSettings(rank=2, num_layers=1)))
    plain = shop.fit(shop.config(ContentSettings(features=FeatureWeightsSettings(text=1.0))))
    np.testing.assert_allclose(head.text_vectors, plain.text_vectors, atol=1e-6)
    assert head.tuned_config().head.features.stop_after == 0


@pytest.mark.parametrize(("spread", "by_metric", "is_kept"),
                         [(0.28, (0, 0, 0), True), (0.32, (0, 0, 0), False), (0.1, (0.25, 0, -0.25), False)])
def test_tuned_vectors_are_kept_for_a_gain_above_two_standard_errors_if_no_metric_falls(shop, monkeypatch, capsys,
                                                                                         spread, by_metric, is_kept):
    """The mean gain is .2 on 10 queries; deviations of +-spread have a standard error of spread / 3."""
    gains = 0.2 + spread * np.array([1, -1] * 5) + np.array(by_metric)[:, None]
    values_of(monkeypatch, 0, 0.1, gains, 0.1, gains)
    logged = []
    head = shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4)), log=lambda event,
                    **entry: logged.append((event, entry)))
    (texts,) = [entry for event, entry in logged if event == "texts"]
    assert (texts["gain"], texts["kept"], texts["trainings"]) == (pytest.approx(0.2), is_kept, 1)
    assert texts["standard_error"] == pytest.approx(spread / 3)
    assert texts["ndcg@20"] == pytest.approx(0.2 + by_metric[2])
    assert head.tuned_config().head.features.stop_after == (2 if is_kept else 0)
    assert f"mean +0.2000, standard error {spread / 3:.4f}, 10 queries: {'kept' if is_kept else 'not kept'}" in \
        capsys.readouterr().err


def test_folds_hide_other_items_start_anew_with_other_seeds_and_decide_together(shop, monkeypatch):
    features = replace(TUNED_TEXT, folds=3)
    # Best epochs 1, 3 and 2; the gain of the second training alone would not be kept.
    values_of(monkeypatch, 0, 0.3, 0.2, 0.1, 0.3, 0, 0, 0, 0.01, -0.1, 0, 0.1, 0.3, 0.2, 0.3)
    trainings = []
    original = item_tuning.train

    def spy(model, batches, loss, rates, optim, length, context, validate, **others):
        start = {name: p.detach().clone() for name, p in model["texts"].named_parameters() if p.requires_grad}
        trainings.append((context, length, start, validate is None, next(iter(batches(0, np.random.default_rng(0))))))
        return original(model, batches, loss, rates, optim, length, context, validate, **others)

    monkeypatch.setattr(item_tuning, "train", spy)
    tasks, task_of = [], item_tuning.make_cold_task
    monkeypatch.setattr(item_tuning, "make_cold_task", lambda *args, **more: tasks.append(task_of(*args, **more))
                        or tasks[-1])
    logged = []
    head = shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4), ContentSettings(features=features)),
                    log=lambda event, **entry: logged.append(entry) if event == "texts" else None)
    assert head.tuned_config().head.features.stop_after == 2
    (texts,) = logged
    assert (texts["trainings"], texts["num_queries"], texts["kept"]) == (3, 30, True)
    assert texts["gain"] == pytest.approx((0.3 - 0.1 + 0.3) / 3)
    seed = trainings[-1][0].seed
    assert [context.seed for context, *_ in trainings] == [seed, seed + 1, seed + 2, seed]
    assert [length.num_epochs for _, length, *_ in trainings] == [3, 3, 3, 2]
    assert [is_last for *_, is_last, _ in trainings] == [False, False, False, True]
    for _, _, start, *_ in trainings[1:]:
        for name, value in trainings[0][2].items():
            torch.testing.assert_close(start[name], value)
    hidden = np.stack([task.cold_N for task in tasks[1:]])
    assert hidden.any(axis=1).all()
    assert (hidden.sum(axis=0) <= 1).all(), "an item is hidden in two folds"


def test_interpolation_sets_weights_between_those_before_and_after_training(shop):
    def trained(interpolation):
        features = replace(TUNED_TEXT, stop_after=3, interpolation=interpolation)
        stop = ContentSettings(features=features, gamma=0.5, l2=1.0, denoise=0.0, blend=0.0)
        return shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4), stop)).item_texts.map.arrays()

    whole, part = trained(1.0), trained(0.25)
    before = EmbeddingMap(len(whole["down"]), EmbeddingAdapterSettings(rank=4), seed=1).arrays()
    for name, start in before.items():
        assert np.abs(whole[name] - start).max() > 1e-3
        np.testing.assert_allclose(part[name], 0.75 * start + 0.25 * whole[name], rtol=1e-4, atol=1e-6)


def test_frozen_vectors_beside_tuned_ones_are_features_and_count_in_similarities(shop):
    features = replace(TUNED_TEXT, stop_after=3, frozen_text=0.5)
    stop = ContentSettings(features=features, gamma=0.5, l2=1.0, denoise=0.0, blend=0.0)
    head = shop.fit(tuned_config(shop, LoraSettings(rank=2, num_layers=1), stop,
                                 optim=AdamWSettings(epochs=3, batch_size=16, encoder_learning_rate=1e-2)))
    frozen = shop.fit(shop.config(ContentSettings(features=FeatureWeightsSettings(text=1.0), gamma=0.5, l2=1.0,
                                                  denoise=0.0, blend=0.0)))
    size = frozen.text_vectors.shape[1]
    dense = head.features.dense_ND
    np.testing.assert_allclose(dense[:, size:], 0.5 * frozen.text_vectors, atol=1e-6)
    np.testing.assert_allclose(dense[:, :size], head.text_vectors, atol=1e-6)
    assert np.abs(dense[:, :size] - frozen.text_vectors).max() > 1e-3
    texts = shop.data.items.texts[:3]
    tuned_cosine, frozen_cosine = head.item_texts.similarities(list(texts)), frozen.item_texts.similarities(list(texts))
    torch.testing.assert_close(head.features.text_similarities(texts), 0.8 * tuned_cosine + 0.2 * frozen_cosine)
    assert head.features.text_weight == pytest.approx(1.25**0.5)


def test_vectors_are_centred_and_whitened_again_after_layers_are_trained(shop):
    stop = ContentSettings(features=replace(TUNED_TEXT, stop_after=3), gamma=0.5, l2=1.0, denoise=0.0, blend=0.0)
    encoder = replace(shop.encoder, whitening=1.0)
    head = shop.fit(tuned_config(shop, TopLayersSettings(num_layers=1), stop, encoder=encoder,
                                 optim=AdamWSettings(epochs=3, batch_size=16, encoder_learning_rate=1e-2)))
    texts = head.item_texts
    trained = (shop.data.training("train").interactions.item_counts > 0) & texts.said.numpy()
    whitening = fit_whitening(encoder, texts.raw_table.numpy(), trained)
    np.testing.assert_allclose(texts.mean.numpy(), whitening.mean_D, atol=1e-6)
    np.testing.assert_allclose(texts.matrix.numpy(), whitening.matrix_DK, rtol=1e-4, atol=1e-4)


def test_a_refit_trains_for_the_chosen_number_of_epochs_without_validation(shop, monkeypatch):
    values_of(monkeypatch, 0.1, 0.2, 0.5, 0.4, 0.5)
    first = shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4)))
    assert first.tuned_config().head.features.stop_after == 2
    monkeypatch.setattr(item_tuning._Tuning, "_values", lambda *_: pytest.fail("asked validation"))
    epochs = []
    shop.fit(first.tuned_config(), validation=None,
             log=lambda event, **values: epochs.append(values) if event == "step" else None)
    assert len(epochs) == 2 * 3


@pytest.mark.parametrize(("peft", "folds", "part"), [
    pytest.param(EmbeddingAdapterSettings(rank=4), 1, "texts", id="map"),
    pytest.param(LoraSettings(rank=2, num_layers=1), 2, "texts-2", id="folds of lora", marks=pytest.mark.slow)])
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(shop, tmp_path, peft, folds, part):
    """The checkpoint of step 3 has users' vectors of step 2, not of step 3."""
    head = ContentSettings(features=replace(TUNED_TEXT, folds=folds), gamma=0.5, l2=1.0, denoise=0.0, blend=0.0)
    optim = AdamWSettings(epochs=3, batch_size=16, encoder_learning_rate=1e-3, checkpoint_every=3)
    config = tuned_config(shop, peft, head, optim=optim, loss=ReadersSettings(refresh_steps=2))
    ends = []

    def record(event, **values):
        if event in ("step", "texts"):
            ends.append({"event": event, **values})

    whole = shop.fit(config, folder=tmp_path / "whole", log=record).state()

    def stopping(event, **values):
        if event == "step" and values["step"] == 5 and values["part"] == part:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shop.fit(config, folder=tmp_path / "stopped", log=stopping)
    expected, ends = ends, []
    again = shop.fit(config, folder=tmp_path / "stopped", resumed=True, log=record).state()
    # Also the losses after the checkpoint, since vectors that are not kept would be the same in any case.
    assert [entry for entry in expected if entry["event"] == "texts"] == [entry for entry in ends
                                                                          if entry["event"] == "texts"]
    after = [entry for entry in expected if entry["event"] == "step" and entry["part"] == part and entry["step"] > 3]
    assert after == [entry for entry in ends if entry["event"] == "step" and entry["part"] == part]
    for name, value in whole.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_items_hidden_to_choose_on_are_hidden_from_the_training_too(shop, monkeypatch):
    matrices = []

    class Spy(readers.Readers):
        def __init__(self, matrix, *rest):
            matrices.append(matrix)
            super().__init__(matrix, *rest)

    monkeypatch.setattr(readers, "Readers", Spy)
    tasks = []
    task_of = item_tuning.make_cold_task
    monkeypatch.setattr(item_tuning, "make_cold_task", lambda *args: tasks.append(task_of(*args)) or tasks[-1])
    shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4)))
    num_hidden = tasks[0].cold_N.sum()
    assert num_hidden > 0
    assert matrices[0].shape[1] == len(tasks[0].trained_T) <= len(shop.data.items) - num_hidden


def test_ease_reads_tuned_texts_too(shop):
    plain = shop.fit(shop.config(EaseSettings(l2=20, features=FeatureWeightsSettings(text=3.0))))
    ease = EaseSettings(l2=20, features=FeatureWeightsSettings(text=3.0, tuned=True, stop_after=3))
    head = shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4), ease,
                                 optim=AdamWSettings(epochs=3, batch_size=16, learning_rate=0.05)))
    assert not torch.equal(head.score(shop.known_users()), plain.score(shop.known_users()))


def test_untrained_vectors_beside_the_frozen_ones_are_one_vector_of_the_length_of_both(shop):
    """Weights 3 and 4 of the same vector are a weight of 5, in the rows of ease and for its memory."""
    def fitted(**features):
        return shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4),
                                     EaseSettings(l2=20, features=FeatureWeightsSettings(**features))))

    both = fitted(text=3.0, frozen_text=4.0, tuned=True, stop_after=0)
    users = shop.known_users()
    torch.testing.assert_close(both.score(users), fitted(text=5.0).score(users), rtol=1e-4, atol=1e-5)
    alone = fitted(text=3.0, tuned=True, stop_after=0)
    training = shop.data.training("train")
    assert both.estimate_memory(training) > alone.estimate_memory(training)


def test_another_run_can_start_from_a_saved_adapter(shop, tmp_path):
    for peft in (LoraSettings(rank=2, num_layers=1), EmbeddingAdapterSettings(rank=4)):
        stop = ContentSettings(features=replace(TUNED_TEXT, stop_after=3), gamma=0.5, l2=1.0, denoise=0.0, blend=0.0)
        first = shop.fit(tuned_config(shop, peft, stop))
        folder = tmp_path / peft.kind
        first.item_texts.save_adapter(folder)
        assert {file.name for file in folder.iterdir()} == {"adapter.safetensors", "adapter.json"}
        none = replace(stop, features=replace(TUNED_TEXT, stop_after=0))
        again = shop.fit(tuned_config(shop, replace(peft, adapter=str(folder)), none))
        np.testing.assert_allclose(again.text_vectors, first.text_vectors, atol=1e-6)


def test_an_adapter_of_another_base_or_of_other_settings_or_damaged_is_refused(shop, tmp_path):
    stop = ContentSettings(features=replace(TUNED_TEXT, stop_after=1), gamma=0.5, l2=1.0, denoise=0.0, blend=0.0)
    folder = tmp_path / "adapter"
    peft = LoraSettings(rank=2, num_layers=1)
    shop.fit(tuned_config(shop, peft, stop)).item_texts.save_adapter(folder)
    other = HuggingFaceSettings(path=str(save_tiny(tmp_path / "other", "roberta")), max_length=24)
    started = replace(peft, adapter=str(folder))
    with pytest.raises(ArtifactError, match="was trained on another encoder"):
        shop.fit(tuned_config(shop, started, stop, encoder=other))
    with pytest.raises(ArtifactError, match=r"peft.rank=4 \(the adapter: 2\)"):
        shop.fit(tuned_config(shop, replace(started, rank=4), stop))
    weights = folder / "adapter.safetensors"
    content = bytearray(weights.read_bytes())
    content[-3] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ArtifactError, match="its SHA-256 is not the one"):
        shop.fit(tuned_config(shop, started, stop))
    with pytest.raises(ConfigError, match="name the `adapter` folder"):
        shop.fit(tuned_config(shop, replace(peft, adapter=str(tmp_path / "nowhere")), stop))


def test_what_cannot_work_is_refused_before_anything_runs(shop):
    def problems(**changed):
        usual = {"head": ContentSettings(features=TUNED_TEXT), "encoder": shop.encoder, "peft": LoraSettings(),
                 "loss": ReadersSettings()}
        return " ".join(ModelConfig(**(usual | changed)).problems())

    assert problems() == ""
    assert "encoder=tfidf has no trainable layers" in problems(encoder=TfIdfSettings())
    assert problems(encoder=TfIdfSettings(), peft=EmbeddingAdapterSettings()) == ""
    assert "loss=softmax: cannot train head=content; choose one of readers, distillation" in problems(
        loss=shop.config(ContentSettings()).loss)
    assert "has no effect with text=0" in " ".join(FeatureWeightsSettings(tuned=True).problems())
    for changed in ({"frozen_text": 1.0}, {"interpolation": 0.5}, {"folds": 2}, {"stop_after": 2}):
        assert "has no effect without tuned=true" in " ".join(FeatureWeightsSettings(text=1.0, **changed).problems())
    assert "interpolation=0.0: must be above 0" in " ".join(
        FeatureWeightsSettings(text=1.0, tuned=True, interpolation=0.0).problems())
    assert "folds=6: must be at most 5" in " ".join(
        FeatureWeightsSettings(text=1.0, tuned=True, folds=6).problems())
