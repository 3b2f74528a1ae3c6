"""Damage that keeps its hashes: artifacts that somebody else could write, changed where they mean something.

Nothing here changes a number into another that it could be: such a model is another model, and nobody can tell.
"""

import copy
import io
import json
import random
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file

from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.queries import known_groups, known_users
from llmrec_cli.heads.artifact import Recommender, load_recommender
from llmrec_cli.heads.shared.tensor_files import write_tensors
from tests.faults.common import CONTEXT

Arrays = dict[str, np.ndarray]
LARGE = (2**31, 2**62, np.iinfo(np.int64).max, np.iinfo(np.int64).min, -1, -(2**31))
WRONG: tuple[Any, ...] = (None, -1, True, 1.5, 10**30, "", "x", "../x", "/etc/passwd", "a\0b", [], [[]], {}, {"x": {}},
                          float("nan"))


def answer(model: Recommender) -> bytes:
    """Return the bits of all that lists are made of: scores of users, groups and a text, histories, ids."""
    users = known_users(np.arange(len(model.users)), model.users.ids, model.history, model.seen, times=model.times)
    parts = [model.head.score(users)]
    if model.head.supports_text_queries:
        parts.append(model.head.score_text(np.array(["a robot on the moon", ""], object)))
    if model.groups is not None:
        groups = model.groups
        parts.append(model.head.score(known_groups(np.arange(len(groups.entities)), groups.entities, groups.members,
                                                   groups.history, groups.seen, users)))
    arrays = [torch.cat([part.detach().reshape(-1).cpu() for part in parts]).numpy(), model.seen.indices,
              model.seen.indptr, model.listed_N]
    names = [*model.users.ids, *model.items.ids, *model.items.titles]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays) + "\n".join(names).encode()


def load(folder: Path) -> bytes:
    """Return the answer of the model in a folder; torch's random numbers are those of the first time."""
    torch.manual_seed(5)
    return answer(load_recommender(folder, CONTEXT))


def rehash(folder: Path) -> None:
    """Make the manifest's hashes those of the files, as whoever wrote them would."""
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text("utf-8"))
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path != file)
    file.write_text(json.dumps(manifest | {"files": {name: sha256(folder / name) for name in names}}), "utf-8")


