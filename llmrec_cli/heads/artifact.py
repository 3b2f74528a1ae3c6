"""A recommender on disk: all that scoring needs, so the folder can be copied to another machine.

    config.yaml         the model config, with the settings that validation chose
    manifest.json       format, head, data fingerprint and cutoff, encoders, metrics, SHA-256 of every file
    model.safetensors   the learned state of the head
    histories.safetensors, users.parquet, items.parquet
    groups.parquet, group_members.parquet, where the data has groups
    knowledge.parquet, where it has a knowledge graph: source of the reasons in lists
    encoders/<hash>/    encoders that are not a named package

Only safetensors, JSON, YAML and Parquet are read: nothing in a folder can make us run anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from safetensors import SafetensorError

from llmrec_cli.atomic_files import whole_folder, write_bytes, write_json
from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.groups import KnownGroups, read_members, write_members
from llmrec_cli.data.interactions import Interactions, presence
from llmrec_cli.data.knowledge_paths import knowledge_paths
from llmrec_cli.data.manifest import MODEL, is_integer, least_value, other_sizes, parse_json, problems, sha256
from llmrec_cli.data.prepared import SPLITS, PreparedData, read_entities
from llmrec_cli.data.tables import LATEST, Column, column_names, read_columns
from llmrec_cli.data.tensors import INTEGER, TensorReader
from llmrec_cli.encoders.export import bundle, check_encoders, identities, resolved
from llmrec_cli.errors import ArtifactError, ConfigError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.shared.tensor_files import read_tensors, write_tensors
from llmrec_cli.pace import still_working
from llmrec_cli.pinned import PinnedFolder, retried
from llmrec_cli.plain_yaml import YamlError, dump_yaml, parse_yaml
from llmrec_cli.plugins import packages_of, require_loaded
from llmrec_cli.run_dir import RunDir, latest, model_in
from llmrec_cli.settings.base import Builder, implementation_of, to_plain
from llmrec_cli.settings.groups import CONFIG_GROUPS
from llmrec_cli.settings.head import HEADS, ModelConfig

_FORMAT = 2
"""2: histories have values, and times where the head needs them; 1 had neither."""
FILES = {"config.yaml", "model.safetensors", "histories.safetensors", "users.parquet", "items.parquet"}
_LISTED = "listed"
"""Boolean column of items.parquet: True if the item is in the catalogue; written only if some items are not."""
REMEDY = "copy the model again or train it again with `llmrec finetune`"


@dataclass
class Recommender:
    """A fitted head with the users, items and histories it knows.

    Attributes
    ----------
    groups : groups in the training data; None without groups
    history : CSR (num_users, num_items) of values, the interactions that the head was fitted on
    seen : CSR (num_users, num_items), training, validation and other fitted interactions, and
        returned items; left out of lists
    times : CSR int64 with the entries of `history`, as in `Queries`; None if the head uses no times
    listed : bool (num_items,), True for items in the prepared catalogue; None if all are
    files : the model's folder, open, so that later reads get the same version
    """

    head: Head
    users: Catalogue
    items: Catalogue
    history: sp.csr_array
    seen: sp.csr_array
    manifest: dict[str, Any]
    files: PinnedFolder
    groups: KnownGroups | None = None
    times: sp.csr_array | None = None
    listed: np.ndarray | None = None

    @property
    def listed_N(self) -> np.ndarray:
        """Mask of the items in the prepared catalogue, bool (num_items,); all True without a catalogue.

        The other items occur only in the interactions and are no longer on offer.
        """
        return np.ones(len(self.items), bool) if self.listed is None else self.listed

    @cached_property
    def usual_value(self) -> float:
        """Value of an interaction that comes without a value: the median of the values in `history`."""
        return float(np.median(self.history.data)) if self.history.nnz else 1.0


def encoders_of(config: ModelConfig) -> dict[str, str]:
    """Return the identity of each encoder that a model config uses, by its place in a model folder."""
    by_place: dict[str, str] = {}

    def collect(encoder: Any) -> Any:
        by_place.update(identities(encoder))
        return encoder

    _mapped(config, collect)
    return by_place


def save_recommender(folder: Path, head: Head, data: PreparedData, fitted_on: tuple[str, ...],
                     facts: dict[str, Any], started_on: Mapping[str, str] | None = None) -> None:
    """Write a recommender atomically. `facts` go into the manifest.

    `started_on`: encoders (`encoders_of`) at the start of training. Raises ArtifactError if one of them has been
    replaced since, because the saved weights were trained on top of the original.
    """
    seen = tuple(dict.fromkeys([*fitted_on, "train", "valid"]))
    with whole_folder(folder) as temporary:
        config, encoders = _portable(head.tuned_config(), temporary)
        if started_on is not None and (others := sorted(encoders.items() - started_on.items())):
            raise ArtifactError(f"{folder}: not saved: the encoder {others[0][0]} was replaced during training; put "
                                f"the original encoder back and continue with resume=, or train again")
        write_bytes(temporary / "config.yaml", dump_yaml(to_plain(config)).encode())
        state = head.state()
        write_tensors(temporary / "model.safetensors", state)
        timed = data.has_moments and head.config.head.uses_times()
        histories = _history_arrays("history", data.part(*fitted_on), timed) | _csr_arrays("seen", _seen(data, seen))
        groups, sizes = data.groups(*fitted_on), {"users": len(data.users), "items": len(data.items)}
        if groups is not None:
            seen_groups = data.groups(*seen)
            assert seen_groups is not None
            histories |= (_history_arrays("group_history", groups.interactions, timed)
                          | _csr_arrays("group_seen", seen_groups.interactions.matrix))
            _write_entities(temporary / "groups.parquet", groups.entities, "group")
            write_members(temporary / "group_members.parquet", groups)
            facts = facts | {"synthetic_groups": groups.synthetic}
            sizes["memberships"] = groups.members.nnz
        write_tensors(temporary / "histories.safetensors", histories)
        _write_entities(temporary / "users.parquet", data.users, "user")
        _write_entities(temporary / "items.parquet", data.items, "item", data.listed)
        if data.knowledge is not None:
            knowledge_paths(data.knowledge, data.files, data.items).write(temporary)
        names = sorted(str(f.relative_to(temporary)) for f in temporary.rglob("*") if f.is_file())
        manifest = {"format": _FORMAT, "head": head.config.head.kind, "data_fingerprint": data.manifest["fingerprint"],
                    "data_cutoff": data.manifest["data_cutoff"], "data": {"path": str(data.path),
                                                                          "name": data.manifest["name"]},
                    "texts": data.manifest.get("texts"), "values": data.manifest.get("values", ""),
                    "positives": _positives_of(data), "file_rules": data.manifest.get("file_rules") or {},
                    "fitted_on": list(fitted_on), "encoders": encoders, "listed": data.listed is not None,
                    "sizes": sizes,
                    "tensors": {"model.safetensors": sorted(state), "histories.safetensors": sorted(histories)},
                    **({"plugins": packages} if (packages := packages_of(config)) else {}),
                    **facts,
                    "files": {name: sha256(temporary / name) for name in names}}
        write_json(temporary / "manifest.json", manifest)


def _positives_of(data: PreparedData) -> dict[str, Any]:
    """Return the preparation settings that define a positive interaction, to apply them to later interactions.

    min_value, event_weights, duplicates (how several rows of a pair were merged) and has_values (True if there was a
    value column). None for each that the manifest of an older llmrec lacks.
    """
    settings = data.manifest.get("inputs", {}).get("dataset", {})
    return {key: settings.get(key) for key in ("min_value", "event_weights")} | {
        "duplicates": data.manifest.get("duplicates") or settings.get("duplicates"),
        "has_values": data.manifest.get("has_values")}


def model_folder(reference: str, setting: str = "model") -> Path:
    """Return the model folder that `model=` names: a model folder, a run's folder, or the newest run."""
    path = latest("finetune", reference, setting)
    if (inside := model_in(path)) != path:
        return inside
    if (path / "interactions.parquet").is_file():
        raise ConfigError(f"{setting}={reference}: is prepared data, not a model; give it with prepared={reference}, "
                          f"and set {setting}=<finetune run>, or leave it out for runs/finetune/latest")
    if RunDir(path).encoder.is_dir():
        raise ConfigError(f"{setting}={reference}: is a run of `llmrec pretrain`, which has an encoder and no model; "
                          f"train one with `llmrec finetune encoder=pretrained encoder.path={reference}`")
    return path


