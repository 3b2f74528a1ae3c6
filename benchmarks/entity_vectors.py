"""Training of entity vectors: triples per second, CPU seconds, peak memory, and ranking metrics of held-out triples.

    python benchmarks/entity_vectors.py <prepared data with a graph>     (all models, then PyKEEN where installed)
    python benchmarks/entity_vectors.py 10000000                         (an epoch of TransE on random triples)

PyKEEN gets the same size, negatives, batches, epochs and triples, with its default Adam and margin loss; its own
evaluator computes its filtered ranks. Compare CPU seconds if the machine is not idle.
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
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def random_triples(number: int) -> tuple[Ids, int, int]:
    """Return random triples with a fifth as many entities (a few frequent, most rare) and 50 relations."""
    rng = np.random.default_rng(0)
    num_entities = number // 5
    head, tail = ((num_entities * rng.random(number)**2).astype(np.int64) for _ in range(2))
    return Ids(head, rng.integers(50, size=number), tail), num_entities, 50


def ours(triples: Ids, num_entities: int, num_relations: int, settings: EntitySettings) -> None:
    """Train llmrec's model and print cost and metrics."""
    figures: dict[str, Any] = {}
    before, started = peak(), time.process_time()
    learn_entity_vectors(triples, num_entities, num_relations, settings, SEED, torch.device("cpu"),
                         lambda event, **values: figures.update(values))
    cpu = time.process_time() - started
    print(f"ours {settings.kind:8} {figures['triples_per_second']:9.0f} triples/s, {cpu:6.1f} CPU s with the probe, "
          f"peak +{peak() - before:.0f} MB, {figures['after']}", flush=True)


def pykeen(triples: Ids, num_entities: int, num_relations: int, settings: EntitySettings, name: str) -> None:
    """Train PyKEEN's model and print cost and metrics."""
    import pykeen.models
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples import CoreTriplesFactory

    is_held = held_out(triples, num_entities, settings.held_out, np.random.default_rng(SEED))
    seen, test = (torch.from_numpy(np.stack([*triples.rows(rows)], axis=1)) for rows in (~is_held, is_held))
    factory = CoreTriplesFactory(seen, num_entities=num_entities, num_relations=num_relations)
    # PyKEEN's complex models count complex numbers, llmrec counts real numbers.
    size = settings.embedding_size // (1 if name == "TransESettings" else 2)
    model = getattr(pykeen.models, name)(triples_factory=factory, embedding_dim=size, random_seed=SEED)
    loop = SLCWATrainingLoop(model=model, triples_factory=factory,
                             optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
                             negative_sampler_kwargs={"num_negs_per_pos": settings.num_negatives})
    before, started, at = peak(), time.process_time(), time.monotonic()
    loop.train(triples_factory=factory, num_epochs=settings.epochs, batch_size=settings.batch_size, use_tqdm=False)
    cpu, seconds = time.process_time() - started, time.monotonic() - at
    result = RankBasedEvaluator(filtered=True).evaluate(model, test, additional_filter_triples=[seen], batch_size=64,
                                                       use_tqdm=False)
    metrics = {key: result.get_metric(f"both.realistic.{metric}")
            for key, metric in (("mrr", "inverse_harmonic_mean_rank"), ("hits@10", "hits_at_10"))}
    print(f"PyKEEN {name:6} {len(seen) * settings.epochs / seconds:9.0f} triples/s, {cpu:6.1f} CPU s, peak "
          f"+{peak() - before:.0f} MB, {metrics}", flush=True)


def main(what: str) -> None:
    """Run on prepared data, or on a number of random triples."""
    if what.isdigit():
        triples, num_entities, num_relations = random_triples(int(what))
        print(f"{len(triples.head)} triples, {num_entities} entities; the process holds {peak():.0f} MB")
        ours(triples, num_entities, num_relations, TransESettings(epochs=1))
        return
    knowledge = read_prepared(Path(what)).knowledge
    if knowledge is None or knowledge.triples is None:
        sys.exit(f"{what}: no triples.parquet; give prepared data with a knowledge graph, or a number of triples")
    graph = knowledge.triples
    triples, num_entities, num_relations = (Ids(graph.head, graph.relation, graph.tail), len(graph.entities),
                                            len(graph.relations))
    for settings in (option() for option in ENTITIES.values()):
        ours(triples, num_entities, num_relations, settings)
    if find_spec("pykeen") is None:
        print("PyKEEN is not installed, so there is nothing to compare with")
        return
    for name, settings in (("TransESettings", ENTITIES["transe"]()), ("RotatE", ENTITIES["rotate"]())):
        pykeen(triples, num_entities, num_relations, settings, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
