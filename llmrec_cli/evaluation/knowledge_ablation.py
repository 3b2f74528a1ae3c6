"""The gain from the knowledge graph: models fitted again without each relation, without any, and with controls.

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
from llmrec_cli.evaluation.models import Entrant
from llmrec_cli.evaluation.predictions import rank
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.heads.fitting import fit
from llmrec_cli.settings.head import ModelConfig
from llmrec_cli.settings.stages import EvaluateConfig


def swapped(triples: Triples, count_N: np.ndarray, rng: np.random.Generator) -> Knowledge:
    """Return the knowledge where each linked item has that of another linked item of like popularity.

    Linked items are put in the order of `count_N`, their training interactions, equal ones by chance, and each two
    neighbours change places; the last of an odd number joins the pair before it. Whether an item is linked stays, and
    how much is known of items as popular; what is known is of another item.
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
    """Return knowledge that says of an item in how many triples it is, in classes by powers of two."""
    num_N = num_triples(triples)
    known = np.flatnonzero(num_N)
    level = np.floor(np.log2(num_N[known])).astype(np.int64)
    levels, column = np.unique(level, return_inverse=True)
    features: Any = sp.csr_array((np.ones(len(known), np.float32), (known, column)), (len(num_N), len(levels)))
    return Knowledge(features, [f"triples>{2**level}" for level in levels])


def num_triples(triples: Triples) -> np.ndarray:
    """Return in how many triples each item is, int64 (N,)."""
    degree_E = np.bincount(np.concatenate([triples.head, triples.tail]), minlength=len(triples.entities))
    return np.asarray(triples.links @ degree_E).astype(np.int64)


