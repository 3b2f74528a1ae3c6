"""The cache of the frozen layers' output, in memory and on disk."""

import numpy as np
import pytest
import torch

from llmrec_cli.encoders.batching import PackedTokens, buckets
from llmrec_cli.encoders.frozen_layer_cache import FrozenLayerCache
from llmrec_cli.encoders.sources import load_encoder
from llmrec_cli.settings.encoder import HuggingFaceSettings
from llmrec_cli.settings.peft import LoraSettings, NoPeftSettings, TopLayersSettings
from tests.tiny_models import save_tiny

CPU = torch.device("cpu")
TEXTS = ["the robot and the moon", "a", "", "a", "the desert"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("bert"))


def load(folder, peft):
    return load_encoder(HuggingFaceSettings(path=str(folder), max_length=12, batch_tokens=20), peft, CPU)


def test_packed_tokens_are_padded_to_the_longest_of_the_batch():
    packed = PackedTokens([np.array([5, 6, 7]), np.array([8]), np.array([9, 10])], padding_id=1, device=CPU)
    ids, mask = packed.batch(torch.tensor([2, 1, 2]))
    assert ids.tolist() == [[9, 10], [8, 1], [9, 10]]
    assert mask.tolist() == [[True, True], [True, False], [True, True]]


def test_buckets_hold_similar_lengths_within_the_limit_and_each_row_once():
    result = [rows.tolist() for rows in buckets(np.array([2, 9, 3, 3, 1]), 9)]
    assert result == [[1], [2, 3, 0], [4]]
    assert [rows.tolist() for rows in buckets(np.array([50]), 9)] == [[0]]


def test_a_batch_is_the_output_of_the_lower_layers_with_zero_padding(folder):
    encoder = load(folder, LoraSettings())
    cache = FrozenLayerCache(encoder, TEXTS, CPU)
    hidden, mask = cache.batch(torch.tensor([1, 0, 1]))
    ids, expected_mask = PackedTokens(encoder.tokenize(["a", TEXTS[0], "a"]), 0, CPU).batch(torch.arange(3))
    assert torch.equal(mask, expected_mask)
    assert torch.allclose(hidden[mask], encoder.lower(ids, mask)[mask], atol=1e-5)
    assert not hidden[~mask].any()
    assert not hidden.requires_grad


def test_identical_texts_share_their_storage(folder):
    bank = FrozenLayerCache(load(folder, LoraSettings()), TEXTS, CPU)
    assert (len(bank), bank.num_distinct) == (5, 4)
    assert bank.distinct_of[1] == bank.distinct_of[3]
    tokens = sum(len(ids) for ids in bank.encoder.tokenize(["the robot and the moon", "a", "", "the desert"]))
    assert len(bank.hidden) == tokens + 1


def test_frozen_layers_run_when_the_bank_is_built_and_never_again(folder, monkeypatch):
    encoder = load(folder, LoraSettings())
    bank = FrozenLayerCache(encoder, TEXTS, CPU)
    monkeypatch.setattr(encoder, "lower", None)
    encoder.train()
    encoder.upper(*bank.batch(torch.arange(5))).sum().backward()
    assert all(p.grad is not None for p in encoder.parameters() if p.requires_grad)
    bank.vectors()
    assert encoder.training


def test_bfloat16_halves_the_memory_and_stays_close(folder):
    encoder = load(folder, LoraSettings())
    exact, rounded = FrozenLayerCache(encoder, TEXTS, CPU), FrozenLayerCache(encoder, TEXTS, CPU, torch.bfloat16)
    assert rounded.hidden.nbytes * 2 == exact.hidden.nbytes
    assert rounded.batch(torch.tensor([0]))[0].dtype == torch.float32
    assert torch.allclose(exact.vectors(), rounded.vectors(), atol=0.1)


def test_a_trained_lower_part_runs_with_every_batch_and_gets_gradients(folder):
    encoder = load(folder, NoPeftSettings())
    bank = FrozenLayerCache(encoder, TEXTS, CPU)
    hidden, mask = bank.batch(torch.arange(5))
    encoder.upper(hidden, mask).sum().backward()
    assert encoder.model.get_input_embeddings().weight.grad.abs().sum() > 0
    before = bank.vectors()
    with torch.no_grad():
        encoder.model.get_input_embeddings().weight.neg_()
    assert not torch.allclose(before, bank.vectors())


def test_a_perturbation_of_the_batch_reaches_the_vectors_and_leaves_the_bank_alone(folder):
    encoder = load(folder, LoraSettings())
    bank = FrozenLayerCache(encoder, TEXTS, CPU)
    hidden, mask = bank.batch(torch.arange(5))
    clean = encoder.upper(hidden, mask)
    hidden += 0.5 * torch.randn_like(hidden)
    assert not torch.allclose(clean, encoder.upper(hidden, mask))
    assert torch.allclose(clean, bank.vectors(), atol=1e-5)


def test_hidden_states_kept_on_disk_serve_the_next_run_and_are_made_anew_when_damaged(folder, tmp_path, capsys):
    encoder = load(folder, TopLayersSettings())
    first = FrozenLayerCache(encoder, TEXTS, CPU, cache=tmp_path)
    file = next(tmp_path.glob("hidden/*/hidden.bin"))
    encoder.lower = lambda *_: pytest.fail("run again")
    again = FrozenLayerCache(encoder, TEXTS, CPU, cache=tmp_path)
    assert torch.equal(again.hidden, first.hidden)
    del encoder.lower
    other = load(folder, TopLayersSettings(num_layers=1))
    assert not torch.equal(FrozenLayerCache(other, TEXTS, CPU, cache=tmp_path).hidden, first.hidden)
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    assert torch.equal(FrozenLayerCache(encoder, TEXTS, CPU, cache=tmp_path).hidden, first.hidden)
    assert "damaged, so it is removed and recomputed" in capsys.readouterr().err


def test_hidden_states_in_bfloat16_take_half_and_come_back_the_same(folder, tmp_path):
    encoder = load(folder, TopLayersSettings())
    first = FrozenLayerCache(encoder, TEXTS, CPU, torch.bfloat16, tmp_path)
    assert next(tmp_path.glob("hidden/*/hidden.bin")).stat().st_size == first.hidden.numel() * 2
    assert torch.equal(FrozenLayerCache(encoder, TEXTS, CPU, torch.bfloat16, tmp_path).hidden, first.hidden)


def test_sampled_tokens_are_tokens_of_the_text_in_their_order_and_only_while_training(folder):
    encoder = load(folder, TopLayersSettings())
    whole, bank = FrozenLayerCache(encoder, TEXTS, CPU), FrozenLayerCache(encoder, TEXTS, CPU, sampled_tokens=3)
    rows = torch.arange(len(TEXTS))
    assert bank.batch(rows)[0].shape == whole.batch(rows)[0].shape
    encoder.train()
    full_RTD, full_RT = whole.batch(rows)
    hidden_RSD, mask_RS = bank.batch(rows)
    assert mask_RS.sum(1).tolist() == full_RT.sum(1).clamp_max(3).tolist()
    for row in range(len(TEXTS)):
        places = [int((full_RTD[row] == token).all(1).nonzero()[0]) for token in hidden_RSD[row][mask_RS[row]]]
        assert places == sorted(places)
        assert all(full_RT[row, place] for place in places)
    assert not torch.equal(bank.batch(rows)[0], hidden_RSD)
