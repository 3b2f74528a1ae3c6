"""A recommender on disk: all that scoring needs, so the folder can be copied to another machine.

    config.yaml         the recipe, with what validation chose filled in
    manifest.json       format, head, data fingerprint and cutoff, encoders, metrics, SHA-256 of every file
    model.safetensors   what the head learned
    histories.safetensors, users.parquet, items.parquet
    groups.parquet, group_members.parquet, where the data has groups
    knowledge.parquet, where it has a knowledge graph: what reasons are told from
    encoders/<hash>/    encoders that are not a named package

Only safetensors, JSON, YAML and Parquet are read: nothing in a folder can make us run anything.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
import yaml
from safetensors import SafetensorError

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.groups import KnownGroups, read_members, write_members
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.knowledge_paths import knowledge_paths
from llmrec_cli.data.manifest import check_files, regular_bytes, sha256
from llmrec_cli.data.manifest_checks import MODEL, is_integer, other_sizes, problems
from llmrec_cli.data.plain_json import parse_json
from llmrec_cli.data.prepared import PreparedData, read_entities
from llmrec_cli.data.table_checks import LATEST, Column, read_columns
from llmrec_cli.data.tensor_reader import INTEGER, TensorReader
from llmrec_cli.encoders.portable import bundle, check_encoders, resolved
from llmrec_cli.errors import ArtifactError
from llmrec_cli.heads.base import Context, Head, build
from llmrec_cli.heads.tensor_files import read_tensors, write_tensors
from llmrec_cli.run_dir import RunDir, latest, whole_folder, write_bytes, write_json
from llmrec_cli.settings.base import Builder, to_plain
from llmrec_cli.settings.groups import GROUPS
from llmrec_cli.settings.head import Fusion, Recipe
from llmrec_cli.settings.peft import TrainedPeft

FORMAT = 2
"""2: histories have values, and times where the head needs them; 1 had neither."""
FILES = {"config.yaml", "model.safetensors", "histories.safetensors", "users.parquet", "items.parquet"}
LISTED = "listed"
"""Column of items.parquet: whether the catalogue has the item, where some it has not."""
MOST_CHARACTERS, MOST_DEPTH = 2**18, 32
"""Size and nesting of config.yaml, at most."""
REMEDY = "copy the model again or train it again with `llmrec finetune`"


@dataclass
class Recommender:
    """A fitted head with the users, items and histories it knows.

    Attributes
    ----------
    groups : the groups it knows, None where its data had none
    history : CSR (num_users, num_items) of values, the interactions that the head was fitted on
    seen : CSR (num_users, num_items), training and validation interactions and what else the head was fitted on: what
        is left out of lists
    times : CSR int64 with the entries of `history`, as in `Queries`; None where the head has no need of them
    listed : bool (num_items,), the items that the catalogue has which the data was prepared with; None for all
    """

    head: Head
    users: Entities
    items: Entities
    history: sp.csr_array
    seen: sp.csr_array
    manifest: dict[str, Any]
    groups: KnownGroups | None = None
    times: sp.csr_array | None = None
    listed: np.ndarray | None = None

    @property
    def listed_N(self) -> np.ndarray:
        """The items, bool (num_items,), that the catalogue has which the data was prepared with; all without one.

        The others are in the log alone: nobody can have them any more.
        """
        return np.ones(len(self.items), bool) if self.listed is None else self.listed

    @cached_property
    def usual_value(self) -> float:
        """Value of an interaction without one: the median of the values in `history`."""
        return float(np.median(self.history.data)) if self.history.nnz else 1.0


def save_recommender(folder: Path, head: Head, data: PreparedData, fitted_on: tuple[str, ...],
                     facts: dict[str, Any]) -> None:
    """Write a recommender whole or not at all. `facts` go into the manifest."""
    seen = tuple(dict.fromkeys([*fitted_on, "train", "valid"]))
    with whole_folder(folder) as temporary:
        recipe, encoders = _portable(head.chosen(), temporary)
        write_bytes(temporary / "config.yaml", _yaml(recipe))
        state = head.state()
        write_tensors(temporary / "model.safetensors", state)
        timed = data.has_moments and head.recipe.head.uses_times()
        histories = _history_arrays("history", data.part(*fitted_on), timed) | _csr_arrays("seen", data.part(*seen))
        groups, sizes = data.groups(*fitted_on), {"users": len(data.users), "items": len(data.items)}
        if groups is not None:
            known = data.groups(*seen)
            assert known is not None
            histories |= (_history_arrays("group_history", groups.interactions, timed)
                          | _csr_arrays("group_seen", known.interactions))
            _write_entities(temporary / "groups.parquet", groups.entities, "group")
            write_members(temporary / "group_members.parquet", groups)
            facts = facts | {"synthetic_groups": groups.synthetic}
            sizes["memberships"] = groups.members.nnz
        write_tensors(temporary / "histories.safetensors", histories)
        _write_entities(temporary / "users.parquet", data.users, "user")
        _write_entities(temporary / "items.parquet", data.items, "item", data.listed)
        if data.knowledge is not None:
            knowledge_paths(data.knowledge, data.path, data.items).write(temporary)
        names = sorted(str(f.relative_to(temporary)) for f in temporary.rglob("*") if f.is_file())
        manifest = {"format": FORMAT, "head": head.recipe.head.kind, "data_fingerprint": data.manifest["fingerprint"],
                    "data_cutoff": data.manifest["data_cutoff"], "data": {"path": str(data.path),
                                                                          "name": data.manifest["name"]},
                    "texts": data.manifest.get("texts"), "values": data.manifest.get("values", ""),
                    "positives": _positives_of(data),
                    "fitted_on": list(fitted_on), "encoders": encoders, "listed": data.listed is not None,
                    "sizes": sizes,
                    "tensors": {"model.safetensors": sorted(state), "histories.safetensors": sorted(histories)},
                    **facts,
                    "files": {name: sha256(temporary / name) for name in names}}
        write_json(temporary / "manifest.json", manifest)


def _positives_of(data: PreparedData) -> dict[str, Any]:
    """Return what made an interaction a positive when the data was prepared, for interactions that come later.

    min_value and event_weights, duplicates (what became of several rows of a pair) and has_values (whether there was a
    column of values); None for what the manifest of an older llmrec does not say.
    """
    settings = data.manifest.get("inputs", {}).get("dataset", {})
    return {key: settings.get(key) for key in ("min_value", "event_weights")} | {
        "duplicates": data.manifest.get("duplicates") or settings.get("duplicates"),
        "has_values": data.manifest.get("has_values")}


def model_folder(chosen: str, setting: str = "model") -> Path:
    """Return the model folder that `model=` means: itself, that of a run, or that of the newest run."""
    path = latest("finetune", chosen, setting)
    inside = RunDir(path).model
    return inside if inside.is_dir() else path


def read_facts(folder: Path) -> dict[str, Any]:
    """Return the manifest of a model, of a format that this version reads."""
    file = folder / "manifest.json"
    manifest = parse_json(regular_bytes(folder, "manifest.json", REMEDY), file, REMEDY)
    if isinstance(manifest, dict) and is_integer(manifest.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {manifest['format']} is newer than {FORMAT}, the newest this llmrec "
                            f"reads; upgrade llmrec")
    if wrong := problems(manifest, MODEL):
        raise ArtifactError(f"{file}: is not the manifest of a model, or damaged: {'; '.join(wrong)}; {REMEDY}")
    found: dict[str, Any] = manifest
    return found


def load_recommender(folder: Path, context: Context) -> Recommender:
    """Return the recommender in a model folder, every file checked against the manifest."""
    file, manifest = folder / "manifest.json", read_facts(folder)
    if missing := sorted(FILES - manifest["files"].keys()):
        raise ArtifactError(f"{file}: says nothing of {', '.join(missing)}, so it is damaged; {REMEDY}")
    check_files(folder, manifest["files"], REMEDY)
    _refuse_others(folder, manifest["files"])
    users = read_entities(folder / "users.parquet", "user", REMEDY)
    items = read_entities(folder / "items.parquet", "item", REMEDY)
    shape, histories = (len(users), len(items)), _tensors(folder / "histories.safetensors", manifest)
    groups = _known_groups(folder, histories, shape, str(manifest.get("synthetic_groups", "")))
    sizes = {"users": len(users), "items": len(items)} | ({} if groups is None else {"memberships": groups.members.nnz})
    if wrong := other_sizes(sizes | manifest.get("sizes", {}), sizes):
        raise ArtifactError(f"{file}: {wrong}; {REMEDY}")
    history, seen = (_csr(histories, name, shape) for name in ("history", "seen"))
    times = _times(histories, "history", history)
    histories.refuse_others()
    recipe = _read_recipe(folder)
    if recipe.head.kind != manifest["head"]:
        raise ArtifactError(f"{file}: head is {manifest['head']} and in config.yaml {recipe.head.kind}, so files of "
                            f"two models are mixed; {REMEDY}")
    head = build(recipe)
    head.load(_tensors(folder / "model.safetensors", manifest, None if groups is None else len(groups.entities)),
              users, items, context)
    # Last, since what else is wrong with an exchanged encoder says more.
    check_encoders(folder, manifest, REMEDY)
    return Recommender(head, users, items, history, seen, manifest, groups, times,
                       _listed(folder / "items.parquet", len(items), manifest))


def _known_groups(folder: Path, histories: TensorReader, shape: tuple[int, int], synthetic: str) -> KnownGroups | None:
    if not (folder / "groups.parquet").is_file():
        return None
    entities = read_entities(folder / "groups.parquet", "group", REMEDY)
    size = (len(entities), shape[1])
    members = read_members(folder / "group_members.parquet", shape[0], REMEDY, entities.ids)[1]
    history = _csr(histories, "group_history", size)
    return KnownGroups(entities, members, history, _csr(histories, "group_seen", size), synthetic,
                       _times(histories, "group_history", history))


def _listed(file: Path, num_items: int, manifest: dict[str, Any]) -> np.ndarray | None:
    """Return which items the catalogue had, bool (num_items,); None for all, as models of an older llmrec have it."""
    is_there = LISTED in pq.read_schema(file).names
    if is_there != manifest.get("listed", is_there):
        raise ArtifactError(f"{file}: the column '{LISTED}' is {'there' if is_there else 'missing'}, and manifest.json "
                            f"says otherwise; {REMEDY}")
    if not is_there:
        return None
    return read_columns(file, {LISTED: Column("truth")}, REMEDY, num_items)[LISTED].to_numpy().astype(bool)


def _refuse_others(folder: Path, files: dict[str, str]) -> None:
    """Raise ArtifactError for a file that the manifest does not name: a copy onto another model leaves such."""
    present = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file() or file.is_symlink()}
    # What begins with a dot is the desktop's or the file system's, and nothing that is read.
    others = sorted(name for name in present - files.keys() - {"manifest.json"} if not Path(name).name.startswith("."))
    if others:
        raise ArtifactError(f"{folder / others[0]}: is not in manifest.json, so files of two models may be mixed; "
                            f"remove it, or {REMEDY}")


def _read_recipe(folder: Path) -> Recipe:
    file = folder / "config.yaml"
    try:
        plain = _bounded_yaml(regular_bytes(folder, "config.yaml", REMEDY).decode("utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise ArtifactError(f"{file}: not readable ({error}); {REMEDY}") from error
    builder = Builder(GROUPS)
    recipe = builder.settings(Recipe, plain)
    if builder.found or recipe is None:
        raise ArtifactError(f"{file}: {'; '.join(builder.found)}; {REMEDY}")
    return _mapped(recipe, lambda encoder: resolved(encoder, folder))


def _bounded_yaml(text: str) -> Any:
    """Return the content of YAML of bounded size and depth, without aliases, which make much of little."""
    if len(text) > MOST_CHARACTERS:
        raise ValueError(f"larger than {MOST_CHARACTERS} characters")
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH or isinstance(event, yaml.AliasEvent):
            raise ValueError(f"nested more than {MOST_DEPTH} deep, or with an alias")
    return yaml.safe_load(text)


def _portable(recipe: Recipe, folder: Path) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe with encoders as the model folder has them, and what each must hash to."""
    identities: dict[str, str] = {}

    def one(encoder: Any) -> Any:
        moved, found = bundle(encoder, folder)
        identities.update(found)
        return moved

    return _mapped(recipe, one), identities


