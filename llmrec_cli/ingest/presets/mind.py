"""MIND (Wu et al. 2020, https://msnews.github.io): news, who was shown them when, and who clicked.

    behaviors.tsv   impression, user, time 11/11/2019 9:05:58 AM, click history 'N1 N2', shown 'N3-1 N4-0'
    news.tsv        item, category, subcategory, title, abstract, url, entities of the title, of the abstract

A line of behaviors.tsv becomes one row per news shown, with the value 1 for a click and 0 for none, all with that
line's number. The click history, the same in all of a user's lines, is left out unless asked for: it has no times.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.presets.files import cut, files_in, with_knowledge
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Record, Source, Sources
from llmrec_cli.settings.presets import MindSettings

_FILES = ("behaviors.tsv", "news.tsv")
_OTHERWISE = ("name the unpacked folder MINDsmall_train or MINDlarge_train, from https://msnews.github.io (Microsoft "
              "Research License Terms: for research, not for commercial use)")
_NEWS_COLUMNS = ("item_id", "category", "subcategory", "title", "abstract", "url", "title_entities",
                 "abstract_entities")
COLUMNS = ["user_id", "item_id", "value", "timestamp"]
_NUM_FIELDS = 5
_TIME = "%m/%d/%Y %I:%M:%S %p"

First = Mapping[str, tuple[datetime, str, Path, int]]
"""User -> time, history, file and line of the first impression: of several at the same time that whose history sorts
first."""


def mind(settings: MindSettings, split_kind: str, folder: Path) -> Sources:
    """Return behaviours and news of the folder, and of the one with the days after if there is one."""
    train, dev = _folders(settings)
    if split_kind == "given" and not dev:
        raise ConfigError(f"split=given: needs MIND's *_dev beside its *_train, and {settings.path} has none; set "
                          f"dataset.dev_path=<folder MINDsmall_dev> or choose another split")
    parts = {"train": files_in(train, _FILES, _OTHERWISE)}
    if dev:
        parts[settings.dev_split] = files_in(dev, _FILES, _OTHERWISE.replace("_train", "_dev"))
    given = split_kind == "given"
    behaviours = [Source(behaviour, split if given else "", read=_impressions)
                  for split, (behaviour, _) in parts.items()]
    news = [Source(news, names=_NEWS_COLUMNS, delimiter="\t", quote="") for _, news in parts.values()]
    if settings.click_history:
        # What was clicked before a test impression is known by then: it is trained on, whichever file it is in.
        first = _first_impressions(behaviours)
        having = {path for _, history, path, _ in first.values() if history}
        behaviours += [Source(source.path, "train" if given else "", read=partial(_histories, first))
                       for source in behaviours if source.path in having]
    return with_knowledge(Sources(behaviours, news), settings)


def _folders(settings: MindSettings) -> tuple[str, str]:
    """Return the folders of *_train and *_dev, "" when there is no *_dev."""
    parent = Path(settings.path)
    if (parent / _FILES[0]).is_file() or not parent.is_dir():
        return settings.path, settings.dev_path
    found = {kind: sorted(str(path) for path in parent.glob(f"*{kind}") if (path / _FILES[0]).is_file())
             for kind in ("train", "dev")}
    for kind, paths in found.items():
        if len(paths) > 1:
            raise ConfigError(f"dataset.path={settings.path}: holds {' and '.join(paths)}; name one *_{kind} with "
                              f"dataset.{'path' if kind == 'train' else 'dev_path'}")
    return (found["train"] or [settings.path])[0], settings.dev_path or (found["dev"] or [""])[0]


def _impressions(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read behaviors.tsv. Raises DataError for the file of the competition's test, which has no clicks in it."""
    first = next((line for line in lines(source) if line.strip()), "").rstrip("\r\n").split("\t")
    shown = first[-1].split()
    if len(first) == _NUM_FIELDS and shown and not any(_is_labelled(news) for news in shown):
        raise DataError(f"{source.path}: line 1 does not say which news were clicked ('{shown[0]}', not "
                        f"'{shown[0]}-1' or '-0'): it is MIND's test, whose clicks are not published; take *_dev")

    def rows() -> Iterator[Record]:
        for number, found in _lines(source):
            if isinstance(found, str):
                yield number, found
                continue
            user, time, _, shown = found
            timestamp = time.isoformat()
            for news in shown:
                item, _, label = news.rpartition("-")
                yield number, [user, item, label, timestamp]

    return COLUMNS, rows()


def _histories(first: First, source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read the click histories of the users whose first impression is in this file."""
    def rows() -> Iterator[Record]:
        for number, found in _lines(source):
            # A line that is bad is told of when its impressions are read.
            if isinstance(found, str) or first[found[0]][2:] != (source.path, number):
                continue
            user, time, history, _ = found
            for place, item in enumerate(reversed(history.split()), start=1):
                yield number, [user, item, "1", (time - timedelta(seconds=place)).isoformat()]

    return COLUMNS, rows()


def _first_impressions(sources: list[Source]) -> First:
    first: dict[str, tuple[datetime, str, Path, int]] = {}
    for source in sources:
        for number, found in _lines(source):
            if not isinstance(found, str):
                user, time, history, _ = found
                here = (time, history, source.path, number)
                if user not in first or here[:2] < first[user][:2]:
                    first[user] = here
    return first


def _lines(source: Source) -> Iterator[tuple[int, tuple[str, datetime, str, list[str]] | str]]:
    """Yield line number and user, time, history and what was shown, or why the line is bad."""
    for number, found in cut(source, "\t", _NUM_FIELDS):
        if isinstance(found, str):
            yield number, found
            continue
        _, user, written, history, impressions = ((field or "").strip() for field in found)
        shown = impressions.split()
        unlabelled = next((news for news in shown if not _is_labelled(news)), None)
        try:
            time = datetime.strptime(written, _TIME)
        except ValueError:
            yield number, f"'{written[:60]}' is not a time like 11/11/2019 9:05:58 AM"
            continue
        if unlabelled is not None:
            yield number, f"'{unlabelled[:60]}' does not end in -1 (clicked) or -0"
        else:
            yield number, (user, time, history, shown) if shown else "no news were shown"


def _is_labelled(news: str) -> bool:
    return len(news) > 2 and news.endswith(("-1", "-0"))
