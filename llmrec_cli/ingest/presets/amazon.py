"""Amazon reviews of 2018 (Ni et al. 2019, https://nijianmo.github.io/amazon) and 2023 (Hou et al. 2024,
https://amazon-reviews-2023.github.io): one JSON object a line, reviews and products in files of their own.

Of reviews only user, item, rating and time are used: review texts were written by the users whose interest is to be
predicted. Of products only the shop's description is used: average ratings, ranks and "also bought" are computed from
the behaviour of all users, also in the test. The item of 2023 is the `parent_asin`, which products refer to.
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
from llmrec_cli.ingest.readers.sources import FORMATS, Record, Source, Sources, TextFormat, find
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
    """JSON keys: `review` in the order of _INTERACTION_COLUMNS, `product` in the order of _PRODUCT_COLUMNS."""

    review: tuple[str, str, str, str]
    product: tuple[str, str, str, str, str, str, str]


_VERSIONS = {
    "2018": Version(("reviewerID", "asin", "overall", "unixReviewTime"),
                    ("asin", "title", "brand", "category", "price", "feature", "description")),
    "2023": Version(("user_id", "parent_asin", "rating", "timestamp"),
                    ("parent_asin", "title", "store", "categories", "price", "features", "description"))}


def amazon_reviews(settings: AmazonReviewsSettings, split_kind: str, folder: Path) -> Sources:
    """Return the files of reviews and of products, named one by one or found in dataset.path."""
    refuse_given(split_kind, "the reviews are not split into train and test")
    reviews, metadata = ([Source(path, text_format=TextFormat()) for path in _files(settings, key)]
                         for key in ("reviews", "metadata"))
    version = _VERSIONS[_version(settings.version, reviews)]
    for source in metadata:
        _check_product(source, version)
    # Reviews are read by the fast JSONL reader, since there are many; only the keys of these columns are read.
    columns = dict(zip(_INTERACTION_COLUMNS, version.review, strict=True))
    sources = Sources([replace(source, columns=columns) for source in reviews],
                      [replace(source, read=partial(_products, version)) for source in metadata])
    return with_knowledge(sources, settings)


def _files(settings: AmazonReviewsSettings, key: str) -> list[Path]:
    """Return the files of `key` (reviews | metadata): the named ones, or the only one in the folder dataset.path."""
    named, folder = getattr(settings, key), Path(settings.path)
    if named is not None:
        return find(named, f"dataset.{key}", settings.path, _WHERE)
    if not folder.is_dir():
        raise ConfigError(f"dataset.path={folder}: no such folder; name the folder with the files of reviews and "
                          f"meta_*; {_WHERE}")
    paths = sorted(path for path in folder.iterdir() if Source(path).format == FORMATS[".jsonl"]
                   and path.name.startswith("meta_") == (key == "metadata"))
    if not paths:
        name = "meta_<category>" if key == "metadata" else "<category>"
        raise ConfigError(f"dataset.path={folder}: has no file of {key}, {name}.jsonl or .json, plain or .gz; {_WHERE}")
    if len(paths) > 1:
        raise ConfigError(f"dataset.path={folder}: has several files of {key}, which may hold the same rows; choose "
                          f"with {list_setting(f'dataset.{key}', [path.name for path in paths])}")
    return paths


def _version(version: str, reviews: list[Source]) -> str:
    """Return the version, 2018 or 2023, of all review files. Raises DataError for files of another version."""
    for source in reviews:
        keys = _first_keys(source)
        fitting = [name for name, version in _VERSIONS.items() if set(version.review) <= keys]
        if version == "auto" and fitting:
            version = fitting[0]
        if version not in fitting:
            wanted = "; ".join(f"{', '.join(v.review)} ({name})" for name, v in _VERSIONS.items()
                               if version in ("auto", name))
            raise DataError(f"{source.path}: the first review has the keys {', '.join(sorted(keys))}, but not {wanted}"
                            f"; name a file of reviews with dataset.reviews, all of the same dataset.version")
    return version


def _check_product(source: Source, version: Version) -> None:
    keys = _first_keys(source)
    if version.product[0] not in keys or set(version.review) <= keys:
        raise DataError(f"{source.path}: the first product has the keys {', '.join(sorted(keys))}; expected "
                        f"{', '.join(version.product)}; name the file meta_* that goes with the reviews with "
                        f"dataset.metadata")


def _first_keys(source: Source) -> set[str]:
    """Return the keys of the first object of a file. Raises DataError if there is none or it is not JSON."""
    first = next((line for line in lines(source) if line.strip()), "")
    if _PYTHON_DICT.match(first):
        raise DataError(f"{source.path}: is in the format of 2014, with a Python dictionary instead of JSON on each "
                        f"line; use the files of 2018 or 2023, or convert each line with "
                        f"json.dumps(ast.literal_eval(line)); {_WHERE}")
    for _, fields in islice(jsonl_records(source), _TRIED):
        if isinstance(fields, dict):
            return set(fields)
    raise DataError(f"{source.path}: does not begin with JSON objects, one per line; {_WHERE}")


def _products(version: Version, source: Source) -> tuple[list[str], Iterator[Record]]:
    def rows() -> Iterator[Record]:
        for number, fields in jsonl_records(source):
            yield number, fields if isinstance(fields, str) else _product(fields, version)

    return _PRODUCT_COLUMNS, rows()


def _product(fields: Fields, version: Version) -> list[str | None]:
    """Return a product in the order of _PRODUCT_COLUMNS; lists of sentences become text, prices numbers."""
    item, title, brand, categories, price, features, description = (fields.get(key) for key in version.product)
    # Some titles of 2018 are pieces of the page's JavaScript; the authors skip them too.
    clean_title = None if title and "getTime()" in title else title
    return [item, clean_title, " ".join((brand or "").split()), categories, _amount(price), _text(features),
            _text(description)]


def _amount(price: str | None) -> str | None:
    """Return '1299.50' for '$1,299.50', the lower end of a range, and None for text that is no price."""
    match = _PRICE.match((price or "").strip())
    return match[1].replace(",", "") if match else None


def _text(value: str | None) -> str | None:
    parts = json_array(value or "")
    return value if parts is None else " ".join(part.strip() for part in parts if part.strip())