def _mapped(recipe: Recipe, change: Any) -> Recipe:
    """Return the recipe with `change` applied to each encoder that has an effect; the others are left out."""
    head = recipe.head
    if isinstance(head, Fusion):
        members = {name: _mapped(member, change) for name, member in head.members.items()}
        return replace(recipe, head=replace(head, members=members), encoder=None)
    used = "encoder" in head.uses() and recipe.encoder is not None
    peft = recipe.peft
    if isinstance(peft, TrainedPeft):
        # The weights are in the model; where they started, and what else was written, is no part of it.
        peft = replace(peft, adapter="", merge=False)
    return replace(recipe, encoder=change(recipe.encoder) if used else None, peft=peft)


def _yaml(recipe: Recipe) -> bytes:
    return bytes(yaml.safe_dump(to_plain(recipe), allow_unicode=True, sort_keys=False), "utf-8")


def _tensors(file: Path, manifest: dict[str, Any], num_groups: int | None = None) -> TensorReader:
    """Return the tensors of a file, by the names that the manifest gives; those of an older llmrec give none."""
    try:
        tensors = read_tensors(file)
    except (OSError, SafetensorError, KeyError) as error:
        raise ArtifactError(f"{file}: not readable ({error}); {REMEDY}") from error
    named = set((manifest.get("tensors") or {}).get(file.name, tensors))
    for names, why in ((named - tensors.keys(), "missing"), (tensors.keys() - named, "not named in manifest.json")):
        if names:
            raise ArtifactError(f"{file}: {', '.join(sorted(names)[:5])}: {why}; {REMEDY}")
    return TensorReader(tensors, str(file), REMEDY, num_groups)


