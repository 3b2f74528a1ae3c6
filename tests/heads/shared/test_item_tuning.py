"""Training of item texts on co-occurrence, before a head uses them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.heads.shared import item_tuning
from llmrec_cli.settings.encoder import HuggingFaceSettings, TfIdfSettings
from llmrec_cli.settings.head import ContentSettings, EaseSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.loss import DistillationSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import (
    AdaLoraSettings,
    EmbeddingAdapterSettings,
    LoraSettings,
    PromptSettings,
    TopLayersSettings,
)
from llmrec_cli.training.losses import distillation
from tests.tiny_models import save_tiny

TUNED_TEXT = FeatureWeightsSettings(text=1.0, tuned=True)


def tuned_config(shop, peft, head=None, **changed):
    return shop.config(head or ContentSettings(features=TUNED_TEXT), peft=peft, loss=DistillationSettings(),
                       **({"optim": AdamWSettings(epochs=3, batch_size=16, encoder_learning_rate=1e-3)} | changed))


@pytest.mark.parametrize("peft",
                         [EmbeddingAdapterSettings(rank=4), LoraSettings(rank=2, num_layers=1),
                          TopLayersSettings(num_layers=1),
                                  AdaLoraSettings(rank=4, target_rank=3, num_layers=1, orthogonality=0.0),
                          PromptSettings()],
                         ids=lambda p: p.kind)
def test_the_loss_falls_whatever_is_trained(shop, peft):
    losses = []

    def log(event, **values):
        if event == "step":
            losses.append(values["loss"])

    shop.fit(tuned_config(shop, peft, optim=AdamWSettings(epochs=16, batch_size=64, patience=16, learning_rate=0.01,
                                                   encoder_learning_rate=1e-2)), log=log)
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_vectors_that_no_epoch_improves_stay_as_they_came(shop, monkeypatch):
    # The original vectors, three epochs, and the best epoch again.
    values = iter([0.5, 0.4, 0.3, 0.2, 0.4])
    monkeypatch.setattr(item_tuning, "_values", lambda *_: np.full(10, next(values)))
    head = shop.fit(tuned_config(shop, LoraSettings(rank=2, num_layers=1)))
    plain = shop.fit(shop.config(ContentSettings(features=FeatureWeightsSettings(text=1.0))))
    np.testing.assert_allclose(head.text_vectors, plain.text_vectors, atol=1e-6)
    assert head.tuned_config().head.features.stop_after == 0


@pytest.mark.parametrize(("spread", "is_kept"), [(0.3, True), (0.9, False)])
def test_tuned_vectors_are_kept_only_for_a_gain_above_its_standard_error(shop, monkeypatch, capsys, spread, is_kept):
    """The mean gain is .2 on 10 queries; deviations of +-spread have a standard error of spread / 3."""
    gains = 0.2 + spread * np.array([1, -1] * 5)
    values = iter([np.zeros(10), np.full(10, 0.1), gains, np.full(10, 0.1), gains])
    monkeypatch.setattr(item_tuning, "_values", lambda *_: next(values))
    logged = []
    head = shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4)), log=lambda event,
                    **entry: logged.append((event, entry)))
    (texts,) = [entry for event, entry in logged if event == "texts"]
    assert (texts["gain"], texts["kept"]) == (pytest.approx(0.2), is_kept)
    assert texts["standard_error"] == pytest.approx(spread / 3)
    assert head.tuned_config().head.features.stop_after == (2 if is_kept else 0)
    assert f"+0.2000, standard error {spread / 3:.4f}, 10 queries: {'kept' if is_kept else 'not kept'}" in \
        capsys.readouterr().err


def test_a_refit_trains_for_the_chosen_number_of_epochs_without_validation(shop, monkeypatch):
    values = iter([0.1, 0.2, 0.5, 0.4, 0.5])
    monkeypatch.setattr(item_tuning, "_values", lambda *_: np.full(10, next(values)))
    first = shop.fit(tuned_config(shop, EmbeddingAdapterSettings(rank=4)))
    assert first.tuned_config().head.features.stop_after == 2
    monkeypatch.setattr(item_tuning, "_values", lambda *_: pytest.fail("asked validation"))
    epochs = []
    shop.fit(first.tuned_config(), validation=None,
             log=lambda event, **values: epochs.append(values) if event == "step" else None)
    assert len(epochs) == 2 * 3


def test_items_hidden_to_choose_on_are_hidden_from_the_training_too(shop, monkeypatch):
    matrices = []
    original = distillation.SoftTargets

    def spy(matrix, *rest):
        matrices.append(matrix)
        return original(matrix, *rest)

    monkeypatch.setattr(distillation, "SoftTargets", spy)
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
                 "loss": DistillationSettings()}
        return " ".join(ModelConfig(**(usual | changed)).problems())

    assert problems() == ""
    assert "encoder=tfidf has no trainable layers" in problems(encoder=TfIdfSettings())
    assert problems(encoder=TfIdfSettings(), peft=EmbeddingAdapterSettings()) == ""
    assert "loss=softmax: cannot train head=content; choose one of distillation" in problems(
        loss=shop.config(ContentSettings()).loss)
    assert "has no effect with text=0" in " ".join(FeatureWeightsSettings(tuned=True).problems())
