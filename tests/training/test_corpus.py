"""The pretraining corpus: item texts, histories, knowledge, and the held-out split."""

import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.settings.objective import MaskedLanguageModelSettings
from llmrec_cli.training.corpus import build_corpus, held_out, history_chunks, knowledge_documents
from tests.training.corpora import TEXTS, data, knowledge


def test_the_held_out_share_is_about_as_set_and_stable_as_texts_are_added():
    out = held_out(TEXTS, 0.2)
    assert 0.1 < out.mean() < 0.3
    assert held_out([*TEXTS[:50], "new"], 0.2)[:50].tolist() == out[:50].tolist()


def test_a_history_is_cut_into_runs_in_its_own_order():
    matrix = data(TEXTS, [[7, 3, 9, 1, 5], [], [2]]).interactions.matrix
    assert [c.tolist() for c in history_chunks(matrix, 2, 99, 1)] == [[7, 3], [9, 1], [5], [2]]
    chunks = [c.tolist() for c in history_chunks(matrix, 2, 2, 1)]
    assert len(chunks) == 2
    assert chunks == [c.tolist() for c in history_chunks(matrix, 2, 2, 1)]


def test_no_text_is_both_trained_on_and_measured_and_held_out_titles_are_in_no_training_history():
    histories = [list(range(n, n + 20)) for n in range(0, 180, 5)]
    corpus = build_corpus(data(TEXTS, histories), MaskedLanguageModelSettings(holdout_share=0.2, history_length=5),
                          seed=1)
    assert not set(corpus.train) & set(corpus.held_out)
    assert any(";" in text for text in corpus.train)
    assert any(";" in text for text in corpus.held_out)
    hidden = {text.split(".")[0] for text in corpus.held_out if ";" not in text}
    assert hidden
    assert not hidden & {title for text in corpus.train for title in text.split("; ")}


def test_without_histories_the_corpus_is_the_items_each_distinct_text_once():
    corpus = build_corpus(data([*TEXTS, *TEXTS, "", " "], [[0, 1]]), MaskedLanguageModelSettings(histories=False),
                          seed=1)
    assert sorted(corpus.train + corpus.held_out) == sorted(TEXTS)


def test_items_without_texts_are_an_error_that_says_so():
    with pytest.raises(DataError, match=r"prepare items with texts \(dataset.item_text\)"):
        build_corpus(data(["", ""], []), MaskedLanguageModelSettings(histories=False), seed=1)


FACTS = [["film.director>Ridley Scott", "film.genre>Horror", "film.genre>Deep_space", "sequel_of<Alien 3"], [], ["a>b"]]


def test_what_the_graph_says_of_an_item_becomes_a_text_without_its_title():
    documents = knowledge_documents(data(TEXTS[:3], [], knowledge(FACTS)))
    assert documents == ["film director: Ridley Scott; film genre: Deep space, Horror; sequel of: Alien 3", "", "a: b"]


def test_knowledge_is_in_the_corpus_exactly_if_its_item_is():
    graph = knowledge([[f"made by>Studio {n}"] for n in range(200)])
    settings = MaskedLanguageModelSettings(histories=False, knowledge=True, holdout_share=0.2)
    corpus = build_corpus(data(TEXTS, [], graph), settings, seed=1)
    out = held_out(TEXTS, 0.2)
    for n, is_out in enumerate(out):
        for text in (TEXTS[n], f"Film {n}. made by: Studio {n}"):
            assert text in (corpus.held_out if is_out else corpus.train)
    with pytest.raises(DataError, match=r"no knowledge graph .* dataset.knowledge=<file>"):
        build_corpus(data(TEXTS, []), settings, seed=1)


def test_texts_in_any_script_are_in_the_corpus_as_they_are_and_empty_ones_are_not():
    odd = ["", " ", "🚀. 🚀", "שלום. עולם", "مرحبا. بالعالم", "太空. 机器人", "\u202eevil", "e\u0301", "é", "\ud800"]
    settings = MaskedLanguageModelSettings(holdout_share=0.5, history_length=2)
    corpus = build_corpus(data(odd * 2, [[2, 3, 4, 5]]), settings, seed=1)
    assert set(odd[2:]) <= set(corpus.train) | set(corpus.held_out)
    assert not {"", " "} & {*corpus.train, *corpus.held_out}
    assert len(corpus.train) == len(set(corpus.train))
