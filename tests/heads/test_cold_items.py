"""The metric on cold items, against ndcg worked out item by item."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.data.queries import known_users
from llmrec_cli.heads import cold_items
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.cold_items import measure_cold_items
from llmrec_cli.heads.fitting import fit
from llmrec_cli.heads.shared import cold_item_validation
from llmrec_cli.scoring.validation import validation_of
from llmrec_cli.settings.encoder import TfIdfSettings
from llmrec_cli.settings.head import ContentSettings, ModelConfig
from llmrec_cli.settings.heads.features import FeatureWeightsSettings

CONFIG = ModelConfig(head=ContentSettings(features=FeatureWeightsSettings(text=1, attributes=0)),
                     encoder=TfIdfSettings())


@pytest.fixture
def data(tiny_prepared):
    return read_prepared(tiny_prepared)


@pytest.fixture
def context(data):
    return Context(torch.device("cpu"), seed=1, validation=validation_of(data, "ndcg@5"))


def ndcg_at_5(scores, ranks, relevant):
    """Return ndcg@5 of a list of scores; equal scores are in the order of `ranks`."""
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], ranks[n]))[:5]
    gain = sum(1 / math.log2(place + 2) for place, item in enumerate(order) if item in relevant)
    return gain / sum(1 / math.log2(place + 2) for place in range(min(5, len(relevant))))


def test_hidden_items_are_ranked_by_a_model_that_has_never_seen_their_interactions(data, context, monkeypatch):
    fitted = []

    def recorded(config, training, inner, quiet):
        fitted.append((training, fit(config, training, inner, quiet)))
        assert inner.validation is None
        return fitted[-1][1]

    monkeypatch.setattr(cold_items, "fit", recorded)
    head = fit(CONFIG, data.training("train"), context, quiet=True)
    result = measure_cold_items(head, data, context)
    [(training, second)] = fitted
    whole, kept = data.training("train").interactions, training.interactions
    hidden = sorted(set(whole.item) - set(kept.item))
    assert len(hidden) == result.num_hidden == len(set(whole.item)) // 5
    assert result.num_items == len(hidden)
    assert len(kept) == sum(item not in hidden for item in whole.item)
    expected = {}
    for user in range(len(data.users)):
        relevant = {hidden.index(item) for item in whole.item[whole.user == user] if item in hidden}
        if relevant and (kept.user == user).any():
            query = known_users(np.array([user]), data.users.ids, kept.values, kept.matrix, data.users)
            scores = second.score(query)[0, hidden].tolist()
            expected[data.users.ids[user]] = ndcg_at_5(scores, context.validation.ranks[hidden], relevant)
    assert dict(zip(result.ids_Q, result.values_Q, strict=True)) == pytest.approx(expected)
    assert 0 < np.mean(list(expected.values())) < 1


def test_enough_cold_items_of_validation_are_measured_without_another_fit(data, context, monkeypatch):
    monkeypatch.setattr(cold_item_validation, "ENOUGH", 1)
    monkeypatch.setattr(cold_items, "_BLOCK", 2)
    counts = data.training("train").interactions.item_counts
    cold = np.flatnonzero(counts == 0)
    # Tiny validation has no cold item, so two of them get a user each.
    relevant = context.validation.relevant.tolil()
    relevant[0, cold[0]] = relevant[3, cold[1]] = relevant[5, cold[0]] = 1
    context = replace(context, validation=replace(context.validation, relevant=relevant.tocsr()))
    head = fit(CONFIG, data.training("train"), context, quiet=True)
    monkeypatch.setattr(cold_items, "fit", lambda *_, **__: pytest.fail("fitted again"))
    result = measure_cold_items(head, data, context)
    assert (result.num_items, result.num_hidden) == (len(cold), 0)
    assert result.ids_Q.tolist() == [context.validation.queries.ids[n] for n in (0, 3, 5)]
    scores = head.score(context.validation.queries.rows(np.array([0, 3, 5])))[:, cold].tolist()
    expected = [ndcg_at_5(row, context.validation.ranks[cold], {n}) for row, n in zip(scores, (0, 1, 0), strict=True)]
    assert result.values_Q == pytest.approx(expected)
