"""What an encoder is pretrained on."""

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.settings.objective import MaskedLanguageModel
from llmrec_cli.training.corpus import build_corpus, held_out, history_chunks


def entities(texts):
    ids = np.array([f"e{n}" for n in range(len(texts))], object)
    titles = np.array([text.split(".")[0] for text in texts], object)
    return Entities(ids, titles, np.array(texts, object), sp.csr_array((len(texts), 0), dtype=np.float32), [])


def data(texts, histories):
    user = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    item = np.array([i for history in histories for i in history], np.int64)
    interactions = Interactions(user, item, np.ones(len(item), np.float32), np.arange(len(item)), len(histories),
                                len(texts))
    return TrainingData(entities([""] * len(histories)), entities(texts), interactions)


TEXTS = [f"Film {n}. A story about {n}" for n in range(200)]


def test_the_share_held_out_is_about_what_was_asked_for_and_stays_as_texts_are_added():
    out = held_out(TEXTS, 0.2)
    assert 0.1 < out.mean() < 0.3
    assert held_out([*TEXTS[:50], "new"], 0.2)[:50].tolist() == out[:50].tolist()


def test_a_history_is_cut_into_runs_in_its_own_order():
    matrix = data(TEXTS, [[7, 3, 9, 1, 5], [], [2]]).interactions.matrix
    assert [c.tolist() for c in history_chunks(matrix, 2, 99, 1)] == [[7, 3], [9, 1], [5], [2]]
    drawn = [c.tolist() for c in history_chunks(matrix, 2, 2, 1)]
    assert len(drawn) == 2
    assert drawn == [c.tolist() for c in history_chunks(matrix, 2, 2, 1)]


def test_no_text_is_both_trained_on_and_measured_and_held_out_titles_are_in_no_training_history():
    histories = [list(range(n, n + 20)) for n in range(0, 180, 5)]
    corpus = build_corpus(data(TEXTS, histories), MaskedLanguageModel(holdout_share=0.2, history_length=5), seed=1)
    assert not set(corpus.train) & set(corpus.held_out)
    assert any(";" in text for text in corpus.train)
    assert any(";" in text for text in corpus.held_out)
    hidden = {text.split(".")[0] for text in corpus.held_out if ";" not in text}
    assert hidden
    assert not hidden & {title for text in corpus.train for title in text.split("; ")}


def test_without_histories_the_corpus_is_the_items_each_distinct_text_once():
    corpus = build_corpus(data([*TEXTS, *TEXTS, "", " "], [[0, 1]]), MaskedLanguageModel(histories=False), seed=1)
    assert sorted(corpus.train + corpus.held_out) == sorted(TEXTS)


def test_items_without_texts_are_an_error_that_says_so():
    with pytest.raises(DataError, match=r"prepare items with texts \(dataset.item_text\)"):
        build_corpus(data(["", ""], []), MaskedLanguageModel(histories=False), seed=1)
