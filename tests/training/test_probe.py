"""The retrieval probe: questions, candidates, ranks and differences."""

import numpy as np
import pytest

from llmrec_cli.training.corpus import held_out
from llmrec_cli.training.probe import Answers, Probe, build_probe, mrr_difference, num_words, run_probe, without_title
from tests.training.corpora import data, entities


class FixedEncoder:
    """An encoder with a predefined vector for each text."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, entity="item"):
        return np.array([self.vectors[text] for text in texts], np.float32)


VECTORS = {"red": [2.0, 0.0], "green": [0.0, 2.0], "blue": [-2.0, -2.0], "q red": [1.0, 0.1], "q blue": [-1.0, -0.1]}


def probe(**changed):
    return Probe(**{"kind": "description", "questions": ["q red", "q blue"], "titles": ["red", "green", "blue"],
                    "answer": np.array([0, 2]), "ruled_out": [np.zeros(0, np.int64)] * 2} | changed)


def test_titles_are_ranked_by_cosine_and_what_is_ruled_out_comes_last():
    answers = run_probe(probe(), FixedEncoder(VECTORS))
    assert answers.nearest_QK[0].tolist() == [0, 1, 2]
    assert answers.rank_Q.tolist() == [1, 1]
    shut = run_probe(probe(answer=np.array([1, 2]), ruled_out=[np.array([0]), np.zeros(0, np.int64)]),
                     FixedEncoder(VECTORS))
    assert shut.rank_Q.tolist() == [1, 1]
    assert run_probe(probe(answer=np.array([1, 2])), FixedEncoder(VECTORS)).rank_Q.tolist() == [2, 1]


def test_an_encoder_for_which_all_texts_are_alike_is_as_good_as_guessing():
    answers = run_probe(probe(), FixedEncoder({text: [1.0, 1.0] for text in VECTORS}))
    assert answers.rank_Q.tolist() == [2, 2]  # The middle of three.
    assert answers.metrics() == {"recall@1": 0.0, "recall@10": 1.0, "mrr": 0.5}


def test_probe_metrics_follow_from_the_ranks():
    answers = Answers(np.array([1.0, 4.0, 11.0]), np.zeros((3, 3), int))
    assert answers.metrics() == pytest.approx({"recall@1": 1 / 3, "recall@10": 2 / 3, "mrr": (1 + 1 / 4 + 1 / 11) / 3})


def test_a_fall_in_every_question_is_significant():
    good, bad = Answers(np.ones(50), np.zeros((50, 3), int)), Answers(np.full(50, 2.0), np.zeros((50, 3), int))
    assert mrr_difference(good, bad, 1) == (-0.5, (-0.5, -0.5))
    mixed = Answers(np.array([1.0, 2.0] * 25), np.zeros((50, 3), int))
    difference, (low, high) = mrr_difference(mixed, Answers(mixed.rank_Q[::-1], mixed.nearest_QK), 1)
    assert difference == 0
    assert low < 0 < high


def test_a_description_is_the_text_without_the_title_wherever_that_is():
    items = entities(["Alien. alien is a film about a crew that meets something. Director: X", "Alien. Horror",
                      "no title here, only words that nobody asked for at all"])
    items.titles[2] = "another"
    assert without_title(items, 0) == "is a film about a crew that meets something. Director: X"
    assert without_title(items, 1) == ""  # too little to know it by
    assert without_title(items, 2) == ""  # nothing was left out
    assert num_words("太空机器人 and 3 robots") == 8
    items.titles[0] = ""
    assert without_title(items, 0) == ""


def test_the_probe_queries_held_out_items_by_description():
    texts = [f"Film {n}. A long story of some people who lived number {n * 7} in that street" for n in range(200)]
    result = build_probe(data(texts, []), 0.2, 1)
    out = held_out(texts, 0.2)
    assert result.kind == "description"
    assert len(result.questions) == out.sum()
    assert len(result.titles) == 200
    for question, answer in zip(result.questions, result.answer, strict=True):
        number = result.titles[answer].removeprefix("Film ")
        assert out[int(number)]
        assert f"number {int(number) * 7} " in question
        assert "Film" not in question


def test_without_descriptions_the_probe_queries_histories_excluding_their_titles():
    texts = [f"Film {n}" for n in range(200)]
    result = build_probe(data(texts, [list(range(n, n + 12)) for n in range(0, 180, 6)]), 0.2, 1)
    assert result.kind == "history"
    for question, answer, ruled_out in zip(result.questions, result.answer, result.ruled_out, strict=True):
        assert {result.titles[n] for n in ruled_out} == set(question.split("; "))
        assert result.titles[answer] not in question.split("; ")
    assert build_probe(data(texts, []), 0.2, 1) is None
