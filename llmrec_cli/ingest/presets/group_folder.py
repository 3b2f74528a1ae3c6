"""Groups as AGREE (Cao et al. 2018), ConsRec (Wu et al. 2023) and others publish them: white-space separated files.

    groupMember.txt                       group user,user,user
    groupRatingTrain.txt, ...Test.txt     group item [value [timestamp]]
    userRatingTrain.txt, ...Test.txt      user item [value [timestamp]]
    itemSemantic.txt (Mafengwo-S only)    name, item

A row without a value is worth 1. The hundred sampled items per test row in *Negative.txt are not read here: evaluate
takes such a file as `candidates` (`ingest.candidates`).
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.presets.files import cut, files_in, with_knowledge
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Record, Source, Sources
from llmrec_cli.settings.presets import GroupFolderSettings

_FILES = ("groupMember.txt", "groupRatingTrain.txt", "groupRatingTest.txt", "userRatingTrain.txt", "userRatingTest.txt")
_NAMES = "itemSemantic.txt"
_LEAST, _MOST = 2, 4


def group_folder(settings: GroupFolderSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files of the folder, train and test apart."""
    if split_kind != "given":
        raise ConfigError(f"split={split_kind}: {settings.kind} is published divided into train and test, which its "
                          f"results are compared by; set split=given")
    members, group_train, group_test, user_train, user_test = files_in(settings.path, _FILES,
                                                                       f"it is {settings.source}")
    names = Path(settings.path, _NAMES)
    by_group, by_user = partial(_ratings, "group_id"), partial(_ratings, "user_id")
    sources = Sources([Source(user_train, "train", read=by_user), Source(user_test, "test", read=by_user)],
                      [Source(names, read=_item_names)] if names.is_file() else [], [],
                      [Source(members, read=_members)], [],
                      [Source(group_train, "train", read=by_group), Source(group_test, "test", read=by_group)])
    return with_knowledge(sources, settings)


def _ratings(who: str, source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read a file of ratings; how many columns there are, its first line says."""
    first = next((line.split() for line in lines(source) if line.strip()), [])
    width = min(max(len(first), _LEAST), _MOST)

    def rows() -> Iterator[Record]:
        for number, found in cut(source, None, width):
            yield number, [*found, "1"] if width == _LEAST and not isinstance(found, str) else found

    return [who, "item_id", "value", "timestamp"][:max(width, _LEAST + 1)], rows()


def _members(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read groupMember.txt: a row per member, all with the number of the group's line."""
    def rows() -> Iterator[Record]:
        for number, found in cut(source, None, 2):
            users = [] if isinstance(found, str) else (found[1] or "").split(",")
            if isinstance(found, str):
                yield number, found
            elif not all(users):
                yield number, f"a member without an id in '{found[1]}'"
            else:
                yield from ((number, [found[0], user]) for user in users)

    return ["group_id", "user_id"], rows()


def _item_names(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read itemSemantic.txt, where the id is what follows the last comma, for a name may have commas."""
    def rows() -> Iterator[Record]:
        for number, line in enumerate(lines(source), start=1):
            name, comma, item = line.rpartition(",")
            if line.strip():
                yield number, [item.strip(), name.strip()] if comma and item.strip() else "no id after a comma"

    return ["item_id", "title"], rows()
