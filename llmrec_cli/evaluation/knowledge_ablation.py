"""Ablation of the knowledge graph: models refitted without each relation, without the graph, and with controls.

Shapes: N items, E entities, R relations.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.knowledge import Knowledge, Triples, knowledge_of
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.metric_suite import Measures, main_columns, measure
from llmrec_cli.evaluation.models import LoadedModel
from llmrec_cli.evaluation.predictions import rank
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.fitting import fit
from llmrec_cli.pace import still_working
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.head import ModelConfig


def swapped(triples: Triples, count_N: np.ndarray, rng: np.random.Generator) -> Knowledge:
    """Return knowledge in which each linked item has the triples of another linked item of similar popularity.

    Linked items are sorted by `count_N`, their training interactions (ties at random), and each two neighbours swap
    their links; with an odd number, the last three rotate. So the control keeps which items are linked and how many
    triples items of a popularity have, but the triples are about another item.
    """
    linked = np.flatnonzero(np.diff(triples.links.indptr))
    order = linked[np.lexsort((rng.random(len(linked)), count_N[linked]))]
    other = order.copy()
    pairs = len(order) // 2 * 2
    other[0:pairs:2], other[1:pairs:2] = order[1:pairs:2], order[0:pairs:2]
    if len(order) % 2 and len(order) > 1:
        other[-3:] = np.roll(order[-3:], 1)
    item_N = np.arange(len(count_N))
    item_N[order] = other
    return knowledge_of(triples.relinked(item_N))


def counts_alone(triples: Triples) -> Knowledge:
    """Return knowledge with one feature per item: its number of triples, in classes by powers of two."""
    num_N = num_triples(triples)
    linked = np.flatnonzero(num_N)
    level = np.floor(np.log2(num_N[linked])).astype(np.int64)
    levels, column = np.unique(level, return_inverse=True)
    features: Any = sp.csr_array((np.ones(len(linked), np.float32), (linked, column)), (len(num_N), len(levels)))
    return Knowledge(features, [f"triples>{2**level}" for level in levels])


def num_triples(triples: Triples) -> np.ndarray:
    """Return the number of triples of each item, int64 (N,)."""
    degree_E = np.bincount(np.concatenate([triples.head, triples.tail]), minlength=len(triples.entities))
    return np.asarray(triples.links @ degree_E).astype(np.int64)


def coverage(triples: Triples, knowledge: Knowledge, count_N: np.ndarray) -> dict[str, Any]:
    """Return the graph's coverage of the catalogue and of its interactions `count_N`, in total and per relation.

    Relations are sorted by their number of items. `shared` counts the features of a relation that at least two items
    have; heads learn nothing from the others. Relations that join the same entities, for example a relation and its
    inverse, are reported once, under the first of their names; the other names are `twins`.
    """
    linked = np.diff(triples.links.indptr) > 0
    num_N = num_triples(triples)
    is_item = np.zeros(len(triples.entities), bool)
    is_item[triples.links.indices] = True
    relations: list[dict[str, Any]] = []
    shared = Counter(end.relation for end in knowledge.ends)
    for name, *others in twins(triples):
        n = triples.relations.index(name).as_py()
        of = triples.relation == n
        ends = [triples.head[of], triples.tail[of]]
        has_item = is_item[ends[0]] | is_item[ends[1]]
        has_E = np.bincount(np.concatenate(ends), minlength=len(is_item)) > 0
        items = int((triples.links @ has_E.astype(np.float32) > 0).sum())
        relations.append({"relation": name, "twins": others, "triples": int(of.sum()),
                          "triples_of_items": int(has_item.sum()), "items": items, "shared": shared[name]})
    relations.sort(key=lambda one: (-one["items"], one["relation"]))
    total = float(count_N.sum())
    return {"items": len(linked), "linked": int(linked.sum()), "linked_share": float(linked.mean()),
            "interactions_share": float(count_N[linked].sum() / total) if total else 0.0,
            "triples": len(triples), "triples_per_linked_item": float(num_N[linked].mean()) if linked.any() else 0.0,
            "relations": relations}


def twins(triples: Triples) -> list[list[str]]:
    """Return the relations, grouped if they join the same pairs of entities or the inverse pairs."""
    together: dict[bytes, list[str]] = {}
    for n, name in enumerate(triples.relations.to_pylist()):
        of = triples.relation == n
        head, tail = triples.head[of], triples.tail[of]
        # The smaller of the digests of both directions is the same for a relation and its inverse.
        digests = (hashlib.sha256(np.unique(one * len(triples.entities) + other).tobytes()).digest()
                   for one, other in ((head, tail), (tail, head)))
        together.setdefault(min(digests), []).append(name)
    return list(together.values())


_KINDS = ("knowledge", "two_hops", "entities")
"""Feature weights (head.features.*) that make a head use the graph."""
_WITH, _WITHOUT, SWAPPED, COUNTS = "all", "none", "swapped", "counts"


def knowledge_content(models: Mapping[str, Sequence[LoadedModel]], data: PreparedData, protocol: Protocol,
                      measures: Measures, cfg: EvaluateConfig, context: Context) -> dict[str, Any]:
    """Return the entry `knowledge` of metrics.json; `protocol` and `cfg` are of the validation split.

    For each model that uses the graph: its validation metrics when fitted on the training interactions with the tuned
    settings, and paired differences. `gain`: all knowledge against none. `over_swapped` and `over_counts`: all
    knowledge against the controls `swapped` and `counts_alone`. `relations`: all knowledge against all but one relation
    and its twins. Of several seeds of a model only the first is used.
    """
    graph_models = {name: seed_runs[0] for name, seed_runs in models.items()
                    if uses_knowledge(seed_runs[0].recommender.head.config)}
    triples = None if data.knowledge is None else data.knowledge.triples
    if data.knowledge is None or triples is None:
        raise DataError("knowledge=true: the prepared data has no knowledge graph; prepare with "
                        "dataset.knowledge=<file> and dataset.links=<file>, or leave out knowledge=true")
    if cfg.audience == "groups":
        raise ConfigError("knowledge=true: compares lists of users, but this evaluation has audience=groups; set "
                          "audience=users, or leave out knowledge=true")
    if not graph_models:
        raise ConfigError(f"knowledge=true: none of the models ({', '.join(models)}) uses the knowledge graph; train "
                          f"one with head.features.knowledge above 0, or leave out knowledge=true")
    if not data.manifest["counts"].get("valid"):
        raise DataError("knowledge=true: the prepared data has no validation interactions to compare on; prepare with "
                        "split.valid above 0, or leave out knowledge=true")
    training = data.training("train")
    graph_coverage = coverage(triples, data.knowledge, training.interactions.item_counts)
    relation_sets = [[one["relation"], *one["twins"]] for one in graph_coverage["relations"] if one["items"]]
    relation_sets = relation_sets[:cfg.knowledge.relations]
    entries = {name: _of_model(model, training, triples, relation_sets, data, protocol, measures, cfg, context)
               for name, model in graph_models.items()}
    return {"split": "valid", "coverage": graph_coverage, "models": entries,
            "unaffected": [name for name in models if name not in graph_models]}


def uses_knowledge(config: ModelConfig, kinds: Sequence[str] = _KINDS) -> bool:
    """Return True if any head of a model config uses the knowledge graph by one of these feature kinds."""
    return any(_reads(part.head, kinds) for part in config.parts.values())


def _reads(head: Any, kinds: Sequence[str]) -> bool:
    features: Any = getattr(head, "features", None)
    weights = 0 if features is None else max((getattr(features, kind) for kind in kinds), default=0)
    return weights > 0 or ("entities" in kinds and bool(getattr(head, "entities", False)))


def without_graph(config: ModelConfig, kinds: Sequence[str] = _KINDS) -> ModelConfig:
    """Return the model config without these kinds of knowledge features."""
    def without(part: ModelConfig) -> ModelConfig:
        head: Any = part.head
        changed: dict[str, Any] = {}
        if "entities" in kinds and getattr(head, "entities", False):
            changed["entities"] = False
        if getattr(head, "features", None) is not None:
            changed["features"] = replace(head.features, **dict.fromkeys(kinds, 0.0))
        return replace(part, head=replace(head, **changed)) if changed else part

    return config.mapped(without)


def with_neighbours_only(config: ModelConfig) -> ModelConfig:
    """Return the model config of the control that uses the graph only for features that count shared neighbours."""
    def by_neighbours(part: ModelConfig) -> ModelConfig:
        head: Any = part.head
        without = without_graph(part)
        if getattr(head, "features", None) is None:
            return without
        plain: Any = without.head
        features = replace(plain.features, knowledge=max(getattr(head.features, kind) for kind in _KINDS))
        return replace(without, head=replace(plain, features=features))

    return config.mapped(by_neighbours)


def kinds_without_data(config: ModelConfig, knowledge: Knowledge) -> list[str]:
    """Return the feature kinds that a model config uses but this graph has no data for; heads refuse those."""
    num_features = {"knowledge": lambda: knowledge.features.nnz, "two_hops": lambda: knowledge.two_hops.nnz,
                    "entities": lambda: 0 if knowledge.triples is None else len(knowledge.triples)}
    return [kind for kind in _KINDS if uses_knowledge(config, [kind]) and not num_features[kind]()]


def _of_model(model: LoadedModel, training: TrainingData, triples: Triples, relation_sets: Sequence[Sequence[str]],
              data: PreparedData, protocol: Protocol, measures: Measures, cfg: EvaluateConfig,
              context: Context) -> dict[str, Any]:
    config = model.recommender.head.config
    seed = cfg.seed if model.seed is None else int(model.seed)
    whole_graph = training.knowledge

    @still_working("ablation of the knowledge graph")
    def fit_and_measure(name: str, config: ModelConfig, knowledge: Knowledge | None) -> Any:
        context.log("knowledge", variant=name)
        # Without validation: tuning could let a variant compensate for its missing knowledge.
        inside = replace(context.inside(f"knowledge_{name}"), seed=seed, validation=None)
        head = fit(config, replace(training, knowledge=knowledge), inside, quiet=True)
        interactions = training.interactions
        recommender = Recommender(head, data.users, data.items, interactions.values, interactions.matrix,
                                  model.recommender.manifest, model.recommender.files,
                                  times=data.times_of(interactions))
        one = rank(recommender, data, protocol, cfg, f"candidates={cfg.candidates}")
        return measure(one.lists, one.task, measures)

    rng = np.random.default_rng(cfg.seed)
    whole = fit_and_measure(_WITH, config, whole_graph)
    variants = {_WITHOUT: fit_and_measure(_WITHOUT, without_graph(config), whole_graph),
                SWAPPED: fit_and_measure(SWAPPED, config, swapped(triples, training.interactions.item_counts, rng)),
                COUNTS: fit_and_measure(COUNTS, with_neighbours_only(config), counts_alone(triples))}
    relations = {}
    for names in relation_sets:
        rest = knowledge_of(triples.without(*names))
        relations[names[0]] = fit_and_measure(names[0], without_graph(config, kinds_without_data(config, rest)), rest)
    return {"metrics": {name: main_columns(one.summary()) for name, one in {_WITH: whole, **variants}.items()},
            "gain": main_columns(whole.comparison(variants[_WITHOUT])),
            "over_swapped": main_columns(whole.comparison(variants[SWAPPED])),
            "over_counts": main_columns(whole.comparison(variants[COUNTS])),
            "relations": {name: main_columns(whole.comparison(one)) for name, one in relations.items()}}
