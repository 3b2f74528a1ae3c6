"""Robustness of lists to item texts that are mistyped, reworded or shortened when a list is requested."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.metric_results import averaged
from llmrec_cli.evaluation.metric_suite import Measures, main_columns, measure
from llmrec_cli.evaluation.models import Entrant
from llmrec_cli.evaluation.predictions import Ranked, common, rank
from llmrec_cli.evaluation.text_perturbation import SYNONYMS, Disturb, disturbed, synonyms, truncated, typos
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.settings.evaluation import RobustnessSettings
from llmrec_cli.settings.stages import EvaluateConfig

_AS_NEW = " (as if new)"
_READ_AGAIN, _NEW_ONES, _NONE = "all items", "items without training interactions, as if they came new", "none"


def disturbances(settings: RobustnessSettings) -> dict[str, Disturb]:
    """Return what is done to texts, by name."""
    groups = read_synonyms(settings.synonym_file) if settings.synonym_file else SYNONYMS
    return {"typos": typos(settings.typos), "synonyms": synonyms(settings.synonyms, groups),
            "truncated": truncated(settings.truncated)}


def read_synonyms(file: str) -> list[list[str]]:
    """Return the groups of words in a file, tabs between them."""
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"robustness.synonym_file={file}: not readable ({error}); name a text file in UTF-8 with a "
                        f"group of words a line, separated by tabs") from error
    groups = [[word.strip() for word in line.split("\t") if word.strip()] for line in lines]
    for number, group in enumerate(groups, 1):
        if len(group) == 1:
            raise DataError(f"{file}:{number}: '{group[0]}' stands alone; write at least two words that mean the same, "
                            f"separated by tabs")
    groups = [group for group in groups if group]
    if not groups:
        raise DataError(f"robustness.synonym_file={file}: no words in it; write a group of words a line, separated by "
                        f"tabs")
    return groups


def robustness(groups: Mapping[str, Sequence[Entrant]], data: PreparedData, protocol: Protocol, cfg: EvaluateConfig,
               context: Context) -> dict[str, dict[str, list[Ranked]]]:
    """Return what each model says with texts as they are (`clean`) and disturbed, one entry per seed.

    Texts are disturbed where they are read when a recommendation is asked for: heads with an encoder at hand read all
    of them again, of other heads that know texts the items without training interactions are put in anew. Heads that
    read no texts, or none of these items, are left out.
    """
    found: dict[str, dict[str, list[Ranked]]] = {}
    for name, group in groups.items():
        for entrant in group:
            ranked = _of_entrant(entrant, data, protocol, cfg, context)
            for kind, one in common(ranked).items() if ranked else ():
                found.setdefault(name, {}).setdefault(kind, []).append(one)
    return found


def read_of(entrant: Entrant, data: PreparedData) -> str:
    """Return whose texts a model reads when it is asked."""
    head = entrant.recommender.head
    if not head.supports_text_queries:
        return _NONE
    if head.rereads:
        return _READ_AGAIN
    return _NEW_ONES if len(_unchosen(entrant, data)) else _NONE


def _of_entrant(entrant: Entrant, data: PreparedData, protocol: Protocol, cfg: EvaluateConfig,
                context: Context) -> dict[str, Ranked]:
    read = read_of(entrant, data)
    if read == _NONE:
        return {}
    ways: dict[str, Disturb] = {"clean": lambda text, generator: text, **disturbances(cfg.robustness)}
    found = {}
    for kind, disturb in ways.items():
        # What is asked is changed by it, so each time it is a copy from the model's folder.
        known = load_recommender(entrant.folder, context)
        texts = disturbed(data.items.texts, disturb, cfg.seed)
        if read == _READ_AGAIN:
            own = disturbed(known.items.texts, disturb, cfg.seed)
            known.head.reread(own)
            items = replace(data.items, texts=texts)
        else:
            items = _as_new(data.items, texts, _unchosen(entrant, data))
        context.log("robustness", texts=kind, changed=changed(data.items.texts, texts))
        found[kind] = rank(known, replace(data, items=items), protocol, cfg, f"candidates={cfg.candidates}")
    return found


def _unchosen(entrant: Entrant, data: PreparedData) -> np.ndarray:
    """Return the items of the data, int64, that the model was fitted on no interaction of."""
    known = entrant.recommender
    counts = np.bincount(known.history.indices, minlength=len(known.items))
    place_M = known.items.find(data.items.ids)
    return np.flatnonzero((place_M < 0) | (counts[place_M] == 0))


def _as_new(items: Catalogue, texts: np.ndarray, rows: np.ndarray) -> Catalogue:
    """Return the items, some under names that no model knows and with these texts."""
    ids, own = items.ids.copy(), items.texts.copy()
    ids[rows] = [f"{key}{_AS_NEW}" for key in ids[rows]]
    own[rows] = texts[rows]
    return replace(items, ids=ids, texts=own)


def changed(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of the texts, of those that say anything, that are others now."""
    said = np.array([bool(str(text).strip()) for text in before], bool)
    return float((before[said] != after[said]).mean()) if said.any() else 0.0


def robustness_content(ranked: Mapping[str, Mapping[str, Sequence[Ranked]]], groups: Mapping[str, Sequence[Entrant]],
                       data: PreparedData, how: Measures, cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entry `robustness` of metrics.json: each model clean and disturbed, and the paired differences."""
    settings, models = cfg.robustness, {}
    for name, kinds in ranked.items():
        measured = {kind: averaged([measure(one.lists, one.task, how) for one in seeds])
                    for kind, seeds in kinds.items()}
        models[name] = {"texts": read_of(groups[name][0], data), "clean": main_columns(measured["clean"].summary()),
                        **{kind: {"metrics": main_columns(one.summary()),
                                  "difference": main_columns(one.comparison(measured["clean"]))}
                           for kind, one in measured.items() if kind != "clean"}}
    texts = data.items.texts
    told = {kind: {"strength": getattr(settings, kind), "changed": changed(texts, disturbed(texts, way, cfg.seed))}
            for kind, way in disturbances(settings).items()}
    return {"texts": told, "synonyms": settings.synonym_file or "built in", "seed": cfg.seed, "models": models,
            "unaffected": [name for name in groups if name not in ranked]}
