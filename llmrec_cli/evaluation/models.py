"""The models that an evaluation compares: loaded, named, averaged over seeds, with the data they were fitted on."""

from collections.abc import Collection, Mapping, Sequence
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
    """Return the interactions that a model was fitted on."""
    history: sp.csr_array = recommender.history
    user = np.repeat(np.arange(history.shape[0]), np.diff(history.indptr))
    order = np.arange(len(user), dtype=np.int64)
    interactions = Interactions(user, history.indices.astype(np.int64), history.data, order, *history.shape)
    return TrainingData(recommender.users, recommender.items, interactions, groups=_groups_of(recommender),
                        value_kind=recommender.manifest.get("values", ""))


def popularity_of(recommender: Recommender, num_items: int) -> np.ndarray:
    """Return the scores of head=popularity for a catalogue of `num_items`, float32 (num_items,); new items have 0.

    Queries without a history, profile or text get these scores.
    """
    data = fitted_data(recommender)
    counts_N = fit_weights(data, PopularitySettings()).by_item(data.interactions)
    return np.concatenate([counts_N, np.zeros(num_items - len(counts_N))]).astype(np.float32)


def _groups_of(recommender: Recommender) -> Groups | None:
    """Return the groups of a model with the joint interactions that it was fitted on."""
    known_groups = recommender.groups
    if known_groups is None:
        return None
    group = np.repeat(np.arange(len(known_groups.entities)), np.diff(known_groups.history.indptr))
    together = Interactions(group, known_groups.history.indices.astype(np.int64), known_groups.history.data,
                            np.arange(len(group), dtype=np.int64), *known_groups.history.shape)
    return Groups(known_groups.entities, known_groups.members, together, np.zeros(len(group), np.int8),
                  known_groups.synthetic)


_IGNORED_SETTINGS = {"seed", "run_dir", "resume", "device", "debug", "prepared", "experiment", "settings"}
"""Settings of a run that do not change the trained model. The data is compared by its fingerprint."""
_MAX_DIFFERENCES = 3
"""Maximum number of settings in a model's name; with more differences the name is the run's folder."""


@dataclass(frozen=True)
class LoadedModel:
    """A loaded model to evaluate, with its settings as a flat mapping, for example `head.l2` -> 200."""

    folder: Path
    recommender: Recommender
    settings: dict[str, Any]

    @property
    def head(self) -> str:
        """Kind of the head."""
        return str(self.recommender.manifest["head"])

    @property
    def seed(self) -> Any:
        """Seed of the training; None if the manifest has none."""
        return self.recommender.manifest.get("seed")

    def same_but_seed(self, other: "LoadedModel") -> bool:
        """Return True if two models differ only in their seed."""
        ours, theirs = self.recommender.manifest, other.recommender.manifest
        facts = ("head", "data_fingerprint", "fitted_on", "encoders")
        return (self.seed != other.seed and self.settings == other.settings
                and all(ours[fact] == theirs[fact] for fact in facts))


def load_models(models: Sequence[str], context: Context) -> list[LoadedModel]:
    """Load the models from folders or runs."""
    folders = [model_folder(name, f"models[{n}]" if len(models) > 1 else "model") for n, name in enumerate(models)]
    resolved = [folder.resolve() for folder in folders]
    for n, folder in enumerate(resolved):
        if folder in resolved[:n]:
            raise ConfigError(f"models[{n}]={models[n]}: is the same model as {models[resolved.index(folder)]}; list "
                              f"each model once")
    recommenders = [load_recommender(folder, context) for folder in folders]
    return [LoadedModel(folder, one, _settings(one.files)) for folder, one in zip(folders, recommenders, strict=True)]


def group_by_seed(loaded: Sequence[LoadedModel]) -> dict[str, list[LoadedModel]]:
    """Return the models by name; models that differ only in their seed share a name."""
    groups: list[list[LoadedModel]] = []
    for model in loaded:
        seed_runs = next((g for g in groups if all(model.same_but_seed(other) for other in g)), None)
        groups.append([model]) if seed_runs is None else seed_runs.append(model)
    return dict(zip(_names([group[0] for group in groups]), groups, strict=True))


def build_baseline(name: str) -> Head:
    """Return an unfitted baseline with default settings."""
    simple = [n for n, settings in HEADS.items() if n != "fusion" and not settings().uses()]
    if name not in simple:
        raise ConfigError(f"baselines={name}: choose among {', '.join(simple)}{nearest(name, simple)}; to compare "
                          f"with another trained model use models=[<this>,<other>]")
    return build(ModelConfig(head=HEADS[name]()))


def baseline_label(name: str, models: Collection[str]) -> str:
    """Return the name of a baseline in results, which differs from the name of every model."""
    return f"{name} baseline" if name in models else name


