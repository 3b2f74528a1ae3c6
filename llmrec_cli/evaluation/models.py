"""The models that an evaluation compares: loaded, named, averaged over seeds, with the data they were fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.groups import Groups
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.data.training_data import TrainingData
from llmrec_cli.data.weights import fit_weights
from llmrec_cli.errors import ArtifactError, ConfigError, DataError
from llmrec_cli.heads.artifact import Recommender, load_recommender, model_folder
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.pinned import PinnedFolder
from llmrec_cli.plain_yaml import YamlError, parse_yaml, read_yaml
from llmrec_cli.run_dir import CONFIG, RunDir
from llmrec_cli.settings.base import nearest
from llmrec_cli.settings.head import HEADS, ModelConfig
from llmrec_cli.settings.heads.base import PopularitySettings


def fitted_data(recommender: Recommender) -> TrainingData:
    """Return exactly the interactions that a model was fitted on."""
    history: sp.csr_array = recommender.history
    user = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    order = np.arange(len(user), dtype=np.int64)
    interactions = Interactions(user, history.indices.astype(np.int64), history.data, order, *history.shape)
    return TrainingData(recommender.users, recommender.items, interactions, groups=_groups_of(recommender),
                        value_kind=recommender.manifest.get("values", ""))


def popularity_of(recommender: Recommender, num_items: int) -> np.ndarray:
    """Return the popularity baseline's scores of a catalogue of `num_items`, float32 (num_items,); new items have 0.

    Queries without a history, profile or text get these scores, as from head=popularity.
    """
    data = fitted_data(recommender)
    counts_N = fit_weights(data, PopularitySettings()).by_item(data.interactions)
    return np.concatenate([counts_N, np.zeros(num_items - len(counts_N))]).astype(np.float32)


def _groups_of(recommender: Recommender) -> Groups | None:
    """Return the groups that a model knows, with what they did together that it was fitted on."""
    known = recommender.groups
    if known is None:
        return None
    group = np.repeat(np.arange(len(known.entities)), np.diff(known.history.indptr))
    together = Interactions(group, known.history.indices.astype(np.int64), known.history.data,
                            np.arange(len(group), dtype=np.int64), *known.history.shape)
    return Groups(known.entities, known.members, together, np.zeros(len(group), np.int8), known.synthetic)


_NOT_THE_MODEL = {"seed", "run_dir", "resume", "device", "debug", "prepared", "experiment"}
"""Settings of a run that don't say what was trained; which data it was is told by the fingerprint."""
_MOST_DIFFERENCES = 3
"""Settings that a name tells apart by; beyond that a run's folder says more."""


@dataclass(frozen=True)
class Entrant:
    """A model that takes part. `settings` are flat, `head.l2` to 200; `seed` is None where no run says which."""

    folder: Path
    recommender: Recommender
    settings: dict[str, Any]

    @property
    def head(self) -> str:
        """The kind of its head."""
        return str(self.recommender.manifest["head"])

    @property
    def seed(self) -> Any:
        """The seed it was trained with."""
        return self.recommender.manifest.get("seed")

    def same_but_seed(self, other: "Entrant") -> bool:
        """Return whether two models differ by seed alone."""
        mine, theirs = self.recommender.manifest, other.recommender.manifest
        facts = ("head", "data_fingerprint", "fitted_on", "encoders")
        return (self.seed != other.seed and self.settings == other.settings
                and all(mine[fact] == theirs[fact] for fact in facts))


def load_entrants(models: Sequence[str], context: Context) -> list[Entrant]:
    """Return the models in the folders or runs that are named."""
    folders = [model_folder(name, f"models[{n}]" if len(models) > 1 else "model") for n, name in enumerate(models)]
    resolved = [folder.resolve() for folder in folders]
    for n, folder in enumerate(resolved):
        if folder in resolved[:n]:
            raise ConfigError(f"models[{n}]={models[n]}: is the same model as {models[resolved.index(folder)]}; name "
                              f"each once")
    recommenders = [load_recommender(folder, context) for folder in folders]
    return [Entrant(folder, one, _settings(one.files)) for folder, one in zip(folders, recommenders, strict=True)]


def grouped(entrants: Sequence[Entrant]) -> dict[str, list[Entrant]]:
    """Return the entrants by name, those that differ only by seed under one."""
    groups: list[list[Entrant]] = []
    for entrant in entrants:
        fitting = next((g for g in groups if all(entrant.same_but_seed(other) for other in g)), None)
        groups.append([entrant]) if fitting is None else fitting.append(entrant)
    return dict(zip(_names([group[0] for group in groups]), groups, strict=True))


