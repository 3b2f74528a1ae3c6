"""Which tokens a masked language model has to predict."""

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
    ids, shown, chosen = masked(rows, share=0.5)
    assert not chosen[ids < FIRST].any()
    assert torch.equal(shown[~chosen], ids[~chosen])


def test_of_the_chosen_eight_in_ten_are_masked_one_replaced_and_one_left():
    ids, shown, chosen = masked([[CLS, *range(FIRST, 205), SEP]] * 500)
    share = chosen[:, 1:-1].float().mean().item()
    assert share == pytest.approx(0.15, abs=0.005)
    seen, truth = shown[chosen], ids[chosen]
    assert (seen == MASK).float().mean().item() == pytest.approx(0.8, abs=0.01)
    assert (seen == truth).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert seen.min() == MASK


def test_a_short_text_gets_a_mask_and_one_without_words_none():
    _, _, chosen = masked([[CLS, 10, 11, SEP], [CLS, UNK, SEP, PAD]] * 50, share=0.01)
    assert (chosen[0::2].sum(1) >= 1).all()
    assert not chosen[1::2].any()


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