def read_facts(folder: Path) -> dict[str, Any]:
    """Return a model's manifest; raise ArtifactError if this version cannot read its format."""
    return retried(lambda: _manifest(PinnedFolder(folder, REMEDY)))


def import_head(folder: Path) -> None:
    """Import a model's head and its libraries, so that later measurements of memory and time do not include them."""
    kind = read_facts(folder).get("head")
    if kind in HEADS:
        implementation_of(HEADS[kind])


def _manifest(files: PinnedFolder) -> dict[str, Any]:
    file = files.path / "manifest.json"
    manifest = parse_json(files.read("manifest.json"), file, REMEDY)
    if isinstance(manifest, dict) and is_integer(manifest.get("format"), _FORMAT + 1):
        raise ArtifactError(f"{file}: format {manifest['format']} is newer than {_FORMAT}, the newest this llmrec "
                            f"reads; upgrade llmrec")
    if wrong := problems(manifest, MODEL):
        raise ArtifactError(f"{file}: is not the manifest of a model, or damaged: {'; '.join(wrong)}; {REMEDY}")
    checked: dict[str, Any] = manifest
    return checked


@still_working("loading the model")
def load_recommender(folder: Path, context: Context) -> Recommender:
    """Return the recommender in a model folder. Each file is checked against the manifest, so versions cannot mix."""
    return retried(lambda: _load(PinnedFolder(folder, REMEDY), context))


