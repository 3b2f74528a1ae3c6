"""What models have of the knowledge graph: fitted again without each relation, without any, and with controls."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from llmrec_cli.data.knowledge import Knowledge, knowledge_of
from llmrec_cli.data.knowledge_controls import counts_alone, coverage, swapped
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.triples import Triples
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.heads.artifact import Recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.scoring.evaluation import SLICED, Measures, measure
from llmrec_cli.scoring.protocols import Protocol
from llmrec_cli.settings.head import Fusion, Recipe
from llmrec_cli.settings.stages import EvaluateConfig
from llmrec_cli.stages.entrants import Entrant
from llmrec_cli.stages.fitting import fit
from llmrec_cli.stages.ranking import rank

WITH, WITHOUT, SWAPPED, COUNTS = "all", "none", "swapped", "counts"


def knowledge_content(groups: Mapping[str, Sequence[Entrant]], data: PreparedData, protocol: Protocol, how: Measures,
                      cfg: EvaluateConfig, context: Context) -> dict[str, Any]:
    """Return the entry `knowledge` of metrics.json; `protocol` and `cfg` are of the validation split.

    Of each model that uses the graph: what it reaches on validation, fitted on the training interactions with what
    validation had chosen, and the paired differences that something makes. `gain`: all knowledge against none.
    `over_swapped` and `over_counts`: against the controls of `data.knowledge_controls`. `relations`: all knowledge
    against all but one relation, and those that say the same. Of a model of several seeds the first is looked at.
    """
    using = {name: group[0] for name, group in groups.items() if uses_knowledge(group[0].recommender.head.recipe)}
    triples = None if data.knowledge is None else data.knowledge.triples
    if data.knowledge is None or triples is None:
        raise DataError("knowledge=true: the prepared data has no knowledge graph; prepare with "
                        "dataset.knowledge=<file> and dataset.links=<file>, or leave it out")
    if cfg.audience == "groups":
        raise ConfigError("knowledge=true: looks at users, and the model is for groups; add audience=users, or leave "
                          "it out")
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


def uses_knowledge(recipe: Recipe) -> bool:
    """Whether anything in a recipe reads the knowledge graph."""
    if isinstance(recipe.head, Fusion):
        return any(uses_knowledge(member) for member in recipe.head.members.values())
    features: Any = getattr(recipe.head, "features", None)
    weights = 0 if features is None else max(features.knowledge, features.two_hops, features.entities)
    return weights > 0 or bool(getattr(recipe.head, "entities", False))


def without_graph(recipe: Recipe, keep_features: bool = False) -> Recipe:
    """Return the recipe with nothing that reads the graph, or, with `keep_features`, nothing that learns vectors."""
    head: Any = recipe.head
    if isinstance(head, Fusion):
        members = {name: without_graph(member, keep_features) for name, member in head.members.items()}
        return replace(recipe, head=replace(head, members=members))
    changed: dict[str, Any] = {}
    if getattr(head, "entities", False):
        changed["entities"] = False
    if getattr(head, "features", None) is not None:
        off = {"entities": 0.0} | ({} if keep_features else {"knowledge": 0.0, "two_hops": 0.0})
        changed["features"] = replace(head.features, **off)
    return replace(recipe, head=replace(head, **changed)) if changed else recipe


def _of_model(entrant: Entrant, training: TrainingData, triples: Triples, left_out: Sequence[Sequence[str]],
              data: PreparedData, protocol: Protocol, how: Measures, cfg: EvaluateConfig,
              context: Context) -> dict[str, Any]:
    recipe = entrant.recommender.head.recipe
    seed = cfg.seed if entrant.seed is None else int(entrant.seed)
    known = training.knowledge

    def measured(name: str, recipe: Recipe, knowledge: Knowledge | None) -> Any:
        context.log("knowledge", variant=name)
        # Nothing may be chosen any more, or a variant could make up for what it lacks.
        inside = replace(context.inside(f"knowledge_{name}"), seed=seed, validation=None)
        head = fit(recipe, replace(training, knowledge=knowledge), inside, quiet=True)
        history = training.interactions.matrix
        recommender = Recommender(head, data.users, data.items, history, history, entrant.recommender.manifest)
        one = rank(recommender, data, protocol, cfg, f"candidates={cfg.candidates}")
        return measure(one.lists, one.task, how)

    rng = np.random.default_rng(cfg.seed)
    whole = measured(WITH, recipe, known)
    variants = {WITHOUT: measured(WITHOUT, without_graph(recipe), known),
                SWAPPED: measured(SWAPPED, recipe, swapped(triples, training.interactions.item_counts, rng)),
                COUNTS: measured(COUNTS, without_graph(recipe, keep_features=True), counts_alone(triples))}
    relations = {}
    for names in left_out:
        rest = knowledge_of(triples.without(*names))
        # Of a graph that says nothing any more, heads rightly refuse to learn.
        relations[names[0]] = measured(names[0], recipe if rest.features.nnz else without_graph(recipe), rest)
    return {"metrics": {name: _main(one.summary()) for name, one in {WITH: whole, **variants}.items()},
            "gain": _main(whole.comparison(variants[WITHOUT])),
            "over_swapped": _main(whole.comparison(variants[SWAPPED])),
            "over_counts": _main(whole.comparison(variants[COUNTS])),
            "relations": {name: _main(whole.comparison(one)) for name, one in relations.items()}}


def _main(described: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in described.items() if name.partition("@")[0] in SLICED}
