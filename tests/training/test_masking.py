"""Masked tokens of a masked language model and their replacements."""

import pytest
import torch

from llmrec_cli.training.masking import Vocabulary, mask_tokens
from tests.tiny_models import tiny_tokenizer

PAD, UNK, CLS, SEP, MASK, FIRST, SIZE = 0, 1, 2, 3, 4, 5, 1000
VOCABULARY = Vocabulary(MASK, torch.arange(FIRST), torch.arange(FIRST, SIZE))


def masked(ids, share=0.15, seed=1):
    ids = torch.tensor(ids)
    return (ids, *mask_tokens(ids, ids != PAD, share, VOCABULARY, seed))


def test_padding_and_special_tokens_are_never_chosen_or_changed():
    rows = [[CLS, 10, UNK, 11, SEP, PAD, PAD], [CLS, 12, SEP, PAD, PAD, PAD, PAD]] * 200
    ids, inputs, target = masked(rows, share=0.5)
    assert not target[ids < FIRST].any()
    assert torch.equal(inputs[~target], ids[~target])


def test_of_the_chosen_tokens_80_percent_are_masked_10_replaced_and_10_unchanged():
    ids, inputs, target = masked([[CLS, *range(FIRST, 205), SEP]] * 500)
    share = target[:, 1:-1].float().mean().item()
    assert share == pytest.approx(0.15, abs=0.005)
    seen, truth = inputs[target], ids[target]
    assert (seen == MASK).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (seen == truth).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert seen.min() == MASK


def test_a_short_text_gets_a_mask_and_one_without_words_none():
    _, _, target = masked([[CLS, 10, 11, SEP], [CLS, UNK, SEP, PAD]] * 50, share=0.01)
    assert (target[0::2].sum(1) >= 1).all()
    assert not target[1::2].any()


def test_a_seed_fixes_the_masks_and_leaves_torchs_stream_alone():
    before = torch.get_rng_state()
    row = [[CLS, *range(FIRST, 60), SEP]]
    assert torch.equal(masked(row, seed=3)[1], masked(row, seed=3)[1])
    assert not torch.equal(masked(row, seed=3)[1], masked(row, seed=4)[1])
    assert torch.equal(before, torch.get_rng_state())


def test_the_vocabulary_of_a_tokenizer_is_divided_into_special_and_ordinary():
    tokenizer = tiny_tokenizer()
    vocabulary = Vocabulary.of(tokenizer, len(tokenizer), torch.device("cpu"))
    assert vocabulary.special.tolist() == [0, 1, 2, 3, 4]
    assert vocabulary.ordinary.tolist() == list(range(5, len(tokenizer)))
    assert vocabulary.mask == tokenizer.convert_tokens_to_ids("[MASK]")


def test_pieces_of_a_word_are_chosen_masked_and_left_alone_together():
    row, first = [CLS, 10, 11, 12, 13, 14, SEP, PAD], [0, 1, 1, 1, 4, 4, 6, 0]  # words: 10 11 12 | 13 14
    ids = torch.tensor([row] * 2000)
    inputs, target = mask_tokens(ids, ids != PAD, 0.3, VOCABULARY, 1, torch.tensor([first] * 2000))
    for word in (slice(1, 4), slice(4, 6)):
        assert (target[:, word] == target[:, word][:, :1]).all()
        masked_ones = inputs[:, word] == MASK
        assert (masked_ones == masked_ones[:, :1]).all()
    one, other = target[:, 1], target[:, 4]
    # Each with probability .3; in the .49 of rows with neither, one of them is selected.
    assert (one ^ other).float().mean().item() == pytest.approx(0.42 + 0.49, abs=0.03)
    assert (one & other).float().mean().item() == pytest.approx(0.09, abs=0.02)
    assert not target[:, [0, 6, 7]].any()
    assert torch.equal(inputs[:, [0, 6, 7]], ids[:, [0, 6, 7]])


def test_whole_word_masking_of_one_piece_words_equals_token_masking():
    ids = torch.tensor([[CLS, *range(FIRST, 25), SEP]] * 50)
    first = torch.arange(ids.shape[1]).expand_as(ids)
    plain = mask_tokens(ids, ids != PAD, 0.15, VOCABULARY, 1)
    for one, other in zip(mask_tokens(ids, ids != PAD, 0.15, VOCABULARY, 1, first), plain, strict=True):
        assert torch.equal(one, other)