def _load(files: PinnedFolder, context: Context) -> Recommender:
    file, manifest = files.path / "manifest.json", _manifest(files)
    if missing := sorted(FILES - manifest["files"].keys()):
        raise ArtifactError(f"{file}: damaged: does not list {', '.join(missing)}; {REMEDY}")
    files.pin(manifest["files"])
    _refuse_others(files)
    users, items = read_entities(files, "users.parquet", "user"), read_entities(files, "items.parquet", "item")
    shape, histories = (len(users), len(items)), _tensors(files, "histories.safetensors", manifest)
    groups = _known_groups(files, histories, shape, str(manifest.get("synthetic_groups", "")))
    sizes = {"users": len(users), "items": len(items)} | ({} if groups is None else {"memberships": groups.members.nnz})
    if wrong := other_sizes(sizes | manifest.get("sizes", {}), sizes):
        raise ArtifactError(f"{file}: {wrong}; {REMEDY}")
    state = _tensors(files, "model.safetensors", manifest, None if groups is None else len(groups.entities))
    files.check_rest()
    history, seen = (_csr(histories, name, shape) for name in ("history", "seen"))
    _check_values(histories, history, manifest.get("positives"))
    times = _times(histories, "history", history)
    histories.refuse_others()
    config = _read_config(files, manifest.get("plugins", ()))
    if config.head.kind != manifest["head"]:
        raise ArtifactError(f"{file}: head is {manifest['head']} and in config.yaml {config.head.kind}, so files of "
                            f"two models are mixed; {REMEDY}")
    head = build(config)
    head.load(state, users, items, context)
    # Last, because the other checks explain an exchanged encoder better.
    check_encoders(files.path, manifest, REMEDY)
    return Recommender(head, users, items, history, seen, manifest, files, groups, times,
                       _listed(files, len(items), manifest))


def _known_groups(files: PinnedFolder, histories: TensorReader, shape: tuple[int, int],
                  synthetic: str) -> KnownGroups | None:
    if "groups.parquet" not in files:
        return None
    entities = read_entities(files, "groups.parquet", "group")
    size = (len(entities), shape[1])
    members = read_members(files, "group_members.parquet", shape[0], entities.ids)[1]
    history = _csr(histories, "group_history", size)
    return KnownGroups(entities, members, history, _csr(histories, "group_seen", size), synthetic,
                       _times(histories, "group_history", history))


def _listed(files: PinnedFolder, num_items: int, manifest: dict[str, Any]) -> np.ndarray | None:
    """Return the mask of the items in the catalogue, bool (num_items,); None for all, as in models of older llmrec."""
    name = "items.parquet"
    has_column = _LISTED in column_names(files, name)
    if has_column != manifest.get("listed", has_column):
        raise ArtifactError(f"{files.path / name}: the column '{_LISTED}' is {'present' if has_column else 'missing'}, "
                            f"but manifest.json says otherwise; {REMEDY}")
    if not has_column:
        return None
    return read_columns(files, name, {_LISTED: Column("truth")}, num_items)[_LISTED].to_numpy().astype(bool)


def _refuse_others(files: PinnedFolder) -> None:
    """Raise ArtifactError for a file that the manifest does not name, as when one model was copied over another."""
    # Dot files belong to the desktop or the file system and are never read.
    others = sorted(name for name in files.names() if name not in files and not Path(name).name.startswith("."))
    if others:
        raise ArtifactError(f"{files.path / others[0]}: is not in manifest.json, so files of two models may be mixed; "
                            f"remove it, or {REMEDY}")


def _read_config(files: PinnedFolder, packages: Sequence[str]) -> ModelConfig:
    """Return the config of a saved model; `packages` are the plugins that its options may come from."""
    file = files.path / "config.yaml"
    try:
        plain = parse_yaml(files.read("config.yaml"), str(file))
    except YamlError as error:
        raise ArtifactError(f"{error}; {REMEDY}") from error
    builder = Builder(CONFIG_GROUPS)
    config = builder.settings(ModelConfig, plain)
    if builder.problems or config is None:
        require_loaded(packages, file, builder.problems)
        raise ArtifactError(f"{file}: {'; '.join(builder.problems)}; use the version of llmrec that made the model, or "
                            f"{REMEDY}")
    # Links are resolved now: an encoder is opened when first needed, and by then a link may point to another model.
    return _mapped(config, lambda encoder: resolved(encoder, files.place))


