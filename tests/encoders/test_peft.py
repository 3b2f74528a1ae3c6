"""Fine-tuning methods: neutral start, trained parameters only, save and restore, merging."""

import numpy as np
import pytest
import torch

from llmrec_cli.encoders import text_encoder
from llmrec_cli.encoders.frozen_layer_cache import FrozenLayerCache
from llmrec_cli.encoders.peft import merge_adapters
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.errors import ConfigError
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.peft import (
    AdaLoraSettings,
    BottleneckSettings,
    DoraSettings,
    Ia3Settings,
    LoraSettings,
    NoPeftSettings,
    PrefixSettings,
    PromptSettings,
    TopLayersSettings,
)
from tests.some_slow import some_slow
from tests.tiny_models import SENTENCES, save_tiny

CPU = torch.device("cpu")
TEXTS = list(SENTENCES)
ADAPTERS = [LoraSettings(), LoraSettings(num_layers=None), DoraSettings(), AdaLoraSettings(), Ia3Settings(),
            Ia3Settings(num_layers=None), BottleneckSettings(),
            BottleneckSettings(num_layers=None)]
EVERYTHING = [NoPeftSettings(), TopLayersSettings(), *ADAPTERS, PrefixSettings(), PromptSettings()]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {name: save_tiny(root / name, name) for name in ("bert", "distilbert", "gpt2")}


def load(folder, peft, seed=1):
    return load_encoder(HuggingFaceSettings(path=str(folder), max_length=12, batch_tokens=32), peft, CPU, seed=seed)


def trained(encoder, steps=6, rate=0.01):
    """Train the encoder's vectors towards 0 and return it."""
    bank = FrozenLayerCache(encoder, TEXTS, CPU)
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], rate)
    if encoder.budget is not None:
        encoder.budget.plan(steps)
    for step in range(steps):
        optimizer.zero_grad()
        loss = encoder.upper(*bank.batch(torch.arange(len(TEXTS)))).square().sum()
        if encoder.budget is not None:
            loss = loss + encoder.budget.penalty()
        loss.backward()
        assert [n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None] == []
        optimizer.step()
        if encoder.budget is not None:
            encoder.budget.after_step(step + 1)
    return encoder


@pytest.mark.parametrize("peft", some_slow(ADAPTERS, 3), ids=lambda p: f"{p.kind}-{p.num_layers}")
def test_an_adapter_changes_nothing_before_it_is_trained(folders, peft):
    for architecture in ("bert", "distilbert"):
        expected = load(folders[architecture], None).encode(TEXTS)
        np.testing.assert_allclose(load(folders[architecture], peft).encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize("peft", some_slow(EVERYTHING, 4), ids=lambda p: p.kind + str(getattr(p, "num_layers", "")))
def test_trained_weights_are_restored_in_another_encoder_of_the_same_base(folders, peft):
    before = load(folders["bert"], peft).encode(TEXTS)
    encoder = trained(load(folders["bert"], peft))
    after = encoder.encode(TEXTS)
    assert abs(after - before).max() > 1e-4
    other = load(folders["bert"], peft, seed=2)
    other.load_trained_state(encoder.trained_state())
    np.testing.assert_array_equal(other.encode(TEXTS), after)


@pytest.mark.parametrize("peft",
                         [LoraSettings(num_layers=None), DoraSettings(num_layers=None), Ia3Settings(num_layers=None),
                                  BottleneckSettings(num_layers=None), PrefixSettings(), PromptSettings()],
                         ids=lambda p: p.kind)
def test_a_decoder_takes_adapters_in_all_layers_and_virtual_tokens(folders, peft):
    encoder = load(folders["gpt2"], peft)
    before = encoder.encode(TEXTS)
    assert abs(trained(encoder).encode(TEXTS) - before).max() > 1e-4


@pytest.mark.parametrize("peft", [LoraSettings(), DoraSettings(), AdaLoraSettings(), Ia3Settings()],
                         ids=lambda p: p.kind)
def test_a_merged_encoder_is_a_plain_one_with_the_same_vectors(folders, peft):
    encoder = trained(load(folders["bert"], peft))
    plain = merge_adapters(encoder.model)
    assert plain.state_dict().keys() == load(folders["bert"], None).model.state_dict().keys()
    tokens = encoder.tokenize(TEXTS[:1])
    ids = torch.from_numpy(tokens[0])[None]
    hidden = plain.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    np.testing.assert_allclose(hidden.mean(1).detach().numpy(), encoder.encode(TEXTS[:1]), atol=1e-5)


@pytest.mark.parametrize("peft", [BottleneckSettings(), PromptSettings(), PrefixSettings()], ids=lambda p: p.kind)
def test_prompt_adapters_cannot_be_merged(folders, peft):
    with pytest.raises(ConfigError, match="cannot be merged"):
        merge_adapters(load(folders["bert"], peft).model)


def test_prefix_tuning_is_refused_for_models_without_support(folders):
    with pytest.raises(ConfigError, match=r"peft=prefix: 'distilbert'.*peft=prompt"):
        load(folders["distilbert"], PrefixSettings())


def test_adalora_ends_with_the_requested_mean_rank(folders):
    encoder = trained(load(folders["bert"], AdaLoraSettings(rank=8, target_rank=3)), steps=10)
    ranks = [parameter for name, parameter in encoder.named_parameters() if "lora_E" in name]
    assert len(ranks) == 12
    assert sum(int((rank != 0).sum()) for rank in ranks) == 3 * 12


@pytest.mark.slow
def test_resumed_adalora_equals_an_uninterrupted_run(folders):
    def run(encoder, start, stop):
        encoder.budget.plan(10)
        bank = FrozenLayerCache(encoder, TEXTS, CPU)
        parameters = [p for p in encoder.parameters() if p.requires_grad]
        for step in range(start, stop):
            for p in parameters:
                p.grad = None
            encoder.upper(*bank.batch(torch.arange(len(TEXTS)))).square().sum().backward()
            with torch.no_grad():
                for p in parameters:
                    p -= 0.01 * p.grad
            encoder.budget.after_step(step + 1)
        return encoder

    whole = run(load(folders["bert"], AdaLoraSettings()), 0, 10)
    for stop in (4, 8):  # during pruning, and after it
        first = run(load(folders["bert"], AdaLoraSettings()), 0, stop)
        second = load(folders["bert"], AdaLoraSettings())
        second.load_trained_state(first.trained_state())
        second.budget.load_state_dict(first.budget.state_dict())
        run(second, stop, 10)
        for name, array in whole.trained_state().items():
            np.testing.assert_array_equal(second.trained_state()[name], array, err_msg=name)


def test_gradient_caching_gives_the_gradients_of_one_large_batch(folders, monkeypatch):
    texts = [f"{a} {b}" for a in TEXTS for b in TEXTS]

    def gradients(batch_tokens, kept_buckets):
        monkeypatch.setattr(text_encoder, "STORED_BUCKETS", kept_buckets)
        encoder = load_encoder(HuggingFaceSettings(path=str(folders["bert"]), max_length=12, batch_tokens=batch_tokens),
                               TopLayersSettings(), CPU)
        bank = FrozenLayerCache(encoder, texts, CPU)
        vectors = torch.nn.functional.normalize(encoder.upper(*bank.batch(torch.arange(len(texts)))), dim=1)
        (vectors @ vectors.T * 5).logsumexp(1).sum().backward()
        return [p.grad for p in encoder.parameters() if p.requires_grad]

    for cached, whole in zip(gradients(32, 0), gradients(10_000, 24), strict=True):
        torch.testing.assert_close(cached, whole, rtol=1e-4, atol=1e-5)
