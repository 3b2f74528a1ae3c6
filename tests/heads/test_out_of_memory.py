"""An encoder that runs out of memory encodes fewer texts at a time; the training steps stay the same (54)."""

import pytest
import torch

from llmrec_cli.encoders.text_encoder import TextEncoder
from llmrec_cli.errors import ResourceError
from llmrec_cli.heads.base import build
from llmrec_cli.settings.head import TwoTowerSettings
from llmrec_cli.settings.loss import SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import LoraSettings

UPPER = TextEncoder._upper


def fit(shop, monkeypatch, most_tokens):
    """Return the losses and the log of a fit whose encoder can train on at most `most_tokens` tokens at a time."""
    def short(self, hidden, mask):
        if torch.is_grad_enabled() and mask.numel() > most_tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return UPPER(self, hidden, mask)

    monkeypatch.setattr(TextEncoder, "_upper", short)
    events = []
    config = shop.config(TwoTowerSettings(embedding_size=8, dropout=0.0),
                         peft=LoraSettings(rank=2, num_layers=1, dropout=0.0),
                         loss=SoftmaxSettings(), optim=AdamWSettings(epochs=2, batch_size=128, learning_rate=0.02))
    head = build(config)
    # Dropout would draw again for each bucket of texts.
    monkeypatch.setattr(TextEncoder, "train", lambda self, mode=True: torch.nn.Module.train(self, False))
    head.fit(shop.data.training("train"), shop.context(
        validation=None, log=lambda event, **values: events.append((event, values))))
    return [values["loss"] for event, values in events if event == "step"], dict(events)


def test_54_the_encoder_of_a_head_runs_fewer_texts_at_a_time_and_the_losses_stay(shop, monkeypatch):
    expected, events = fit(shop, monkeypatch, 10**9)
    assert "out_of_memory" not in events
    actual, events = fit(shop, monkeypatch, 100)
    assert events["out_of_memory"]["shrunk"] >= 3
    assert actual == pytest.approx(expected, rel=1e-3)


def test_54_where_not_one_text_fits_the_fit_ends_with_a_resource_error(shop, monkeypatch):
    with pytest.raises(ResourceError, match="two_tower: out of memory at step 1"):
        fit(shop, monkeypatch, 1)
