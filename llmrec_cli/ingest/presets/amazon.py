"""Amazon reviews of 2018 (Ni et al. 2019, https://nijianmo.github.io/amazon) and 2023 (Hou et al. 2024,
https://amazon-reviews-2023.github.io): one JSON object a line, reviews and products in files of their own.

From reviews only who rated what, how and when is taken: their titles and texts were written by those whose interest is
to be predicted. From products only what the shop says of them: average ratings, ranks and "also bought" are made of
everybody's behaviour, that of the test too. The item of 2023 is the `parent_asin`, by which its products go.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.presets.files import refuse_given, with_knowledge
from llmrec_cli.ingest.readers.jsonl import Fields, jsonl_records
from llmrec_cli.ingest.readers.lines import lines
from llmrec_cli.ingest.readers.sources import FORMATS, Record, Source, Sources, find
from llmrec_cli.ingest.texts.templates import json_array
from llmrec_cli.settings.presets import AmazonReviewsSettings
from llmrec_cli.settings.typed_lists import list_setting

_WHERE = ("they are at https://nijianmo.github.io/amazon (2018) and https://amazon-reviews-2023.github.io (2023), for "
          "research, with citation")
_INTERACTION_COLUMNS = ["user_id", "item_id", "value", "timestamp"]
_PRODUCT_COLUMNS = ["item_id", "title", "brand", "categories", "price", "features", "description"]
_PRICE = re.compile(r"^(?:from )?\$? ?([0-9][0-9,]*(?:\.[0-9]+)?)(?: ?- ?\$? ?[0-9][0-9,.]*)?$")
_TRIED = 100
_PYTHON_DICT = re.compile(r"^\{u?'")


@dataclass(frozen=True)
class Version:
    """Names of the keys: `review` in the order of _INTERACTION_COLUMNS, `product` of _PRODUCT_COLUMNS."""

    review: tuple[str, str, str, str]
    product: tuple[str, str, str, str, str, str, str]


_VERSIONS = {
    "2018": Version(("reviewerID", "asin", "overall", "unixReviewTime"),
                    ("asin", "title", "brand", "category", "price", "feature", "description")),
    "2023": Version(("user_id", "parent_asin", "rating", "timestamp"),
                    ("parent_asin", "title", "store", "categories", "price", "features", "description"))}


def amazon_reviews(settings: AmazonReviewsSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files of reviews and of products, named one by one or found in dataset.path."""
    refuse_given(split_kind, "reviews come undivided")
    reviews, metadata = ([Source(path) for path in _files(settings, key)] for key in ("reviews", "metadata"))
    version = _VERSIONS[_version(settings.version, reviews)]
    for source in metadata:
        _check_product(source, version)
    # Reviews are read as any JSONL is, for there are many; of their keys, staging takes those of these columns only.
    columns = dict(zip(_INTERACTION_COLUMNS, version.review, strict=True))
    sources = Sources([replace(source, columns=columns) for source in reviews],
                      [replace(source, read=partial(_products, version)) for source in metadata])
    return with_knowledge(sources, settings)


def _files(settings: AmazonReviewsSettings, key: str) -> list[Path]:
    """Return the files of `key` (reviews | metadata): those named, or the one there is in the folder dataset.path."""
    named, folder = getattr(settings, key), Path(settings.path)
    if named is not None:
        return find(named, f"dataset.{key}", settings.path, _WHERE)
    if not folder.is_dir():
        raise ConfigError(f"dataset.path={folder}: no such folder; name the one with the files of reviews and meta_*; "
                          f"{_WHERE}")
    found = sorted(path for path in folder.iterdir() if Source(path).format == FORMATS[".jsonl"]
                   and path.name.startswith("meta_") == (key == "metadata"))
    if not found:
        name = "meta_<category>" if key == "metadata" else "<category>"
        raise ConfigError(f"dataset.path={folder}: has no file of {key}, {name}.jsonl or .json, plain or .gz; {_WHERE}")
    if len(found) > 1:
        raise ConfigError(f"dataset.path={folder}: has several files of {key}, which may hold the same rows; say which "
                          f"with {list_setting(f'dataset.{key}', [path.name for path in found])}")
    return found


def _version(chosen: str, reviews: list[Source]) -> str:
    """Return 2018 or 2023: the one that all files of reviews are in. Raises DataError for any other."""
    for source in reviews:
        keys = _first_keys(source)
        fitting = [name for name, version in _VERSIONS.items() if set(version.review) <= keys]
        if chosen == "auto" and fitting:
            chosen = fitting[0]
        if chosen not in fitting:
            wanted = "; ".join(f"{', '.join(v.review)} ({name})" for name, v in _VERSIONS.items()
                               if chosen in ("auto", name))
            raise DataError(f"{source.path}: the first review has the keys {', '.join(sorted(keys))}, but not {wanted}"
                            f"; name a file of reviews with dataset.reviews, all of the same dataset.version")
    return chosen


def _check_product(source: Source, version: Version) -> None:
    keys = _first_keys(source)
    if version.product[0] not in keys or set(version.review) <= keys:
        raise DataError(f"{source.path}: the first product has the keys {', '.join(sorted(keys))}; expected "
                        f"{', '.join(version.product)}; name the file meta_* that goes with the reviews with "
                        f"dataset.metadata")


def _first_keys(source: Source) -> set[str]:
    """Return the keys of the first object of a file. Raises DataError when there is none, or none in JSON."""
    first = next((line for line in lines(source) if line.strip()), "")
    if _PYTHON_DICT.match(first):
        raise DataError(f"{source.path}: is in the format of 2014, a Python dictionary a line and no JSON; take "
                        f"the files of 2018 or 2023, or rewrite each line with "
                        f"json.dumps(ast.literal_eval(line)); {_WHERE}")
    for _, fields in islice(jsonl_records(source), _TRIED):
        if isinstance(fields, dict):
            return set(fields)
    raise DataError(f"{source.path}: does not begin with JSON objects, one a line; {_WHERE}")


def _products(version: Version, source: Source) -> tuple[list[str], Iterator[Record]]:
    def rows() -> Iterator[Record]:
        for number, fields in jsonl_records(source):
            yield number, fields if isinstance(fields, str) else _product(fields, version)

    return _PRODUCT_COLUMNS, rows()


def _product(fields: Fields, version: Version) -> list[str | None]:
    """Return a product in the order of _PRODUCT_COLUMNS: lists of sentences become text, a price its number."""
    item, title, brand, categories, price, features, description = (fields.get(key) for key in version.product)
    # Some products of 2018 have a piece of the page's program where the title should be; the authors skip them too.
    told = None if title and "getTime()" in title else title
    return [item, told, " ".join((brand or "").split()), categories, _amount(price), _text(features),
            _text(description)]


def _amount(price: str | None) -> str | None:
    """Return '1299.50' for '$1,299.50', the lower end of a range, and None for what is no price."""
    found = _PRICE.match((price or "").strip())
    return found[1].replace(",", "") if found else None


def _text(value: str | None) -> str | None:
    parts = json_array(value or "")
    return value if parts is None else " ".join(part.strip() for part in parts if part.strip())
