"""Learning vectors of entities: triples a second, CPU seconds, peak memory, and how well held-out triples are told.

    python benchmarks/entity_vectors.py <prepared data with a graph>     (all models, then PyKEEN where installed)
    python benchmarks/entity_vectors.py 10000000                         (an epoch of TransE on random triples)

PyKEEN gets the same size, negatives, batches and epochs, its usual Adam and margin loss, and the triples that ours was
given; its filtered ranks are by its own evaluator. CPU seconds are what to compare where the machine is not idle.
"""

import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.settings.entities import ENTITIES, EntitySettings, TransESettings
from llmrec_cli.training.entity_vectors import learn_entity_vectors
from llmrec_cli.training.link_prediction import Ids, held_out

SEED = 1


def peak() -> float:
    """Return the most memory this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def random_triples(number: int) -> tuple[Ids, int, int]:
    """Return triples of a fifth as many entities, some named often and most rarely, and 50 relations."""
    rng = np.random.default_rng(0)
    num_entities = number // 5
    head, tail = ((num_entities * rng.random(number)**2).astype(np.int64) for _ in range(2))
    return Ids(head, rng.integers(50, size=number), tail), num_entities, 50


def ours(triples: Ids, num_entities: int, num_relations: int, settings: EntitySettings) -> None:
    """Print what learning takes and brings."""
    told: dict[str, Any] = {}
    before, started = peak(), time.process_time()
    learn_entity_vectors(triples, num_entities, num_relations, settings, SEED, torch.device("cpu"),
                         lambda event, **values: told.update(values))
    cpu = time.process_time() - started
    print(f"ours {settings.kind:8} {told['triples_per_second']:9.0f} triples/s, {cpu:6.1f} CPU s with the probe, peak "
          f"+{peak() - before:.0f} MB, {told['after']}", flush=True)


def pykeen(triples: Ids, num_entities: int, num_relations: int, settings: EntitySettings, name: str) -> None:
    """Print the same of PyKEEN's model."""
    import pykeen.models
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory

    is_held = held_out(triples, num_entities, settings.held_out, np.random.default_rng(SEED))
    seen, asked = (torch.from_numpy(np.stack([*triples.rows(rows)], axis=1)) for rows in (~is_held, is_held))
    factory = CoreTriplesFactory(seen, num_entities=num_entities, num_relations=num_relations)
    # Its complex models count complex numbers, ours the real ones that they take.
    size = settings.embedding_size // (1 if name == "TransESettings" else 2)
    model = getattr(pykeen.models, name)(triples_factory=factory, embedding_dim=size, random_seed=SEED)
    loop = SLCWATrainingLoop(model=model, triples_factory=factory,
                             optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
                             negative_sampler_kwargs={"num_negs_per_pos": settings.num_negatives})
    before, started, at = peak(), time.process_time(), time.monotonic()
    loop.train(triples_factory=factory, num_epochs=settings.epochs, batch_size=settings.batch_size, use_tqdm=False)
    cpu, seconds = time.process_time() - started, time.monotonic() - at
    found = RankBasedEvaluator(filtered=True).evaluate(model, asked, additional_filter_triples=[seen], batch_size=64,
                                                       use_tqdm=False)
    told = {key: found.get_metric(f"both.realistic.{metric}")
            for key, metric in (("mrr", "inverse_harmonic_mean_rank"), ("hits@10", "hits_at_10"))}
    print(f"PyKEEN {name:6} {len(seen) * settings.epochs / seconds:9.0f} triples/s, {cpu:6.1f} CPU s, peak "
          f"+{peak() - before:.0f} MB, {told}", flush=True)


def main(what: str) -> None:
    """Run on prepared data, or on a number of random triples."""
    if what.isdigit():
        triples, num_entities, num_relations = random_triples(int(what))
        print(f"{len(triples.head)} triples, {num_entities} entities; the process holds {peak():.0f} MB")
        ours(triples, num_entities, num_relations, TransESettings(epochs=1))
        return
    knowledge = read_prepared(Path(what)).knowledge
    if knowledge is None or knowledge.triples is None:
        sys.exit(f"{what}: has no triples.parquet; name prepared data with a knowledge graph, or a number")
    found = knowledge.triples
    triples, num_entities, num_relations = (Ids(found.head, found.relation, found.tail), len(found.entities),
                                            len(found.relations))
    for settings in (option() for option in ENTITIES.values()):
        ours(triples, num_entities, num_relations, settings)
    if find_spec("pykeen") is None:
        print("PyKEEN is not installed, so there is nothing to compare with")
        return
    for name, settings in (("TransESettings", ENTITIES["transe"]()), ("RotatE", ENTITIES["rotate"]())):
        pykeen(triples, num_entities, num_relations, settings, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
