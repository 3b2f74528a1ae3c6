"""Words of texts in several scripts, and TF-IDF against hand-worked numbers and scikit-learn."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from llmrec_cli.data.tensors import TensorReader
from llmrec_cli.encoders.tfidf import Words, split_words


@pytest.mark.parametrize(("text", "words"), [
    ("Star Wars: Episode_IV (1977)", ["star", "wars", "episode", "iv", "1977"]),
    ("C-3PO's café", ["c", "3po", "s", "café"]),
    ("红楼梦 三国", ["红楼", "楼梦", "三国"]),
    ("iPhone手机壳", ["iphone", "手机", "机壳"]),
    ("茶", ["茶"]),
    ("ゴジラ", ["ゴジ", "ジラ"]),
    ("हिन्दी फ़िल्म", ["हिन्दी", "फ़िल्म"]),
    ("ＡＢＣ cafe\u0301", ["abc", "café"]),
    ("... -- !", []),
    ("", [])])
def test_a_text_is_split_into_its_words(text, words):
    assert split_words(text) == words


def test_a_word_weighs_one_plus_the_log_of_its_count_times_its_rarity():
    words = Words()
    words.fit(["red red tea", "green tea", "red cup", "blue tea"])
    assert list(words.index) == ["red", "tea"]  # The others are in a single text.
    red, tea = np.log(5 / 3) + 1, np.log(5 / 4) + 1
    np.testing.assert_allclose(words.matrix(["red red tea", "tea cup", "water"]).toarray(),
                               [[(1 + np.log(2)) * red, tea], [0, tea], [0, 0]], rtol=1e-6)


def test_the_weights_are_those_of_scikit_learn():
    rng = np.random.default_rng(4)
    texts = [" ".join(rng.choice(["红色 茶叶", "green", "tea", "cup", "of", "the", "pot", "café"], rng.integers(0, 9)))
             for _ in range(60)]
    theirs = TfidfVectorizer(analyzer=split_words, min_df=2, sublinear_tf=True, norm=None)
    wanted = theirs.fit_transform(texts).toarray()
    ours = Words()
    ours.fit(texts)
    assert list(ours.index) == list(theirs.get_feature_names_out())
    np.testing.assert_allclose(ours.matrix(texts).toarray(), wanted, rtol=1e-5)


@pytest.mark.parametrize("texts", [["红楼梦 tea", "tea 红楼", "\ud800 tea"], ["alone", "here"], []])
def test_saved_words_are_restored(texts):
    words, again = Words(), Words()
    words.fit(texts)
    again.read(TensorReader(words.state()))
    assert again.index == words.index
    assert (again.matrix(["红楼 tea", ""]) != words.matrix(["红楼 tea", ""])).nnz == 0
