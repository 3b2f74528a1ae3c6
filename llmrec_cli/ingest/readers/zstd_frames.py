"""The frames of a .zst file (RFC 8878): whether each ends with a checksum of its content.

What unpacks them verifies the checksum, and the length where a frame states one. Without a checksum a changed byte can
unpack to other text, and nobody sees it. `zstd` itself writes checksums; most libraries do not, unless asked to.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FRAME, SKIPPED = 0xFD2FB528, 0x184D2A50
_CHECKSUM, _SINGLE = 0x04, 0x20
_DICTIONARY_BYTES, _LENGTH_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)
_RUN = 1
"""Kind of a block that is one byte, repeated."""


def has_checksums(path: Path) -> bool:
    """Return True if every frame of a file has a checksum; False as well for what is no sequence of frames."""
    with path.open("rb") as file:
        found = list(_checksums(file))
    return bool(found) and all(found)


def _checksums(file: BinaryIO) -> Iterator[bool]:
    """Yield for each frame whether it has a checksum, and False for what is no frame."""
    while start := file.read(4):
        magic = int.from_bytes(start, "little")
        if magic & ~0xF == SKIPPED:
            file.seek(int.from_bytes(file.read(4), "little"), 1)
            continue
        if magic != FRAME or not (descriptor := file.read(1)):
            yield False
            return
        flags = descriptor[0]
        single = bool(flags & _SINGLE)
        length = _LENGTH_BYTES[flags >> 6] or int(single)
        file.seek(int(not single) + _DICTIONARY_BYTES[flags & 3] + length, 1)
        last = False
        while not last:
            head = file.read(3)
            block = int.from_bytes(head, "little")
            last = len(head) < 3 or bool(block & 1)
            file.seek(1 if block >> 1 & 3 == _RUN else block >> 3, 1)
        yield bool(flags & _CHECKSUM)
        file.seek(4 if flags & _CHECKSUM else 0, 1)
