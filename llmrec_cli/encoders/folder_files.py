"""Files of an encoder's folder, checked before they are used.

Nothing is executed and nothing is unpickled: safetensors and JSON only, and no code from the folder.
"""

import hashlib
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from llmrec_cli.atomic_files import write_json
from llmrec_cli.data.manifest import FILES, integer, is_integer, parse_json, problems, sha256
from llmrec_cli.errors import ArtifactError
from llmrec_cli.pinned import PinnedFolder, retried

WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf", ".onnx")
_HASHES, FORMAT = "llmrec_hashes.json", 1
_AGAIN = "copy the whole model folder again"
_DECIDING = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer*", "vocab.*", "merges.txt",
             "*.model", "special_tokens_map.json", "modules.json", "[0-9]*_*/config.json", "[0-9]*_*/*.safetensors")
"""The files that decide on a vector."""


def open_encoder_folder(folder: Path) -> PinnedFolder:
    """Return the folder of an encoder with all its files open, of one version.

    Raises ArtifactError unless it holds a whole model in safetensors that needs no code of its own.
    """
    def opened() -> PinnedFolder:
        # Links to files are followed: the hub's cache is made of them.
        files = PinnedFolder(folder, _AGAIN, links=True)
        _check(files)
        return files

    return retried(opened)


def _check(files: PinnedFolder) -> None:
    names = [name for name in files.names(levels=1) if _is_read(name)]
    opened = {name: files.status(name) for name in names if name in files}
    if "config.json" not in opened:
        raise ArtifactError(f"{files.path}: no config.json, so this is not the folder of a Hugging Face model"
                            f"{_other_format(files.path)}")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        if name in opened:
            content = read_mapping(files, name)
            if name != "tokenizer.json":
                refuse_code(files.path / name, content)
    _check_hashes(files)
    _check_weights(files, opened)
    files.pin({name: files.hashes.get(name) or files.sha256(name) for name in opened}, manifest="")
    # There may be no list of hashes. That every name still means the file that was opened, and that none was written
    # to, shows that all are of one version.
    for name, then in opened.items():
        now = files.status(name)
        if files.current_inode(name) != (then.st_dev, then.st_ino) or now.st_mtime_ns != then.st_mtime_ns:
            raise ArtifactError(f"{files.path / name}: changed while it was read; {_AGAIN}")


def _is_read(name: str) -> bool:
    """Return whether an encoder may read a file: in its folder or its modules' folders, but no other weights.
    """
    place = PurePosixPath(name)
    return (not place.name.startswith(".") and place.suffix not in _OTHER_WEIGHTS
            and (len(place.parts) == 1 or (len(place.parts) == 2 and fnmatch(place.parts[0], "[0-9]*_*"))))


def _check_weights(files: PinnedFolder, names: Collection[str]) -> None:
    """Raise ArtifactError unless the weights are one file, or exactly the shards that an index names."""
    folder, present = files.path, {name for name in names if fnmatch(name, "model*.safetensors")}
    if _INDEX not in names:
        if present == {WHOLE}:
            return
        if present:
            raise ArtifactError(f"{folder}: {', '.join(sorted(present - {WHOLE}))} "
                                f"{'beside ' + WHOLE if WHOLE in present else 'without ' + _INDEX}, so it is not known "
                                f"which weights are meant; {_AGAIN}")
        if any(fnmatch(name, "adapter_*.safetensors") for name in names):
            raise ArtifactError(f"{folder}: holds an adapter and not the model it adapts; name that model's folder")
        raise ArtifactError(f"{folder}: no {WHOLE}, so there are no weights to load{_other_format(folder)}")
    shards = set(shards_of(files))
    if missing := sorted(shards - {*names}):
        raise ArtifactError(f"{folder}: {', '.join(missing)} missing, which {_INDEX} names; {_AGAIN}")
    if extra := sorted(present - shards):
        raise ArtifactError(f"{folder}: {', '.join(extra)} is not named in {_INDEX}, so files of two models are mixed; "
                            f"{_AGAIN}")


def shards_of(files: PinnedFolder) -> list[str]:
    """Return the names of the files that hold the weights."""
    if _INDEX not in files:
        return [WHOLE]
    content = read_json(files, _INDEX)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) and name == Path(name).name
                                              for name in named.values()):
        raise ArtifactError(f"{files.path / _INDEX}: does not say in which file of the folder each weight is; {_AGAIN}")
    return sorted(set(named.values()))


def _other_format(folder: Path) -> str:
    """Return what to add to an error about a folder whose weights are in a format that is not read."""
    others = sorted(file.name for file in folder.iterdir() if file.suffix in _OTHER_WEIGHTS)
    if not others:
        return ""
    return (f"; of {folder / others[0]}: only safetensors are read, since other formats can run code or hold rounded "
            f"weights. Where you trust it, convert it with transformers: AutoModel.from_pretrained('{folder}')"
            f".save_pretrained('<new folder>')")


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of each file of an encoder that we saved, so that damage is seen when it is loaded."""
    files = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    write_json(folder / _HASHES, {"format": FORMAT, "files": files})


def _check_hashes(files: PinnedFolder) -> None:
    """Raise ArtifactError unless the files are those that `write_hashes` found, where it has been."""
    if _HASHES not in files:
        return
    content, file = read_json(files, _HASHES), files.path / _HASHES
    if isinstance(content, dict) and is_integer(content.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {content['format']} is newer than {FORMAT}, the newest this llmrec reads; "
                            f"upgrade llmrec")
    if wrong := problems(content, {"format": integer(1), "files": FILES}):
        raise ArtifactError(f"{file}: is not what llmrec writes there: {'; '.join(wrong)}; {_AGAIN}")
    for name, expected in content["files"].items():
        if name not in files or files.sha256(name) != expected:
            raise ArtifactError(f"{files.path / name}: missing, damaged or edited, since its SHA-256 is not the one in "
                                f"{_HASHES}; {_AGAIN}")


def refuse_code(file: Path, content: Any) -> None:
    """Raise ArtifactError when a model's configuration, at any depth, names code to run."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("auto_map", "custom_pipelines", "trust_remote_code") and value:
                raise ArtifactError(f"{file}: '{key}' asks for code from the model's folder, which is never run; use a "
                                    f"model of an architecture that transformers itself has")
            refuse_code(file, value)
    if isinstance(content, list):
        for value in content:
            refuse_code(file, value)


def read_json(files: PinnedFolder, name: str) -> Any:
    """Return the content of a JSON file."""
    return parse_json(files.read(name), files.path / name, files.remedy)


def read_mapping(files: PinnedFolder, name: str) -> dict[str, Any]:
    """Return the settings in a JSON file by name."""
    content = read_json(files, name)
    if not isinstance(content, dict):
        raise ArtifactError(f"{files.path / name}: holds no settings by name, so it is of something else; {_AGAIN}")
    return content


def _matches(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern, folder by folder."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch, parts, patterns))


def identity(files: PinnedFolder) -> str:
    """Return the SHA-256 over the names and contents of the files that decide on a vector."""
    return identity_of(files.hashes)


def identity_of(hashes: Mapping[str, str]) -> str:
    """Return the `identity` of a folder, by the SHA-256 of its files; those that decide on no vector are left out."""
    names = sorted((name for name in hashes if any(_matches(name, pattern) for pattern in _DECIDING)),
                   key=lambda name: name.split("/"))
    lines = [f"{name} {hashes[name]}" for name in names]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
