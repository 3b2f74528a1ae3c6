"""Text perturbations in several scripts: typos, synonyms and truncation."""

import unicodedata
from collections import Counter

import numpy as np
import pytest

from llmrec_cli.evaluation.text_perturbation import (
    LOOK_OR_SOUND_ALIKE,
    SYNONYMS,
    perturb_texts,
    synonyms,
    truncation,
    typos,
)

TITLE = "Stainless Scissors, Straight Handle (2019). Office|School"


def once(way, text, seed=0):
    return perturb_texts([text], way, seed)[0]


def edits(before, after):
    """Return the kind of typo in a word: swapped, dropped, doubled, or none of them."""
    if len(after) == len(before) - 1:
        return "dropped" if any(before[:n] + before[n + 1:] == after for n in range(1, len(before))) else None
    if len(after) == len(before) + 1:
        return "doubled" if any(before[:n + 1] + before[n:] == after for n in range(1, len(before))) else None
    swaps = [before[:n] + before[n + 1] + before[n] + before[n + 2:] for n in range(1, len(before) - 1)]
    return "swapped" if after in swaps else None


def test_each_typo_is_one_of_three_and_all_three_turn_up():
    result = Counter(edits("scatiyrn", once(typos(1.0), "scatiyrn", seed)) for seed in range(60))
    assert set(result) == {"swapped", "dropped", "doubled"}
    assert min(result.values()) > 8


def test_the_share_of_words_with_a_typo_is_as_stated_and_short_words_numbers_and_signs_stay():
    words = [f"{a}{b}xyzab" for a in "bcdfghjk" for b in "lmnpqrst"] * 8
    changed = np.mean([once(typos(0.25), word, n) != word for n, word in enumerate(words)])
    assert changed == pytest.approx(0.25, abs=0.05)
    assert once(typos(1.0), "a of 2019 (12345)! 🚀") == "a of 2019 (12345)! 🚀"


def test_the_same_text_and_seed_give_the_same_typos_whatever_else_is_there():
    together = perturb_texts(["Alien", TITLE, "Blade Runner"], typos(0.8), 3)
    assert together[1] == once(typos(0.8), TITLE, 3) != once(typos(0.8), TITLE, 4)


def test_chinese_characters_are_replaced_by_lookalikes_or_dropped():
    assert once(typos(1.0), "未来") == "末"
    assert once(typos(1.0), "土") == "士"
    text = "太空的机器人在公园" * 20
    rest = once(typos(0.2), text)
    assert 0 < len(text) - len(rest) < 0.3 * len(text)
    word, _, character = once(typos(1.0), "Robot 太").partition(" ")
    assert (edits("Robot", word) is not None, character) == (True, "大")


def test_marks_stay_with_their_letters():
    text = "क्षत्रिय योद्धा"
    for seed in range(20):
        after = once(typos(1.0), text, seed)
        assert not unicodedata.combining(after[0])
        assert not any(unicodedata.category(word[0]).startswith("M") for word in after.split(" "))


@pytest.mark.parametrize("text", ["", " ", "🚀", "a", "ab\u0301", "\u0301", "مرحبا بالعالم", "x" * 100_000])
@pytest.mark.parametrize("way", [typos(1.0), synonyms(1.0), truncation(0.5)], ids=["typos", "synonyms", "truncated"])
def test_any_text_can_be_disturbed(way, text):
    assert isinstance(once(way, text), str)
    assert once(way, text) == once(way, text)


def test_a_synonym_takes_the_place_of_a_whole_word_and_its_capital():
    way = synonyms(1.0, [["film", "movie"], ["big", "large"], ["sci-fi", "science fiction"]])
    assert once(way, "Film about a filmer, big and Big; sci-fi") == (
        "Movie about a filmer, large and Large; science fiction")


def test_a_chinese_word_is_found_where_there_are_no_spaces_the_longest_first():
    way = synonyms(1.0, [["火车站", "总站"], ["车站", "站点"]])
    assert once(way, "上海火车站和车站") == "上海总站和站点"


def test_the_share_of_words_replaced_by_synonyms_is_as_set():
    way = synonyms(0.5, [["film", "movie"]])
    text = " ".join(["film"] * 400)
    assert once(way, text).count("movie") == pytest.approx(200, abs=40)


def test_a_text_loses_the_words_at_its_end():
    assert once(truncation(0.5), "Stainless scissors, straight handle") == "Stainless scissors,"
    assert once(truncation(0.5), "太空的机器") == "太空"
    assert once(truncation(0.9), "one two") == "one"
    assert once(truncation(0.5), "alone") == "alone"


def test_built_in_synonym_groups_have_two_or_more_words_and_no_word_twice():
    assert all(len(set(group)) == len(group) >= 2 for group in (*LOOK_OR_SOUND_ALIKE, *SYNONYMS))
    characters = Counter("".join(LOOK_OR_SOUND_ALIKE))
    assert [c for c, number in characters.items() if number > 2] == []
