"""Data without texts or attributes: what has no effect is said, and what has nothing to learn from is left out."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from llmrec_cli.config import compose
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import DataError
from llmrec_cli.stages.missing_content import without_missing_content


def data(texts: list[str], attributes: list[list[int]]) -> TrainingData:
    """Return three items; the first two are in training."""
    ids, user = np.array(["a", "b", "c"], object), np.array(["u"], object)
    items = Catalogue(ids, ids, np.array(texts, object), sp.csr_array(np.array(attributes, np.float32)), ["colour=red"])
    users = Catalogue(user, user, user, sp.csr_array((1, 0), dtype=np.float32), [])
    both = np.array([0, 1])
    return TrainingData(users, items, Interactions(np.zeros(2, np.int64), both, np.ones(2, np.float32), both, 1, 3))


NOTHING = data(["", "", "a text of a cold item"], [[0], [0], [0]])
ONLY_ATTRIBUTES = data(["", "", ""], [[1], [0], [0]])


def changed(content: TrainingData, *typed: str) -> tuple[Any, list[str]]:
    """Return the settings of the head and what the log says."""
    said: list[str] = []
    head = without_missing_content(compose("finetune", list(typed)).head, content,
                                   lambda _event, text: said.append(text))
    return head, said


def test_the_default_recipe_leaves_out_what_only_compares_texts(capsys: pytest.CaptureFixture[str]) -> None:
    head, said = changed(NOTHING)
    assert "item_similarity" not in head.members
    assert "neighbours" in head.members
    assert "ease" not in head.members
    assert not head.members["plain_ease"].head.features.used
    assert said == [
        "head.members.ease.features.text=6 and head.members.ease.features.attributes=6: no effect, since no item in "
        "training has a text or an attribute",
        "head.members.item_similarity is left out, since no item in training has a text or an attribute",
        "head.members.ease is left out, since it is then the same as head.members.plain_ease"]
    assert capsys.readouterr().err.splitlines() == [f"note: {text}" for text in said]


def test_attributes_stay_where_only_texts_are_missing() -> None:
    head, said = changed(ONLY_ATTRIBUTES, "head=item_similarity", "head.features.attributes=2")
    assert (head.features.text, head.features.attributes) == (0, 2)
    assert said == ["head.features.text=1: no effect, since no item in training has a text"]


def test_members_that_become_the_same_stay_if_their_weights_are_given() -> None:
    head, _ = changed(NOTHING, "~head.members", "head.members.a={head: ease, features: {text: 2}}",
                      "head.members.b.head=ease", "head.weights={a: 1, b: 2}")
    assert set(head.members) == {"a", "b"}


def test_a_sequence_without_texts_is_one_of_ids() -> None:
    head, said = changed(NOTHING, "head=sequential")
    assert (head.text_scale, head.id_dropout, head.id_scale) == (0, 0, 1)
    assert said == ["head=sequential uses ids only, since no item in training has a text"]
    assert changed(NOTHING, "head=sequential", "head.text_scale=0", "head.id_dropout=0")[1] == []


def test_data_with_texts_changes_nothing() -> None:
    head, said = changed(data(["red", "", ""], [[0], [0], [1]]), "head=ease", "head.features.text=6")
    assert (head.features.text, said) == (6, [])


@pytest.mark.parametrize(("typed", "message"), [
    (["head=item_similarity"], r"head=item_similarity: no item in training has a text, and the head uses nothing else; "
                               r"prepare with dataset.item_text"),
    (["head=ease", "head.features.text=1", "head.features.tuned=true", "peft=embedding_adapter", "loss=distillation"],
     r"head.features.tuned=true: no item in training has a text"),
    (["head.members={ease: null, plain_ease: null, neighbours: null, item_knn: null, ials: null}"],
     "no member uses anything else"),
    (["head.members={ease: null, plain_ease: null, item_knn: null, ials: null}",
      "head.weights={neighbours: 1, item_similarity: 1}"], "head.members.item_similarity=item_similarity: no item"),
])
def test_what_has_nothing_to_learn_from_is_refused(typed: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        changed(NOTHING, *typed)