def baseline(name: str) -> Head:
    """Return a head to compare with, at its default settings."""
    simple = [n for n, settings in HEADS.items() if n != "fusion" and not settings().uses()]
    if name not in simple:
        raise ConfigError(f"baselines={name}: choose among {', '.join(simple)}{nearest(name, simple)}; another model "
                          f"is compared with models=[<this>,<other>]")
    return build(ModelConfig(head=HEADS[name]()))


def refuse_trained_on(entrant: Entrant, data: PreparedData, split: str) -> None:
    """Raise ConfigError where a model was fitted on what it would be measured on."""
    manifest = entrant.recommender.manifest
    if data.manifest["fingerprint"] == manifest["data_fingerprint"] and split in manifest["fitted_on"]:
        raise ConfigError(f"split={split}: the model in {entrant.folder} was fitted on it "
                          f"(refit={manifest.get('refit')}), so it would be measured on what it was taught; train with "
                          f"refit={'train_valid' if split == 'test' else 'none'}, or name newer data with "
                          f"prepared=<folder>")


def refuse_taught(entrant: Entrant, data: PreparedData, split: str) -> None:
    """Raise DataError where a model of other data was fitted on some of what is held out in this.

    Pairs that this data has in training and in what it holds out are no model's doing.
    """
    known, held = entrant.recommender, data.part(split)
    if data.manifest["fingerprint"] == known.manifest["data_fingerprint"]:
        return
    user, item = known.users.find(data.users.ids)[held.user], known.items.find(data.items.ids)[held.item]
    both = (user >= 0) & (item >= 0)
    taught = int(presence(known.history)[user[both], item[both]].sum()) if both.any() else 0
    if taught:
        raise DataError(f"models: {entrant.folder} cannot be asked the same questions as the others: it was fitted on "
                        f"{taught:,} of the {len(held):,} held-out interactions of {data.path}; compare models that "
                        f"were fitted on the same split")


def _names(entrants: Sequence[Entrant]) -> list[str]:
    """Return a name for each: the head's, with the settings that tell those of the same head apart."""
    names = []
    for entrant in entrants:
        rivals = [other for other in entrants if other.head == entrant.head]
        keys = sorted({key for other in rivals for key in other.settings.keys() | entrant.settings.keys()
                       if any(r.settings.get(key) != entrant.settings.get(key) for r in rivals)})
        told = ", ".join(f"{key.removeprefix('head.')}={entrant.settings.get(key)}" for key in keys)
        fitting = 0 < len(keys) <= _MOST_DIFFERENCES
        names.append(entrant.head if len(rivals) == 1 else f"{entrant.head} {told if fitting else _place(entrant)}")
    # What settings do not tell apart, folders do.
    return [f"{name} ({_place(entrant)}, {n + 1})" if names.count(name) > 1 else name
            for n, (name, entrant) in enumerate(zip(names, entrants, strict=True))]


def _place(entrant: Entrant) -> str:
    folder = entrant.recommender.files.place
    return folder.parent.name if folder.name == "model" else folder.name


def _settings(files: PinnedFolder) -> dict[str, Any]:
    """Return what the run was asked for, or where there is no run the model config with what validation chose."""
    run = RunDir(files.place.parent).file(CONFIG)
    named = files.place.name == "model" and run.is_file()
    file = run if named else files.path / "config.yaml"
    try:
        plain = read_yaml(file) if named else parse_yaml(files.read("config.yaml"), str(file))
        if not isinstance(plain, dict):
            raise YamlError(f"{file}: holds no settings")
    except YamlError as error:
        raise ArtifactError(f"{error}; copy the run again") from error
    except OSError as error:
        raise ArtifactError(f"{file}: not readable ({error.strerror}); copy the run again") from error
    return {key: value for key, value in _flat(plain) if key.partition(".")[0] not in _NOT_THE_MODEL}


def _flat(mapping: Mapping[str, Any], inside: str = "") -> list[tuple[str, Any]]:
    """Return the entries of nested mappings, `{a: {b: 1}}` as `a.b`, 1; the space that tuning searched is left out."""
    found: list[tuple[str, Any]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value and key != "search":
            found += _flat(value, f"{inside}{key}.")
        elif key != "search":
            found.append((f"{inside}{key}", value))
    return found
