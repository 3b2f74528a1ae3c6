"""Training data with texts and histories only."""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.knowledge import Knowledge
from llmrec_cli.data.training_data import TrainingData

TEXTS = [f"Film {n}. A story about {n}" for n in range(200)]


def entities(texts):
    ids = np.array([f"e{n}" for n in range(len(texts))], object)
    titles = np.array([text.split(".")[0] for text in texts] + [None], object)[:-1]
    return Catalogue(ids, titles, np.array([*texts, None], object)[:-1],
                     sp.csr_array((len(texts), 0), dtype=np.float32), [])


def data(texts, histories, knowledge=None):
    """Items with texts (the title ends at the first full stop), and a history of items for each user."""
    user = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    item = np.array([i for history in histories for i in history], np.int64)
    interactions = Interactions(user, item, np.ones(len(item), np.float32), np.arange(len(item)), len(histories),
                                len(texts))
    return TrainingData(entities([""] * len(histories)), entities(texts), interactions, knowledge=knowledge)


def knowledge(facts):
    """A graph with these facts (a list of `relation>neighbour` for each item)."""
    names = sorted({name for own in facts for name in own})
    features = sp.lil_array((len(facts), len(names)), dtype=np.float32)
    for n, own in enumerate(facts):
        for name in own:
            features[n, names.index(name)] = 1
    return Knowledge(sp.csr_array(features), names)
