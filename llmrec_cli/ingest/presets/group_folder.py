"""Group data in the format of AGREE (Cao et al. 2018), ConsRec (Wu et al. 2023) and others: white-space separated
files.

    groupMember.txt                       group user,user,user
    groupRatingTrain.txt, ...Test.txt     group item [value [timestamp]]
    userRatingTrain.txt, ...Test.txt      user item [value [timestamp]]
    itemSemantic.txt (Mafengwo-S only)    name, item

A row without a value has the value 1. The files *Negative.txt, with a hundred sampled items per test row, are not read
here; `evaluate` reads them as `candidates` (`requests.candidates`).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.presets.files import find_files, split_lines, with_knowledge
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Record, Source, Sources
from llmrec_cli.settings.presets import GroupFolderSettings

_FILES = ("groupMember.txt", "groupRatingTrain.txt", "groupRatingTest.txt", "userRatingTrain.txt", "userRatingTest.txt")
_NAMES = "itemSemantic.txt"
_LEAST, _MOST = 2, 4


def group_folder(settings: GroupFolderSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files of the folder with their split."""
    if split_kind != "given":
        raise ConfigError(f"split={split_kind}: {settings.kind} is published with a split into train and test, which "
                          f"published results use; set split=given")
    members, group_train, group_test, user_train, user_test = find_files(settings.path, _FILES,
                                                                       f"it is {settings.source}")
    names = Path(settings.path, _NAMES)
    by_group, by_user = partial(_ratings, "group_id"), partial(_ratings, "user_id")
    sources = Sources([Source(user_train, "train", read=by_user), Source(user_test, "test", read=by_user)],
                      [Source(names, read=_item_names)] if names.is_file() else [], [],
                      [Source(members, read=_members)], [],
                      [Source(group_train, "train", read=by_group), Source(group_test, "test", read=by_group)])
    return with_knowledge(sources, settings)


def _ratings(who: str, source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read a file of ratings; its first line gives the number of columns."""
    first = next((line.split() for line in lines(source) if line.strip()), [])
    width = min(max(len(first), _LEAST), _MOST)

    def rows() -> Iterator[Record]:
        for number, fields in split_lines(source, None, width):
            yield number, [*fields, "1"] if width == _LEAST and not isinstance(fields, str) else fields

    return [who, "item_id", "value", "timestamp"][:max(width, _LEAST + 1)], rows()


def _members(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read groupMember.txt as one row per member, with the line number of the group."""
    def rows() -> Iterator[Record]:
        for number, fields in split_lines(source, None, 2):
            users = [] if isinstance(fields, str) else (fields[1] or "").split(",")
            if isinstance(fields, str):
                yield number, fields
            elif not all(users):
                yield number, reasons.NO_MEMBER.format(members=fields[1])
            else:
                yield from ((number, [fields[0], user]) for user in users)

    return ["group_id", "user_id"], rows()


def _item_names(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read itemSemantic.txt, where the id follows the last comma, since names may contain commas."""
    def rows() -> Iterator[Record]:
        for number, line in enumerate(lines(source), start=1):
            name, comma, item = line.rpartition(",")
            if line.strip():
                yield number, [item.strip(), name.strip()] if comma and item.strip() else reasons.NO_ID_AFTER_COMMA

    return ["item_id", "title"], rows()