@contextmanager
def kept(folder: Path):
    """Put all files of a folder back at the end."""
    contents = {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
    try:
        yield
    finally:
        for path in folder.rglob("*"):
            if path not in contents and not path.is_dir():
                path.unlink()
        for path, content in contents.items():
            if path.is_dir():
                path.rmdir()
            path.write_bytes(content)


def crafted_tensors(arrays: Arrays, rng: random.Random) -> tuple[Arrays, str]:
    """Return the tensors with one thing wrong about one of them, and what it is."""
    name = rng.choice(sorted(arrays))
    array, others = arrays[name], {key: value for key, value in arrays.items() if key != name}
    kinds: dict[str, Callable[[], Arrays]] = {
        "missing": lambda: others, "unknown": lambda: arrays | {f"{name}x": array},
        "renamed": lambda: others | {f"x/{name}": array},
        "dtype": lambda: arrays | {name: _cast(array, rng)}, "empty": lambda: arrays | {name: array.reshape(-1)[:0]},
        "axis": lambda: arrays | {name: array[None]}, "double": lambda: arrays | {name: np.concatenate(
            [array.reshape(-1), array.reshape(-1)])},
        "longer": lambda: arrays | {name: np.concatenate([array, array[:1]]) if array.ndim else array[None]},
        "shorter": lambda: arrays | {name: array[:-1] if array.ndim else array[None]},
        # A square matrix that is turned round is other numbers of the same shape: another model.
        "turned": lambda: arrays | {name: np.ascontiguousarray(array.T) if len(set(array.shape)) > 1 else array[None]},
        "number": lambda: arrays | {name: _beyond(name, array, rng)}}
    if name.endswith("indptr"):
        kinds["order"] = lambda: arrays | {name: _unordered(array, rng)}
    if name.endswith("indices"):
        kinds["twice"] = lambda: arrays | {name: _twice(array, others[name[:-7] + "indptr"])}
    kind = rng.choice(sorted(kinds))
    return kinds[kind](), f"{name}: {kind}"


def _cast(array: np.ndarray, rng: random.Random) -> np.ndarray:
    kinds = [kind for kind in ("float64", "float32", "float16", "int64", "int32", "uint8", "bool")
             if kind != array.dtype.name]
    with np.errstate(all="ignore"):
        return array.astype(rng.choice(kinds))


def _beyond(name: str, array: np.ndarray, rng: random.Random) -> np.ndarray:
    """Return the array with a number that it cannot have; the same one where it is empty or any will do."""
    changed, place = array.copy().reshape(-1), rng.randrange(array.size) if array.size else 0
    if not array.size:
        return array
    if array.dtype.kind == "f":
        changed[place] = rng.choice([np.nan, np.inf, -np.inf])
    elif array.dtype.kind == "b":
        changed.view(np.uint8)[place] = rng.choice([2, 255])
    elif array.dtype.name == "int64" and not name.endswith("_times"):
        # -1 is a user in no cluster; counts may be large.
        usual = [value for value in LARGE if not (name.endswith("cluster") and value == -1)
                 and not ("counts." in name and value > 0) and not ("lengths" in name and value > 0)]
        changed[place] = rng.choice(usual)
    elif array.dtype.name == "uint8" and not name.endswith("names"):
        changed[place] = rng.choice([2, 255])
    return changed.reshape(array.shape)


def _unordered(array: np.ndarray, rng: random.Random) -> np.ndarray:
    changed = array.copy()
    kind = rng.randrange(3)
    if kind == 0:
        changed = np.ascontiguousarray(changed[::-1])
    elif kind == 1:
        changed[-1] += 1
    else:
        changed[0] = 1
    return changed


def _twice(indices: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    changed, row = indices.copy(), np.flatnonzero(np.diff(indptr) > 1)
    if len(row):
        changed[indptr[row[0]] + 1] = changed[indptr[row[0]]]
    return changed


def crafted_table(table: pa.Table, rng: random.Random) -> tuple[pa.Table, str]:
    """Return a table with one thing wrong about one of its columns, and what it is."""
    name = rng.choice(table.column_names)
    place, values = table.column_names.index(name), table[name].to_pylist()
    row = rng.randrange(len(values)) if values else 0
    number = pa.types.is_integer(table[name].type)
    of_another_type = str if pa.types.is_floating(table[name].type) else float

    def swapped(column: Any) -> pa.Table:
        return table.set_column(place, name, column)

    def with_cell(value: Any) -> pa.Table:
        cells = [*values[:row], value, *values[row + 1:]]
        return swapped(pa.array(cells, pa.list_(pa.string()) if isinstance(value, list) else None))

    kinds: dict[str, Callable[[], pa.Table]] = {
        "missing": lambda: table.drop_columns([name]),
        "type": lambda: swapped(pa.array([of_another_type(n) for n in range(len(values))])),
        "lists": lambda: swapped(pa.array([[1]] * len(values))), "null": lambda: with_cell(None) if values else table,
        "renamed": lambda: table.rename_columns([f"{key}x" if key == name else key for key in table.column_names]),
        "named twice": lambda: table.append_column(name, table[name])}
    if values and number:
        kinds["number"] = lambda: with_cell(rng.choice([v for v in LARGE if v < 0 or v > 2**53]))
    if values and name.endswith("_id"):
        kinds["twice"] = lambda: with_cell(values[(row + 1) % len(values)])
    if values and pa.types.is_list(table[name].type):
        kinds["null in a list"] = lambda: with_cell([None])
    kinds |= {"fewer": lambda: table.slice(0, len(table) - 1),
              "more": lambda: pa.concat_tables([table, table.slice(0, 1)])}
    kind = rng.choice(sorted(kinds))
    return kinds[kind](), f"{name}: {kind}"


def crafted_values(content: Any, rng: random.Random, skipped: tuple[str, ...] = ()) -> tuple[Any, str]:
    """Return nested settings with a wrong value somewhere, or a key less or more, and where."""
    changed = copy.deepcopy(content)
    inside, path = changed, []
    while True:
        keys = [key for key in (inside if isinstance(inside, dict) else range(len(inside))) if key not in skipped]
        if not keys:
            return changed, "nothing"
        key = rng.choice(keys)
        path.append(str(key))
        if isinstance(inside[key], (dict, list)) and inside[key] and rng.random() < 0.7:
            inside = inside[key]
            continue
        kind = rng.randrange(10)
        if kind == 0 and isinstance(inside, dict):
            del inside[key]
        elif kind == 1 and isinstance(inside, dict):
            inside[f"{key}x"] = inside.pop(key)
        else:
            inside[key] = rng.choice(WRONG)
        return changed, f"{'.'.join(path)}: {inside[key] if kind > 1 else 'gone'!r}"


def write_table(file: Path, table: pa.Table) -> None:
    """Write a table as it is, whatever its columns are called."""
    sink = io.BytesIO()
    pq.write_table(table, sink)
    file.write_bytes(sink.getvalue())


def craft_tensors(file: Path, rng: random.Random) -> str:
    """Write a file of tensors anew with something wrong in it; "" where nothing changed."""
    arrays, what = crafted_tensors(load_file(file), rng)
    write_tensors(file, arrays)
    return f"{file.name}: {what}"


def craft_table(file: Path, rng: random.Random) -> str:
    """Write a table anew with something wrong in it."""
    table, what = crafted_table(pq.read_table(file), rng)
    write_table(file, table)
    return f"{file.name}: {what}"


