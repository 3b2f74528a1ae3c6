"""Parts of a batch: weighted losses and gradients sum to those of the batch, for every loss that can be split."""

import numpy as np
import pytest
import torch

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.settings.encoder import HuggingFaceSettings, ScratchSettings
from llmrec_cli.settings.objective import CausalLanguageModelSettings, MaskedLanguageModelSettings, NextSentenceSettings
from llmrec_cli.training.clm import causal_language_modelling
from llmrec_cli.training.mlm import masked_language_modelling
from llmrec_cli.training.nsp import next_sentence_prediction
from tests.tiny_models import save_tiny

CPU = torch.device("cpu")
SCRATCH = ScratchSettings(vocabulary_size=200, hidden_size=16, num_layers=2, num_attention_heads=2, max_length=32)


def gradients(model, examples, parts):
    """Return the summed weighted losses of the parts of a batch, their gradients, and the number of parts."""
    batch = next(iter(examples.batches(24, np.random.default_rng(2))))
    model.eval()  # Without dropout, which draws anew for each part.
    model.zero_grad()
    total, split = 0.0, [(batch, 1.0)] if parts == 1 else examples.split(batch, parts)
    for part, weight in split:
        value = examples.loss(part) * weight
        value.backward()
        total += value.item()
    return total, [p.grad.clone() for p in model.parameters() if p.grad is not None], len(split)


def check(model, examples):
    whole, expected, _ = gradients(model, examples, 1)
    for parts in (2, 3, 8, 24):
        total, grads, number = gradients(model, examples, parts)
        assert 1 < number <= parts
        assert total == pytest.approx(whole, rel=1e-5)
        for one, other in zip(grads, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("objective", "settings", "architecture"), [
    (masked_language_modelling, MaskedLanguageModelSettings(mask_share=0.3), "bert"),
    (causal_language_modelling, CausalLanguageModelSettings(), "gpt2"),
    (next_sentence_prediction, NextSentenceSettings(), "scratch")])
def test_54_parts_of_a_batch_of_texts_sum_to_the_batch(tiny_prepared, tmp_path, objective, settings, architecture):
    encoder = SCRATCH
    if architecture != "scratch":
        encoder = HuggingFaceSettings(path=str(save_tiny(tmp_path / "model", architecture)), max_length=16)
    task = objective(settings, encoder, read_prepared(tiny_prepared).training("train"), 1, CPU)
    for parameter in task.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # A head that starts at 0 would have no gradients to compare.
    check(task.model, task.train)