def find_model(name: str, models: Mapping[str, Sequence[LoadedModel]], given: Sequence[str]) -> str:
    """Return the name in `models` for the setting `about`: a name, or a folder as given in the setting `models`."""
    if name in models:
        return name
    if name in given:
        folder = model_folder(name).resolve()
        return next(label for label, seed_runs in models.items()
                    if any(model.folder.resolve() == folder for model in seed_runs))
    raise ConfigError(f"about={name}: is none of the compared models, which are {', '.join(models)}"
                      f"{nearest(name, models)}")


def refuse_fitted_on_split(model: LoadedModel, data: PreparedData, split: str) -> None:
    """Raise ConfigError if a model was fitted on the split that it would be evaluated on."""
    manifest = model.recommender.manifest
    if data.manifest["fingerprint"] == manifest["data_fingerprint"] and split in manifest["fitted_on"]:
        raise ConfigError(f"split={split}: the model in {model.folder} was fitted on it "
                          f"(refit={manifest.get('refit')}), so its metrics would not be valid; train with "
                          f"refit={'train_valid' if split == 'test' else 'none'}, or evaluate on newer data with "
                          f"prepared=<folder>")


def refuse_fitted_on_held_out(model: LoadedModel, data: PreparedData, split: str) -> None:
    """Raise DataError if a model of other data was fitted on held-out interactions of this data.

    For a model of this data the check is skipped: pairs that are in both training and test are a fact of the data.
    """
    held_out = data.part(split)
    if data.manifest["fingerprint"] == model.recommender.manifest["data_fingerprint"]:
        return
    num_fitted = int(fitted_on(model.recommender, data, held_out).sum())
    if num_fitted:
        raise DataError(f"models: {model.folder} cannot be compared: it was fitted on {num_fitted:,} of the "
                        f"{len(held_out):,} held-out interactions of {data.path}; compare models that were fitted on "
                        f"the same split")


def fitted_on(recommender: Recommender, data: PreparedData, pairs: Interactions) -> np.ndarray:
    """Return which of these interactions of `data` a model was fitted on, bool (num_pairs,), by their ids."""
    user = recommender.users.find(data.users.ids)[pairs.user]
    item = recommender.items.find(data.items.ids)[pairs.item]
    both, is_fitted = (user >= 0) & (item >= 0), np.zeros(len(pairs), bool)
    if both.any():
        is_fitted[both] = np.asarray(presence(recommender.history)[user[both], item[both]]).ravel() > 0
    return is_fitted


def _names(loaded: Sequence[LoadedModel]) -> list[str]:
    """Return a name per model: its head, with the settings in which models with the same head differ."""
    names = []
    for model in loaded:
        same_head = [other for other in loaded if other.head == model.head]
        keys = sorted({key for other in same_head for key in other.settings.keys() | model.settings.keys()
                       if any(r.settings.get(key) != model.settings.get(key) for r in same_head)})
        label = ", ".join(f"{key.removeprefix('head.')}={model.settings.get(key)}" for key in keys)
        has_few_differences = 0 < len(keys) <= _MAX_DIFFERENCES
        names.append(model.head if len(same_head) == 1
                     else f"{model.head} {label if has_few_differences else _place(model)}")
    # If settings are equal too, the folder makes the name unique.
    return [f"{name} ({_place(model)}, {n + 1})" if names.count(name) > 1 else name
            for n, (name, model) in enumerate(zip(names, loaded, strict=True))]


def _place(model: LoadedModel) -> str:
    folder = model.recommender.files.place
    return folder.parent.name if folder.name == "model" else folder.name


def _settings(files: PinnedFolder) -> dict[str, Any]:
    """Return the settings of the run; for a model folder without a run, its model config after tuning."""
    run = RunDir(files.place.parent).file(CONFIG)
    has_run = files.place.name == "model" and run.is_file()
    file = run if has_run else files.path / "config.yaml"
    try:
        plain = read_yaml(file) if has_run else parse_yaml(files.read("config.yaml"), str(file))
        if not isinstance(plain, dict):
            raise YamlError(f"{file}: holds no settings")
    except YamlError as error:
        raise ArtifactError(f"{error}; copy the run again") from error
    except OSError as error:
        raise ArtifactError(f"{file}: not readable ({error.strerror}); copy the run again") from error
    return {key: value for key, value in _flat(plain) if key.partition(".")[0] not in _IGNORED_SETTINGS}


def _flat(mapping: Mapping[str, Any], inside: str = "") -> list[tuple[str, Any]]:
    """Return the entries of nested mappings, `{a: {b: 1}}` as `a.b`, 1; search spaces are left out."""
    entries: list[tuple[str, Any]] = []
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value and key != "search":
            entries += _flat(value, f"{inside}{key}.")
        elif key != "search":
            entries.append((f"{inside}{key}", value))
    return entries