def _portable(config: ModelConfig, folder: Path) -> tuple[ModelConfig, dict[str, str]]:
    """Return the model config with its encoders copied into the model folder, and the expected hash of each."""
    identities: dict[str, str] = {}

    def export(encoder: Any) -> Any:
        bundled, hashes = bundle(encoder, folder)
        identities.update(hashes)
        return bundled

    return _mapped(config, export), identities


def _mapped(config: ModelConfig, change: Any) -> ModelConfig:
    """Return the model config with `change` applied to each encoder in use and without the unused encoders."""
    def change_part(part: ModelConfig) -> ModelConfig:
        is_used = "encoder" in part.head.uses() and part.encoder is not None
        return replace(part, encoder=change(part.encoder) if is_used else None,
                       peft=None if part.peft is None else part.peft.as_fitted())

    mapped = config.mapped(change_part)
    return replace(mapped, encoder=None) if config.head.combines else mapped


def _tensors(files: PinnedFolder, name: str, manifest: dict[str, Any], num_groups: int | None = None) -> TensorReader:
    """Return the tensors of a file and check their names against the manifest, where it lists them."""
    file = files.path / name
    try:
        tensors = read_tensors(files, name)
    except SafetensorError as error:
        raise ArtifactError(f"{file}: not readable ({error}); {REMEDY}") from error
    expected = set((manifest.get("tensors") or {}).get(name, tensors))
    for names, why in ((expected - tensors.keys(), "missing"),
                       (tensors.keys() - expected, "not named in manifest.json")):
        if names:
            raise ArtifactError(f"{file}: {', '.join(sorted(names)[:5])}: {why}; {REMEDY}")
    return TensorReader(tensors, str(file), REMEDY, num_groups)


def _seen(data: PreparedData, splits: Sequence[str]) -> sp.csr_array:
    """Return the items to leave out of lists, CSR of 1s: those of the splits, and all that their users returned."""
    seen, returned = data.part(*splits).matrix, data.returned(*SPLITS)
    return seen if returned is None else presence(sp.csr_array(seen + returned.matrix))


def _csr_arrays(name: str, matrix: sp.csr_array) -> dict[str, np.ndarray]:
    return {f"{name}_indptr": matrix.indptr.astype(np.int64), f"{name}_indices": matrix.indices.astype(np.int64)}


def _history_arrays(name: str, interactions: Interactions, timed: bool) -> dict[str, np.ndarray]:
    """Return the arrays that `_csr` and `_times` read: values unless all are 1, times if `timed`."""
    arrays = _csr_arrays(name, interactions.matrix)
    if (interactions.value != 1).any():
        arrays[f"{name}_values"] = interactions.value
    return arrays | ({f"{name}_times": interactions.timestamp} if timed else {})


def _csr(tensors: TensorReader, name: str, shape: tuple[int, int]) -> sp.csr_array:
    """Return the entries with their values; all 1 if the file has none, as in models of format 1."""
    return tensors.csr(f"{name}_", shape, optional_values=True)


def _check_values(histories: TensorReader, history: sp.csr_array, positives: Mapping[str, Any] | None) -> None:
    """Raise ArtifactError for a value below the smallest positive value in the manifest; nothing without one."""
    if positives is None or "history_values" not in histories or not history.nnz:
        return
    least = float(history.data.min())
    if least < least_value(positives.get("min_value")):
        raise histories.error("history_values", f"has {least:g}, below the smallest positive value in manifest.json")


def _times(tensors: TensorReader, name: str, of: sp.csr_array) -> sp.csr_array | None:
    """Return the times of the entries of a matrix."""
    if f"{name}_times" not in tensors:
        return None
    times = tensors.take(f"{name}_times", INTEGER, (of.nnz,), low=-LATEST, high=LATEST)
    return sp.csr_array((times, of.indices, of.indptr), shape=of.shape)


def _write_entities(file: Path, entities: Catalogue, kind: str, listed: np.ndarray | None = None) -> None:
    names = np.array(entities.attribute_names, object)
    attributes = entities.attributes
    lists = pa.ListArray.from_arrays(pa.array(attributes.indptr, pa.int32()),
                                     pa.array(list(names[attributes.indices]), pa.string()))
    columns = {f"{kind}_id": pa.array(list(entities.ids), pa.string()),
               "title": pa.array(list(entities.titles), pa.string()),
               "text": pa.array(list(entities.texts), pa.string()), "attributes": lists}
    if listed is not None:
        columns[_LISTED] = pa.array(listed)
    pq.write_table(pa.table(columns), file)
