"""MIND (Wu et al. 2020, https://msnews.github.io): news, impressions and clicks.

    behaviors.tsv   impression, user, time 11/11/2019 9:05:58 AM, click history 'N1 N2', impressions 'N3-1 N4-0'
    news.tsv        item, category, subcategory, title, abstract, url, entities of the title, of the abstract

A line of behaviors.tsv becomes one row per news of the impression, with the value 1 for a click and 0 for no click, and
the line number of the impression. The click history, which all lines of a user repeat, is read only with
dataset.click_history, since it has no times.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from llmrec_cli.data import reject_reasons as reasons
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.presets.files import find_files, split_lines, with_knowledge
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import Record, Source, Sources, TextFormat
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
"""User -> time, history, file and line of the first impression; of several at the same time the one whose history sorts
first."""


def mind(settings: MindSettings, split_kind: str, folder: Path) -> Sources:
    """Return behaviours and news of the folder *_train, and of *_dev, the days after it, if present."""
    train, dev = _folders(settings)
    if split_kind == "given" and not dev:
        raise ConfigError(f"split=given: needs the folder *_dev of MIND beside *_train, and {settings.path} has none; "
                          f"set dataset.dev_path=<folder MINDsmall_dev> or choose another split")
    parts = {"train": find_files(train, _FILES, _OTHERWISE)}
    if dev:
        parts[settings.dev_split] = find_files(dev, _FILES, _OTHERWISE.replace("_train", "_dev"))
    has_split = split_kind == "given"
    behaviours = [Source(behaviour, split if has_split else "", read=_impressions)
                  for split, (behaviour, _) in parts.items()]
    news = [Source(news, names=_NEWS_COLUMNS, text_format=TextFormat("\t", quote="")) for _, news in parts.values()]
    if settings.click_history:
        # Clicks before a test impression are known at its time, so they are training data, in either file.
        first = _first_impressions(behaviours)
        having = {path for _, history, path, _ in first.values() if history}
        behaviours += [Source(source.path, "train" if has_split else "", read=partial(_histories, first))
                       for source in behaviours if source.path in having]
    return with_knowledge(Sources(behaviours, news), settings)


def _folders(settings: MindSettings) -> tuple[str, str]:
    """Return the folders *_train and *_dev, "" if there is no *_dev."""
    parent = Path(settings.path)
    if (parent / _FILES[0]).is_file() or not parent.is_dir():
        return settings.path, settings.dev_path
    paths_by_kind = {kind: sorted(str(path) for path in parent.glob(f"*{kind}") if (path / _FILES[0]).is_file())
             for kind in ("train", "dev")}
    for kind, paths in paths_by_kind.items():
        if len(paths) > 1:
            raise ConfigError(f"dataset.path={settings.path}: holds {' and '.join(paths)}; name one *_{kind} with "
                              f"dataset.{'path' if kind == 'train' else 'dev_path'}")
    return (paths_by_kind["train"] or [settings.path])[0], settings.dev_path or (paths_by_kind["dev"] or [""])[0]


def _impressions(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read behaviors.tsv. Raises DataError for the test file of the competition, which has no click labels."""
    first = next((line for line in lines(source) if line.strip()), "").rstrip("\r\n").split("\t")
    news_list = first[-1].split()
    if len(first) == _NUM_FIELDS and news_list and not any(_is_labelled(news) for news in news_list):
        raise DataError(f"{source.path}: line 1 has no click labels ('{news_list[0]}' instead of '{news_list[0]}-1' or "
                        f"'-0'): it is the test of MIND, whose clicks are not published; use *_dev")

    def rows() -> Iterator[Record]:
        for number, fields in _lines(source):
            if isinstance(fields, str):
                yield number, fields
                continue
            user, time, _, news_list = fields
            timestamp = time.isoformat()
            for news in news_list:
                item, _, label = news.rpartition("-")
                yield number, [user, item, label, timestamp]

    return COLUMNS, rows()


def _histories(first: First, source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read the click histories of the users whose first impression is in this file."""
    def rows() -> Iterator[Record]:
        for number, fields in _lines(source):
            # Bad lines are reported when the impressions are read.
            if isinstance(fields, str) or first[fields[0]][2:] != (source.path, number):
                continue
            user, time, history, _ = fields
            for place, item in enumerate(reversed(history.split()), start=1):
                yield number, [user, item, "1", (time - timedelta(seconds=place)).isoformat()]

    return COLUMNS, rows()


def _first_impressions(sources: list[Source]) -> First:
    first: dict[str, tuple[datetime, str, Path, int]] = {}
    for source in sources:
        for number, fields in _lines(source):
            if not isinstance(fields, str):
                user, time, history, _ = fields
                here = (time, history, source.path, number)
                if user not in first or here[:2] < first[user][:2]:
                    first[user] = here
    return first


def _lines(source: Source) -> Iterator[tuple[int, tuple[str, datetime, str, list[str]] | str]]:
    """Yield line number and user, time, history and news of the impression, or the reason why the line is bad."""
    for number, fields in split_lines(source, "\t", _NUM_FIELDS):
        if isinstance(fields, str):
            yield number, fields
            continue
        _, user, written, history, impressions = ((field or "").strip() for field in fields)
        news_list = impressions.split()
        unlabelled = next((news for news in news_list if not _is_labelled(news)), None)
        try:
            time = datetime.strptime(written, _TIME)
        except ValueError:
            yield number, reasons.NOT_A_MIND_TIME.format(value=written[:60], example="11/11/2019 9:05:58 AM")
            continue
        if unlabelled is not None:
            yield number, reasons.NO_LABEL.format(value=unlabelled[:60])
        else:
            yield number, (user, time, history, news_list) if news_list else reasons.NO_NEWS


def _is_labelled(news: str) -> bool:
    return len(news) > 2 and news.endswith(("-1", "-0"))