def _csr_arrays(name: str, interactions: Interactions) -> dict[str, np.ndarray]:
    matrix = interactions.matrix
    return {f"{name}_indptr": matrix.indptr.astype(np.int64), f"{name}_indices": matrix.indices.astype(np.int64)}


def _history_arrays(name: str, interactions: Interactions, timed: bool) -> dict[str, np.ndarray]:
    """Return what `_csr` and `_times` read: values unless all are 1, times if `timed`."""
    arrays = _csr_arrays(name, interactions)
    if (interactions.value != 1).any():
        arrays[f"{name}_values"] = interactions.value
    return arrays | ({f"{name}_times": interactions.timestamp} if timed else {})


def _csr(tensors: TensorReader, name: str, shape: tuple[int, int]) -> sp.csr_array:
    """Return the entries with their values; 1s where there are none, as in models of format 1."""
    return tensors.csr(f"{name}_", shape, optional_values=True)


def _times(tensors: TensorReader, name: str, of: sp.csr_array) -> sp.csr_array | None:
    """Return the times of the entries of a matrix."""
    if f"{name}_times" not in tensors:
        return None
    times = tensors.take(f"{name}_times", INTEGER, (of.nnz,), low=-LATEST, high=LATEST)
    return sp.csr_array((times, of.indices, of.indptr), shape=of.shape)


def _write_entities(file: Path, entities: Entities, kind: str, listed: np.ndarray | None = None) -> None:
    names = np.array(entities.attribute_names, object)
    attributes = entities.attributes
    lists = pa.ListArray.from_arrays(pa.array(attributes.indptr, pa.int32()),
                                     pa.array(list(names[attributes.indices]), pa.string()))
    columns = {f"{kind}_id": pa.array(list(entities.ids), pa.string()),
               "title": pa.array(list(entities.titles), pa.string()),
               "text": pa.array(list(entities.texts), pa.string()), "attributes": lists}
    if listed is not None:
        columns[LISTED] = pa.array(listed)
    pq.write_table(pa.table(columns), file)