def coverage(triples: Triples, knowledge: Knowledge, count_N: np.ndarray) -> dict[str, Any]:
    """Return how much of the catalogue, and of its interactions `count_N`, the graph tells of, and each relation.

    Relations come by the number of items that have them. `shared` is the features of a relation that at least two items
    have: no head learns anything from the others. Relations that join the same entities, such as one and its inverse,
    are reported once, under the first of their names; the other names are `twins`.
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
        about = is_item[ends[0]] | is_item[ends[1]]
        has_E = np.bincount(np.concatenate(ends), minlength=len(is_item)) > 0
        items = int((triples.links @ has_E.astype(np.float32) > 0).sum())
        relations.append({"relation": name, "twins": others, "triples": int(of.sum()),
                          "triples_of_items": int(about.sum()), "items": items, "shared": shared[name]})
    relations.sort(key=lambda one: (-one["items"], one["relation"]))
    total = float(count_N.sum())
    return {"items": len(linked), "linked": int(linked.sum()), "linked_share": float(linked.mean()),
            "interactions_share": float(count_N[linked].sum() / total) if total else 0.0,
            "triples": len(triples), "triples_per_linked_item": float(num_N[linked].mean()) if linked.any() else 0.0,
            "relations": relations}


def twins(triples: Triples) -> list[list[str]]:
    """Return the relations, those together that join the same pairs of entities, or their inverse."""
    together: dict[bytes, list[str]] = {}
    for n, name in enumerate(triples.relations.to_pylist()):
        of = triples.relation == n
        head, tail = triples.head[of], triples.tail[of]
        # All pairs one way or all of them the other: the smaller digest is that of both.
        digests = (hashlib.sha256(np.unique(one * len(triples.entities) + other).tobytes()).digest()
                   for one, other in ((head, tail), (tail, head)))
        together.setdefault(min(digests), []).append(name)
    return list(together.values())


_KINDS = ("knowledge", "two_hops", "entities")
"""The ways of reading the graph, as weights of features."""
_WITH, _WITHOUT, SWAPPED, COUNTS = "all", "none", "swapped", "counts"


def knowledge_content(groups: Mapping[str, Sequence[Entrant]], data: PreparedData, protocol: Protocol, how: Measures,
                      cfg: EvaluateConfig, context: Context) -> dict[str, Any]:
    """Return the entry `knowledge` of metrics.json; `protocol` and `cfg` are of the validation split.

    Of each model that uses the graph: what it reaches on validation, fitted on the training interactions with what
    validation had chosen, and the paired differences that something makes. `gain`: all knowledge against none.
    `over_swapped` and `over_counts`: against the controls of `data.knowledge_controls`. `relations`: all knowledge
    against all but one relation, and those that say the same. Of a model of several seeds the first is looked at.
    """
    using = {name: group[0] for name, group in groups.items() if uses_knowledge(group[0].recommender.head.config)}
    triples = None if data.knowledge is None else data.knowledge.triples
    if data.knowledge is None or triples is None:
        raise DataError("knowledge=true: the prepared data has no knowledge graph; prepare with "
                        "dataset.knowledge=<file> and dataset.links=<file>, or leave it out")
    if cfg.audience == "groups":
        raise ConfigError("knowledge=true: compares lists of users, and this evaluation is of groups; add "
                          "audience=users, or leave it out")
    if not using:
        raise ConfigError(f"knowledge=true: none of the models ({', '.join(groups)}) uses the knowledge graph; train "
                          f"one with head.features.knowledge above 0, or leave it out")
    if not data.manifest["counts"].get("valid"):
        raise DataError("knowledge=true: the prepared data has no validation interactions to compare on; prepare with "
                        "split.valid above 0, or leave it out")
    training = data.training("train")
    covered = coverage(triples, data.knowledge, training.interactions.item_counts)
    left_out = [[one["relation"], *one["twins"]] for one in covered["relations"] if one["items"]]
    left_out = left_out[:cfg.knowledge.relations]
    models = {name: _of_model(entrant, training, triples, left_out, data, protocol, how, cfg, context)
              for name, entrant in using.items()}
    return {"split": "valid", "coverage": covered, "models": models,
            "unaffected": [name for name in groups if name not in using]}


def uses_knowledge(config: ModelConfig, kinds: Sequence[str] = _KINDS) -> bool:
    """Return whether anything in a model config reads the knowledge graph in one of these ways."""
    return any(_reads(part.head, kinds) for part in config.parts.values())


def _reads(head: Any, kinds: Sequence[str]) -> bool:
    features: Any = getattr(head, "features", None)
    weights = 0 if features is None else max((getattr(features, kind) for kind in kinds), default=0)
    return weights > 0 or ("entities" in kinds and bool(getattr(head, "entities", False)))


def without_graph(config: ModelConfig, kinds: Sequence[str] = _KINDS) -> ModelConfig:
    """Return the model config with nothing that reads the graph in these ways."""
    def without(part: ModelConfig) -> ModelConfig:
        head: Any = part.head
        changed: dict[str, Any] = {}
        if "entities" in kinds and getattr(head, "entities", False):
            changed["entities"] = False
        if getattr(head, "features", None) is not None:
            changed["features"] = replace(head.features, **dict.fromkeys(kinds, 0.0))
        return replace(part, head=replace(head, **changed)) if changed else part

    return config.mapped(without)


def counting(config: ModelConfig) -> ModelConfig:
    """Return the model config with neighbours in place of all that reads the graph: what the control of counts has."""
    def by_neighbours(part: ModelConfig) -> ModelConfig:
        head: Any = part.head
        without = without_graph(part)
        if getattr(head, "features", None) is None:
            return without
        plain: Any = without.head
        features = replace(plain.features, knowledge=max(getattr(head.features, kind) for kind in _KINDS))
        return replace(without, head=replace(plain, features=features))

    return config.mapped(by_neighbours)


def silent(config: ModelConfig, knowledge: Knowledge) -> list[str]:
    """Return the ways in which a model config reads a graph without anything of that kind; heads refuse it."""
    says = {"knowledge": lambda: knowledge.features.nnz, "two_hops": lambda: knowledge.two_hops.nnz,
            "entities": lambda: 0 if knowledge.triples is None else len(knowledge.triples)}
    return [kind for kind in _KINDS if uses_knowledge(config, [kind]) and not says[kind]()]


def _of_model(entrant: Entrant, training: TrainingData, triples: Triples, left_out: Sequence[Sequence[str]],
              data: PreparedData, protocol: Protocol, how: Measures, cfg: EvaluateConfig,
              context: Context) -> dict[str, Any]:
    config = entrant.recommender.head.config
    seed = cfg.seed if entrant.seed is None else int(entrant.seed)
    known = training.knowledge

    def measured(name: str, config: ModelConfig, knowledge: Knowledge | None) -> Any:
        context.log("knowledge", variant=name)
        # Nothing may be chosen any more, or a variant could make up for what it lacks.
        inside = replace(context.inside(f"knowledge_{name}"), seed=seed, validation=None)
        head = fit(config, replace(training, knowledge=knowledge), inside, quiet=True)
        known = training.interactions
        recommender = Recommender(head, data.users, data.items, known.values, known.matrix,
                                  entrant.recommender.manifest, entrant.recommender.files, times=data.times_of(known))
        one = rank(recommender, data, protocol, cfg, f"candidates={cfg.candidates}")
        return measure(one.lists, one.task, how)

    rng = np.random.default_rng(cfg.seed)
    whole = measured(_WITH, config, known)
    variants = {_WITHOUT: measured(_WITHOUT, without_graph(config), known),
                SWAPPED: measured(SWAPPED, config, swapped(triples, training.interactions.item_counts, rng)),
                COUNTS: measured(COUNTS, counting(config), counts_alone(triples))}
    relations = {}
    for names in left_out:
        rest = knowledge_of(triples.without(*names))
        relations[names[0]] = measured(names[0], without_graph(config, silent(config, rest)), rest)
    return {"metrics": {name: main_columns(one.summary()) for name, one in {_WITH: whole, **variants}.items()},
            "gain": main_columns(whole.comparison(variants[_WITHOUT])),
            "over_swapped": main_columns(whole.comparison(variants[SWAPPED])),
            "over_counts": main_columns(whole.comparison(variants[COUNTS])),
            "relations": {name: main_columns(whole.comparison(one)) for name, one in relations.items()}}
