"""Estimated memory of texts grows with its parts: texts, trained layers, a step, the encoder."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from llmrec_cli.encoders import sources
from llmrec_cli.encoders.sources import ENCODING_BYTES, MINILM_SHAPE
from llmrec_cli.heads.base import build
from llmrec_cli.heads.shared import item_texts
from llmrec_cli.heads.shared.features import features_memory
from llmrec_cli.heads.shared.text_memory import (
    HELD_WHILE_RUN_AGAIN,
    VECTOR_COPIES,
    encoder_memory,
    num_tokens,
    pairs_memory,
    step_memory,
    trained_memory,
)
from llmrec_cli.scoring.memory import history_memory
from llmrec_cli.settings.adversarial import FgmSettings
from llmrec_cli.settings.encoder import HuggingFaceSettings, MiniLMSettings, TfIdfSettings
from llmrec_cli.settings.head import ModelConfig, TwoTowerSettings
from llmrec_cli.settings.heads.clusters import ClustersSettings
from llmrec_cli.settings.heads.features import FeatureWeightsSettings
from llmrec_cli.settings.heads.interest import InterestSettings
from llmrec_cli.settings.heads.item_similarity import ItemSimilaritySettings
from llmrec_cli.settings.heads.sequential import SequentialSettings
from llmrec_cli.settings.loss import BceSettings, DistillationSettings, SoftmaxSettings
from llmrec_cli.settings.optim import AdamWSettings
from llmrec_cli.settings.peft import (
    BottleneckSettings,
    DoraSettings,
    FrozenSettings,
    LoraSettings,
    NoPeftSettings,
    TopLayersSettings,
)
from llmrec_cli.training.losses.distillation import co_occurring_pairs
from tests.tiny_models import tiny_tokenizer

TEXTS = [f"robot number {n} and the moon" for n in range(100)]
CONFIG = ModelConfig(head=TwoTowerSettings(), encoder=MiniLMSettings(), peft=LoraSettings(), loss=SoftmaxSettings(),
                     optim=AdamWSettings())


def with_peft(peft):
    return replace(CONFIG, peft=peft)


def test_memory_of_a_frozen_encoder_is_its_files_and_vectors():
    estimate = encoder_memory(with_peft(FrozenSettings()), TEXTS, 10)
    assert estimate == ENCODING_BYTES + MINILM_SHAPE.weights + VECTOR_COPIES * 4 * 100 * 384
    # The config trains layers, but not for these texts, as for the texts of users.
    assert encoder_memory(CONFIG, TEXTS, 10, FrozenSettings()) == estimate


@pytest.mark.parametrize("peft", [FrozenSettings(), LoraSettings()], ids=["frozen", "lora"])
def test_what_a_head_takes_after_encoding_reuses_the_buffers_of_encoding(peft):
    def stated(later):
        return encoder_memory(with_peft(peft), TEXTS, 1, later=later)

    assert stated(ENCODING_BYTES // 2) == stated(0)
    assert stated(ENCODING_BYTES + 2000) - stated(ENCODING_BYTES + 1000) == 1000
    assert encoder_memory(replace(CONFIG, encoder=None), TEXTS, 1, later=1000) == 1000


def test_without_text_features_nothing_is_reused(shop):
    def stated(text, later):
        return features_memory(FeatureWeightsSettings(text=text), CONFIG, shop.data.training("train"), later)

    assert stated(0, 1000) - stated(0, 0) == 1000
    assert stated(1, 1000) == stated(1, 0)


def test_buffers_of_encoding_are_returned_before_the_head_goes_on(monkeypatch):
    trimmed = []
    monkeypatch.setattr(item_texts, "return_freed_memory", lambda: trimmed.append(True))
    item_texts.ItemTexts.encode(TfIdfSettings(), FrozenSettings(), np.array(TEXTS, object), torch.device("cpu"), 0, {})
    assert trimmed


def test_trained_layers_add_memory_for_hidden_states_of_distinct_texts():
    def beside(texts):
        # With later arrays that take the buffers of encoding.
        return (encoder_memory(CONFIG, texts, 1, later=ENCODING_BYTES)
                - encoder_memory(with_peft(FrozenSettings()), texts, 1, later=ENCODING_BYTES))

    lengths = [num_tokens(MiniLMSettings(), text) for text in TEXTS]
    step = step_memory(CONFIG, LoraSettings(), 1, np.mean(lengths), max(lengths))
    assert beside(TEXTS) == pytest.approx(4 * 384 * sum(lengths) + step, abs=1)
    assert beside([*TEXTS, *TEXTS]) == beside(TEXTS)
    assert encoder_memory(CONFIG, [*TEXTS, *TEXTS], 1) > encoder_memory(CONFIG, TEXTS, 1)


@pytest.mark.parametrize(("text", "expected"), [("", 2), ("abcdef", 4), ("太空", 4), ("x" * 10_000, 64)])
def test_memory_assumes_three_bytes_per_token_and_truncated_texts(text, expected):
    assert num_tokens(MiniLMSettings(), text) == expected


def test_memory_of_a_step_grows_with_texts_layers_and_an_adversary():
    def step(num_texts=8, peft=None, **changed):
        return step_memory(replace(CONFIG, **changed), peft or LoraSettings(), num_texts, 24, 32)

    # Up to the inputs, of one layer: 51 hidden sizes of 384 numbers for each of 8 x 32 tokens, and gaps as large.
    assert step(peft=LoraSettings(num_layers=1)) == 4 * 384 * (2 * 51 + 2) * 8 * 32
    assert step(peft=LoraSettings(num_layers=3)) == 4 * 384 * (2 * 3 * 51 + 2) * 8 * 32
    assert step(peft=LoraSettings(num_layers=6)) == 4 * 384 * (2 * 6 * 51 + 2) * 8 * 32
    assert step(peft=LoraSettings(num_layers=None)) == step(peft=LoraSettings(num_layers=6))
    assert step(16) == 2 * step(8)
    assert step(adversarial=FgmSettings()) > step()
    assert step(optim=AdamWSettings(precision="bfloat16")) < step()
    assert step(peft=BottleneckSettings()) < step(peft=TopLayersSettings()) < step() < step(peft=DoraSettings())


def test_texts_that_fit_into_a_bucket_are_padded_and_others_are_cut_into_buckets():
    # 2,048 tokens with the padding, then twice as many, with gaps as large as a bucket of 2,048. Few tokens in texts
    # that are too long to be padded make a smaller bucket.
    assert step_memory(CONFIG, LoraSettings(), 32, 48, 64) == step_memory(CONFIG, LoraSettings(), 32, 64, 64)
    assert step_memory(CONFIG, LoraSettings(), 64, 48, 64) == 4 * 384 * (2 * 51 * (64 * 48 + 2048) + 2 * 64 * 64)
    assert step_memory(CONFIG, LoraSettings(), 64, 10, 64) == 4 * 384 * (2 * 51 * 2 * 64 * 10 + 2 * 64 * 64)


def test_recomputed_buckets_need_less_memory():
    few, many = (step_memory(CONFIG, LoraSettings(), num, 64, 64) for num in (12 * 32, 13 * 32))
    assert many < few
    assert step_memory(CONFIG, LoraSettings(), 10 * 13 * 32, 64, 64) - many == (
        (2 + 2 * HELD_WHILE_RUN_AGAIN) * 4 * 384 * 64 * 9 * 13 * 32)


def test_memory_of_gradients_and_moments_is_for_trained_weights_only():
    assert trained_memory(MiniLMSettings(), LoraSettings()) == 0
    one, two = (trained_memory(MiniLMSettings(), TopLayersSettings(num_layers=num)) for num in (1, 2))
    assert two == 2 * one
    assert trained_memory(MiniLMSettings(), NoPeftSettings()) == 4 * MINILM_SHAPE.weights


@pytest.fixture
def sizes(tmp_path):
    """Encoders of two widths and depths, in folders."""
    def saved(width, layers):
        folder = tmp_path / f"{width}-{layers}"
        tokenizer = tiny_tokenizer()
        config = transformers.BertConfig(vocab_size=len(tokenizer), hidden_size=width, num_hidden_layers=layers,
                                         num_attention_heads=2, intermediate_size=24, max_position_embeddings=48)
        transformers.BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return HuggingFaceSettings(path=str(folder), max_length=24)

    return saved


def test_memory_of_an_encoder_folder_is_its_size(sizes):
    def stated(width, layers, peft):
        return encoder_memory(replace(CONFIG, encoder=sizes(width, layers), peft=peft), TEXTS, 50)

    assert stated(64, 2, FrozenSettings()) > stated(32, 2, FrozenSettings())
    assert stated(32, 4, FrozenSettings()) > stated(32, 2, FrozenSettings())
    for peft in (LoraSettings(num_layers=None), NoPeftSettings()):
        wider, deeper, plain = (stated(*size, peft) for size in ((64, 2), (32, 4), (32, 2)))
        assert wider > plain
        assert deeper > plain
    # Two trained layers take the same memory, independent of the number of layers below them.
    top = LoraSettings(num_layers=2)
    assert (stated(32, 4, top) - stated(32, 4, FrozenSettings())) == (stated(32, 2, top) - stated(32, 2,
                                                                                                  FrozenSettings()))


def test_memory_of_text_pairs_is_that_of_a_step():
    config = replace(CONFIG, loss=BceSettings())
    assert pairs_memory(config, 2048) - pairs_memory(config, 1024) > 1024 * 64 * 384 * 4


@pytest.mark.parametrize("head",
                         [TwoTowerSettings(), SequentialSettings(), InterestSettings(), ClustersSettings(text=1.0),
                                  ItemSimilaritySettings(features=FeatureWeightsSettings(text=1.0))],
                         ids=lambda head: head.kind)
def test_memory_estimates_of_heads_with_texts_include_the_encoder(shop, head):
    loss = BceSettings() if head.kind == "interest" else SoftmaxSettings()
    built = build(shop.config(head, peft=LoraSettings(num_layers=1), loss=loss))
    estimate = built.estimate_memory(shop.data.training("train"))
    assert estimate > ENCODING_BYTES


def test_memory_of_two_towers_includes_three_arrays_of_logits(shop, monkeypatch):
    monkeypatch.setattr(sources, "ENCODING_BYTES", 0)
    data = shop.data.training("train")
    # One interaction in a step, so that validation is larger.
    config = shop.config(TwoTowerSettings(), peft=FrozenSettings(), optim=AdamWSettings(batch_size=1))
    ids = 4 * 4 * TwoTowerSettings().embedding_size * (len(data.users) + len(data.items))
    beside_texts = (build(config).estimate_memory(data)
                    - encoder_memory(config, data.items.texts, 0))
    block = 4 * len(data.users) * len(data.items)
    assert beside_texts == ids + 3 * block + history_memory(len(data.interactions))


def test_memory_of_tuned_texts_includes_a_step(shop, monkeypatch):
    # The buffers of encoding hold the step of a tiny shop.
    monkeypatch.setattr(sources, "ENCODING_BYTES", 0)

    def stated(peft):
        head = ItemSimilaritySettings(features=FeatureWeightsSettings(text=1.0, tuned=True))
        built = build(shop.config(head, peft=peft, loss=DistillationSettings()))
        return built.estimate_memory(shop.data.training("train"))

    assert stated(LoraSettings(num_layers=2)) > stated(LoraSettings(num_layers=1))


def test_pairs_of_items_that_are_chosen_together_are_counted_about_right():
    rng = np.random.default_rng(0)
    chance_N = rng.pareto(1.5, 400) + 0.05
    matrix = rng.random((300, 400)) < np.minimum(0.5, 0.02 * chance_N)
    together = matrix.T.astype(int) @ matrix
    expected = np.count_nonzero(together) - np.count_nonzero(together.diagonal())
    counts = matrix.sum(axis=0)
    assert co_occurring_pairs(counts[counts > 0], matrix.sum(axis=1)) == pytest.approx(expected, rel=0.15)
