"""Next-item pairs and their negatives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.errors import DataError
from llmrec_cli.training.corpus import held_out
from llmrec_cli.training.next_item_pairs import ObservedPairs, build_held_out_pairs, build_pairs
from llmrec_cli.training.nsp import negatives
from tests.training.corpora import TEXTS, data


def test_a_history_is_the_newest_earlier_items_up_to_the_limit():
    train, held = build_pairs(data(TEXTS, [[7, 3, 9, 1, 5]] * 3), 2, 99, 0.5, seed=1)
    out = held_out(TEXTS, 0.5)
    row = [7, 3, 9, 1, 5]
    assert set(train.item.tolist()) == {n for place, n in enumerate(row) if not out[n] and not out[row[:place]].all()}
    for part in (train, held):
        for text, before, item, user in zip(part.histories, part.before, part.item, part.user, strict=True):
            allowed = [n for n in row[:row.index(item)] if part is held or not out[n]]
            assert before.tolist() == allowed[-2:]
            assert text == "; ".join(f"Film {n}" for n in allowed[-2:][::-1])
            assert user in (0, 1, 2)


def test_held_out_items_are_measured_and_are_in_no_history_that_is_trained_on():
    out = held_out(TEXTS, 0.2)
    train, held = build_pairs(data(TEXTS, [list(range(n, n + 20)) for n in range(0, 180, 5)]), 5, 50, 0.2, seed=1)
    assert len(train) == 50
    assert not out[train.item].any()
    assert out[held.item].all()
    assert not any(out[before].any() for before in train.before)
    assert held.histories == build_held_out_pairs(
        data(TEXTS, [list(range(n, n + 20)) for n in range(0, 180, 5)]), 5, 0.2, seed=1).histories


def test_users_with_one_item_give_no_pairs_which_is_reported():
    with pytest.raises(DataError, match="users with at least two training interactions"):
        build_pairs(data(TEXTS, [[n] for n in range(100)]), 5, 50, 0.2, seed=1)


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 29), min_size=2, max_size=12, unique=True), min_size=2, max_size=8),
       st.integers(1, 3), st.integers(0, 99))
def test_negatives_are_not_items_of_the_user_nor_equal_texts(histories, num, seed):
    texts = [f"Film {n % 20}. about" for n in range(30)]  # ten of them twice
    shop = data(texts, histories)
    part = build_held_out_pairs(shop, 5, 0.5, seed)
    if len(part) == 0:
        return
    items = negatives(part, np.array(texts, object), ObservedPairs(shop), num, seed)
    assert items.shape == (len(part), num)
    for row, item, user in zip(items, part.item, part.user, strict=True):
        for negative in row[row >= 0]:
            assert negative not in histories[user]
            assert texts[negative] != texts[item]
            assert negative in part.item


def test_observed_pairs_are_recognised():
    observed_pairs = ObservedPairs(data(TEXTS, [[3, 5], [], [7]]))
    observed = observed_pairs(np.array([0, 0, 1, 2, 2])[:, None], np.array([3, 5, 7]))
    assert observed.tolist() == [[True, True, False], [True, True, False], [False] * 3, [False, False, True],
                              [False, False, True]]
