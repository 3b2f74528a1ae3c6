"""What is in a model's folder, and whether it may be trusted.

Nothing is executed and nothing is unpickled: safetensors and JSON only, and no code from the folder.
"""

import hashlib
from pathlib import Path
from typing import Any

from llmrec_cli.data.manifest import sha256
from llmrec_cli.data.manifest_checks import FILES, integer, is_integer, problems
from llmrec_cli.data.plain_json import parse_json
from llmrec_cli.errors import ArtifactError
from llmrec_cli.run_dir import write_json

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".gguf", ".onnx")
HASHES, FORMAT = "llmrec_hashes.json", 1
AGAIN = "copy the whole model folder again"
DECIDING = ("*.safetensors", "*.safetensors.index.json", "config.json", "tokenizer*", "vocab.*", "merges.txt",
            "*.model", "special_tokens_map.json", "modules.json", "[0-9]*_*/config.json", "[0-9]*_*/*.safetensors")
"""The files that decide on a vector."""


def check(folder: Path) -> None:
    """Raise ArtifactError unless `folder` holds a whole model in safetensors that needs no code of its own."""
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder}: no config.json, so this is not the folder of a Hugging Face model"
                            f"{_other_format(folder)}")
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        if (folder / name).is_file():
            content = read_mapping(folder / name)
            if name != "tokenizer.json":
                refuse_code(folder / name, content)
    _check_hashes(folder)
    _check_weights(folder)


def _check_weights(folder: Path) -> None:
    """Raise ArtifactError unless the weights are one file, or exactly the shards that an index names."""
    present = {file.name for file in folder.glob("model*.safetensors")}
    if not (folder / INDEX).is_file():
        if present == {WHOLE}:
            return
        if present:
            raise ArtifactError(f"{folder}: {', '.join(sorted(present - {WHOLE}))} "
                                f"{'beside ' + WHOLE if WHOLE in present else 'without ' + INDEX}, so it is not known "
                                f"which weights are meant; {AGAIN}")
        if any(folder.glob("adapter_*.safetensors")):
            raise ArtifactError(f"{folder}: holds an adapter and not the model it adapts; name that model's folder")
        raise ArtifactError(f"{folder}: no {WHOLE}, so there are no weights to load{_other_format(folder)}")
    content = read_json(folder / INDEX)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(name, str) and name == Path(name).name
                                              for name in named.values()):
        raise ArtifactError(f"{folder / INDEX}: does not say in which file of the folder each weight is; {AGAIN}")
    shards = set(named.values())
    if missing := sorted(name for name in shards if not (folder / name).is_file()):
        raise ArtifactError(f"{folder}: {', '.join(missing)} missing, which {INDEX} names; {AGAIN}")
    if extra := sorted(present - shards):
        raise ArtifactError(f"{folder}: {', '.join(extra)} is not named in {INDEX}, so files of two models are mixed; "
                            f"{AGAIN}")


def _other_format(folder: Path) -> str:
    """Return what to add to an error about a folder whose weights are in a format that is not read."""
    others = sorted(file.name for file in folder.iterdir() if file.suffix in OTHER_WEIGHTS)
    if not others:
        return ""
    return (f"; of {folder / others[0]}: only safetensors are read, since other formats can run code or hold rounded "
            f"weights. Where you trust it, convert it with transformers: AutoModel.from_pretrained('{folder}')"
            f".save_pretrained('<new folder>')")


def write_hashes(folder: Path) -> None:
    """Write the SHA-256 of each file of an encoder that we saved, so that damage is seen when it is loaded."""
    files = {file.relative_to(folder).as_posix(): sha256(file) for file in sorted(folder.rglob("*")) if file.is_file()}
    write_json(folder / HASHES, {"format": FORMAT, "files": files})


def _check_hashes(folder: Path) -> None:
    """Raise ArtifactError unless the files are those that `write_hashes` found, where it has been."""
    file = folder / HASHES
    if not file.is_file():
        return
    content = read_json(file)
    if isinstance(content, dict) and is_integer(content.get("format"), FORMAT + 1):
        raise ArtifactError(f"{file}: format {content['format']} is newer than {FORMAT}, the newest this llmrec reads; "
                            f"upgrade llmrec")
    if wrong := problems(content, {"format": integer(1), "files": FILES}):
        raise ArtifactError(f"{file}: is not what llmrec writes there: {'; '.join(wrong)}; {AGAIN}")
    files = content["files"]
    for name, expected in files.items():
        if not (folder / name).is_file() or sha256(folder / name) != expected:
            raise ArtifactError(f"{folder / name}: missing, damaged or edited, since its SHA-256 is not the one in "
                                f"{HASHES}; {AGAIN}")


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


def read_json(file: Path) -> Any:
    """Return the content of a JSON file."""
    try:
        return parse_json(file.read_bytes(), file, "copy the model again")
    except OSError as error:
        raise ArtifactError(f"{file}: not readable ({error}); copy the model again") from error


def read_mapping(file: Path) -> dict[str, Any]:
    """Return the settings in a JSON file by name."""
    content = read_json(file)
    if not isinstance(content, dict):
        raise ArtifactError(f"{file}: holds no settings by name, so it is of something else; {AGAIN}")
    return content


def identity(folder: Path) -> str:
    """Return the SHA-256 over the names and contents of the files that decide on a vector."""
    names = {file.relative_to(folder) for pattern in DECIDING for file in folder.glob(pattern)}
    return identity_of({name: sha256(folder / name) for name in names})


def identity_of(hashes: dict[Path, str]) -> str:
    """Return the `identity` of a folder, by the SHA-256 of its files; those that decide on no vector are left out."""
    deciding = [name for name in hashes if any(name.match(pattern) and len(name.parts) == pattern.count("/") + 1
                                               for pattern in DECIDING)]
    lines = [f"{name.as_posix()} {hashes[name]}" for name in sorted(deciding)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
