"""Checked access to the files of an encoder's folder.

Only safetensors and JSON are read; nothing is unpickled and no code from the folder is run.
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
COPY_AGAIN = "copy the whole model folder again"
_DECIDING = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer*", "vocab.*", "merges.txt",
             "*.model", "special_tokens_map.json", "modules.json", "[0-9]*_*/config.json", "[0-9]*_*/*.safetensors")
"""Patterns of the files that determine vectors."""


def open_encoder_folder(folder: Path, remedy: str = COPY_AGAIN) -> PinnedFolder:
    """Return an encoder's folder with all files open and consistent with each other.

    Raises ArtifactError unless it has a complete model in safetensors that needs no custom code; `remedy` is the next
    step in its messages.
    """
    def opened() -> PinnedFolder:
        # Links to files are followed, since the hub's cache consists of links.
        files = PinnedFolder(folder, remedy, links=True)
        _check(files)
        return files

    return retried(opened)


def _check(files: PinnedFolder) -> None:
    names = [name for name in files.names(levels=1) if _is_read(name)]
    opened = {name: files.status(name) for name in names if name in files}
    if "config.json" not in opened:
        raise ArtifactError(f"{files.path}: no config.json, so this is not a Hugging Face model folder"
                            f"{_other_format(files.path)}")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        if name in opened:
            content = read_mapping(files, name)
            if name != "tokenizer.json":
                refuse_code(files.path / name, content)
    _check_hashes(files)
    _check_weights(files, opened)
    files.pin({name: files.hashes.get(name) or files.sha256(name) for name in opened}, manifest="")
    # There may be no list of hashes. The files belong together if every name still means the file that was opened and
    # no file was changed.
    for name, then in opened.items():
        now = files.status(name)
        if files.current_inode(name) != (then.st_dev, then.st_ino) or now.st_mtime_ns != then.st_mtime_ns:
            raise ArtifactError(f"{files.path / name}: changed while it was read; {files.remedy}")


def _is_read(name: str) -> bool:
    """Return True if an encoder may read a file: in its folder or a module's folder, and no other weight format."""
    place = PurePosixPath(name)
    return (not place.name.startswith(".") and place.suffix not in _OTHER_WEIGHTS
            and (len(place.parts) == 1 or (len(place.parts) == 2 and fnmatch(place.parts[0], "[0-9]*_*"))))


def _check_weights(files: PinnedFolder, names: Collection[str]) -> None:
    """Raise ArtifactError unless the weights are a single file, or exactly the shards of an index."""
    folder, present = files.path, {name for name in names if fnmatch(name, "model*.safetensors")}
    if _INDEX not in names:
        if present == {WHOLE}:
            return
        if present:
            raise ArtifactError(f"{folder}: {', '.join(sorted(present - {WHOLE}))} "
                                f"{'beside ' + WHOLE if WHOLE in present else 'without ' + _INDEX}, so it is not clear "
                                f"which weights to load; {files.remedy}")
        if any(fnmatch(name, "adapter_*.safetensors") for name in names):
            raise ArtifactError(f"{folder}: has an adapter but not the model it adapts; name that model's folder")
        raise ArtifactError(f"{folder}: no {WHOLE}, so there are no weights to load{_other_format(folder)}")
    shards = set(shards_of(files))
    if missing := sorted(shards - {*names}):
        raise ArtifactError(f"{folder}: {', '.join(missing)} missing, but listed in {_INDEX}; {files.remedy}")
    if extra := sorted(present - shards):
        raise ArtifactError(f"{folder}: {', '.join(extra)} not listed in {_INDEX}, so files of two models are mixed; "
                            f"{files.remedy}")


def shards_of(files: PinnedFolder) -> list[str]:
    """Return the names of the weight files."""
    if _INDEX not in files:
        return [WHOLE]
    content = read_json(files, _INDEX)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) and name == Path(name).name
                                              for name in named.values()):
        raise ArtifactError(f"{files.path / _INDEX}: does not map weights to files of the folder; {files.remedy}")
    return sorted(set(named.values()))


def _other_format(folder: Path) -> str:
    """Return a hint for an error message if the folder has weights in an unsupported format, else ""."""
    others = sorted(file.name for file in folder.iterdir() if file.suffix in _OTHER_WEIGHTS)
    if not others:
        return ""
    return (f"; {folder / others[0]}: only safetensors are read, since other formats can run code or have rounded "
            f"weights. If you trust the file, convert it with transformers: "
            f"AutoModel.from_pretrained('{folder}').save_pretrained('<new folder>')")


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of each file of a saved encoder, so that loading detects damage."""
    files = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    write_json(folder / _HASHES, {"format": FORMAT, "files": files})


def _check_hashes(files: PinnedFolder) -> None:
    """Raise ArtifactError if a file differs from the hashes of `write_hashes`; without hashes, do nothing."""
    if _HASHES not in files:
        return
    content, file = read_json(files, _HASHES), files.path / _HASHES
    if isinstance(content, dict) and is_integer(content.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {content['format']} is newer than {FORMAT}, the newest this llmrec reads; "
                            f"upgrade llmrec")
    if wrong := problems(content, {"format": integer(1), "files": FILES}):
        raise ArtifactError(f"{file}: is no valid list of hashes: {'; '.join(wrong)}; {files.remedy}")
    for name, expected in content["files"].items():
        if name not in files or files.sha256(name) != expected:
            raise ArtifactError(f"{files.path / name}: missing, damaged or edited: its SHA-256 differs from "
                                f"{_HASHES}; {files.remedy}")


def refuse_code(file: Path, content: Any) -> None:
    """Raise ArtifactError if a model's configuration, at any depth, refers to custom code."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key in ("auto_map", "custom_pipelines", "trust_remote_code") and value:
                raise ArtifactError(f"{file}: '{key}' needs code from the model's folder, which is never run; use a "
                                    f"model with an architecture that transformers supports")
            refuse_code(file, value)
    if isinstance(content, list):
        for value in content:
            refuse_code(file, value)


def read_json(files: PinnedFolder, name: str) -> Any:
    """Return the content of a JSON file."""
    return parse_json(files.read(name), files.path / name, files.remedy)


def read_mapping(files: PinnedFolder, name: str) -> dict[str, Any]:
    """Return the mapping in a JSON file."""
    content = read_json(files, name)
    if not isinstance(content, dict):
        raise ArtifactError(f"{files.path / name}: is no JSON object with settings; {files.remedy}")
    return content


def _matches(name: str, pattern: str) -> bool:
    """Return True if a name matches a pattern, folder by folder."""
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatch, parts, patterns))


def identity(files: PinnedFolder) -> str:
    """Return the SHA-256 over the names and contents of the files that determine vectors."""
    return identity_of(files.hashes)


def identity_of(hashes: Mapping[str, str]) -> str:
    """Return the `identity` of a folder from the SHA-256 of its files; irrelevant files are ignored."""
    names = sorted((name for name in hashes if any(_matches(name, pattern) for pattern in _DECIDING)),
                   key=lambda name: name.split("/"))
    lines = [f"{name} {hashes[name]}" for name in names]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
