"""Robustness of lists to item texts that are mistyped, reworded or shortened at recommendation time."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.errors import DataError
from llmrec_cli.evaluation.candidates import Protocol
from llmrec_cli.evaluation.metric_results import average_seeds
from llmrec_cli.evaluation.metric_suite import Measures, main_columns, measure
from llmrec_cli.evaluation.models import LoadedModel
from llmrec_cli.evaluation.predictions import RankedLists, common, rank
from llmrec_cli.evaluation.text_perturbation import SYNONYMS, Perturbation, perturb_texts, synonyms, truncation, typos
from llmrec_cli.heads.artifact import load_recommender
from llmrec_cli.heads.base import Context
from llmrec_cli.language.phrases import Phrase
from llmrec_cli.pace import timed_parts
from llmrec_cli.settings.evaluate import EvaluateConfig
from llmrec_cli.settings.evaluation import RobustnessSettings

_AS_NEW = " (as if new)"
_ALL_TEXTS, _NO_TEXTS = Phrase("all items"), Phrase("none")
_COLD_TEXTS = Phrase("items without training interactions, added as new items")


def perturbations(settings: RobustnessSettings) -> dict[str, Perturbation]:
    """Return the text perturbations by name."""
    groups = read_synonyms(settings.synonym_file) if settings.synonym_file else SYNONYMS
    return {"typos": typos(settings.typos), "synonyms": synonyms(settings.synonyms, groups),
            "truncated": truncation(settings.truncated)}


def read_synonyms(file: str) -> list[list[str]]:
    """Return the groups of synonyms in a file: one group per line, words separated by tabs."""
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"robustness.synonym_file={file}: not readable ({error}); use a UTF-8 text file with one "
                        f"group of words per line, separated by tabs") from error
    groups = [[word.strip() for word in line.split("\t") if word.strip()] for line in lines]
    for number, group in enumerate(groups, 1):
        if len(group) == 1:
            raise DataError(f"{file}:{number}: '{group[0]}' has no synonym; write at least two words with the same "
                            f"meaning, separated by tabs")
    groups = [group for group in groups if group]
    if not groups:
        raise DataError(f"robustness.synonym_file={file}: the file has no words; write one group of words per line, "
                        f"separated by tabs")
    return groups


def rank_perturbed(models: Mapping[str, Sequence[LoadedModel]], data: PreparedData, protocol: Protocol,
                   cfg: EvaluateConfig, context: Context) -> dict[str, dict[str, list[RankedLists]]]:
    """Rank with each model once with the original texts (`clean`) and once per perturbation, one entry per seed.

    Only texts that are read at recommendation time are perturbed. Heads with an encoder read all item texts again;
    other heads that use texts get the items without training interactions again as new items. Heads that read no text
    at recommendation time are left out.
    """
    ranked_of: dict[str, dict[str, list[RankedLists]]] = {}
    for name, seed_runs in models.items():
        for model in seed_runs:
            of_model = _rank_model(model, data, protocol, cfg, context)
            for kind, one in common(of_model).items() if of_model else ():
                ranked_of.setdefault(name, {}).setdefault(kind, []).append(one)
    return ranked_of


def texts_read(model: LoadedModel, data: PreparedData) -> Phrase:
    """Return the label of the items whose texts a model reads at recommendation time."""
    head = model.recommender.head
    if not head.supports_text_queries:
        return _NO_TEXTS
    if head.rereads:
        return _ALL_TEXTS
    return _COLD_TEXTS if len(_cold_rows(model, data)) else _NO_TEXTS


def _rank_model(model: LoadedModel, data: PreparedData, protocol: Protocol, cfg: EvaluateConfig,
                context: Context) -> dict[str, RankedLists]:
    read = texts_read(model, data)
    if read == _NO_TEXTS:
        return {}
    kinds: dict[str, Perturbation] = {"clean": lambda text, generator: text, **perturbations(cfg.robustness)}
    ranked = {}
    for kind, perturb in timed_parts("perturbed texts:", "kinds", list(kinds.items()), quiet=True):
        # Perturbing changes the loaded model, so each perturbation loads its own copy.
        recommender = load_recommender(model.folder, context)
        texts = perturb_texts(data.items.texts, perturb, cfg.seed)
        if read == _ALL_TEXTS:
            own = perturb_texts(recommender.items.texts, perturb, cfg.seed)
            recommender.head.reread(own)
            items = replace(data.items, texts=texts)
        else:
            items = _as_new(data.items, texts, _cold_rows(model, data))
        context.log("robustness", texts=kind, changed=changed_share(data.items.texts, texts))
        ranked[kind] = rank(recommender, replace(data, items=items), protocol, cfg, f"candidates={cfg.candidates}")
    return ranked


def _cold_rows(model: LoadedModel, data: PreparedData) -> np.ndarray:
    """Return the items of the data, int64, without an interaction that the model was fitted on."""
    recommender = model.recommender
    counts = np.bincount(recommender.history.indices, minlength=len(recommender.items))
    place_M = recommender.items.find(data.items.ids)
    return np.flatnonzero((place_M < 0) | (counts[place_M] == 0))


def _as_new(items: Catalogue, texts: np.ndarray, rows: np.ndarray) -> Catalogue:
    """Return the items with new ids and the given texts for `rows`, so that no model knows these items."""
    ids, own = items.ids.copy(), items.texts.copy()
    ids[rows] = [f"{key}{_AS_NEW}" for key in ids[rows]]
    own[rows] = texts[rows]
    return replace(items, ids=ids, texts=own)


def changed_share(before: np.ndarray, after: np.ndarray) -> float:
    """Return the share of the non-empty texts that changed."""
    has_text = np.array([bool(str(text).strip()) for text in before], bool)
    return float((before[has_text] != after[has_text]).mean()) if has_text.any() else 0.0


def robustness_content(ranked: Mapping[str, Mapping[str, Sequence[RankedLists]]],
                       loaded: Mapping[str, Sequence[LoadedModel]],
                       data: PreparedData, measures: Measures, cfg: EvaluateConfig) -> dict[str, Any]:
    """Return the entry `robustness` of metrics.json: each model with original and perturbed texts, and differences."""
    settings, models = cfg.robustness, {}
    for name, kinds in ranked.items():
        results = {kind: average_seeds([measure(one.lists, one.task, measures) for one in seeds])
                   for kind, seeds in kinds.items()}
        models[name] = {"texts": texts_read(loaded[name][0], data), "clean": main_columns(results["clean"].summary()),
                        **{kind: {"metrics": main_columns(one.summary()),
                                  "difference": main_columns(one.comparison(results["clean"]))}
                           for kind, one in results.items() if kind != "clean"}}
    texts = data.items.texts
    about = {kind: {"strength": getattr(settings, kind),
                    "changed": changed_share(texts, perturb_texts(texts, way, cfg.seed))}
             for kind, way in perturbations(settings).items()}
    return {"texts": about, "synonyms": settings.synonym_file or Phrase("built in"), "seed": cfg.seed, "models": models,
            "unaffected": [name for name in loaded if name not in ranked]}
