"""Amazon reviews, written as the McAuley Lab publishes them in 2018 and 2023 (and, to be refused, in 2014)."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.presets import AmazonReviewsSettings
from llmrec_cli.settings.split import GivenSettings
from tests.ingest.preparing import Prepared, prepare_with, write

pytestmark = pytest.mark.slow

OLD = [{"overall": 5.0, "vote": "2", "verified": True, "reviewTime": "05 31, 2016", "reviewerID": "A1", "asin": "0001",
        "style": {"Size:": " Large"}, "reviewerName": "Zoë", "reviewText": "Loved the café", "summary": "Five stars",
        "unixReviewTime": 1464652800},
       {"overall": 2.0, "verified": False, "reviewerID": "A2", "asin": "B00X", "summary": "No", "unixReviewTime":
        1464739200}]
OLD_META = [{"category": ["Office Products", "Pens &amp; Refills"], "tech1": "",
             "description": ["A <b>pen</b>.", "", "Blue."], "title": "Fine pen",
             "also_buy": ["B00X"], "brand": "Café\n  & Co", "feature": ["Smooth"],
             "rank": "1,2 in Office", "price": "$1,299.50", "asin": "0001"},
            {"category": [], "title": "var aPageStart = (new Date()).getTime();", "brand": "", "asin": "B00X",
             "price": ".a-box-inner{background-color:#fff}"},
            {"category": ["Toys"], "title": "Nobody's", "asin": "B00Y", "price": "$4.99 - $25.00"}]
NEW = [{"rating": 4.0, "title": "So good", "text": "would buy again", "images": [], "asin": "B01V",
        "parent_asin": "B01", "user_id": "AG3", "timestamp": 1588687728923, "helpful_vote": 0},
       {"rating": 1.0, "title": "Bad", "text": "no", "images": [], "asin": "B02V", "parent_asin": "B02",
        "user_id": "AG3", "timestamp": 1588687729000, "helpful_vote": 3}]
NEW_META = [{"main_category": "All Beauty", "title": "Howard Wax", "average_rating": 4.8, "rating_number": 10,
             "features": ["Protects", "Smells nice"], "description": [], "price": 12.99, "images": [], "videos": [],
             "store": "Howard", "categories": ["Home", "Wax"], "details": {"Brand": "Howard"}, "parent_asin": "B01",
             "bought_together": None},
            {"main_category": None, "title": "Yes to", "average_rating": 4.1, "rating_number": 2, "features": [],
             "description": ["A mask"], "price": None, "store": None, "categories": [], "parent_asin": "B02"}]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def output(prepared: Prepared) -> set[tuple[str, str, float, int]]:
    return {(row["user_id"], row["item_id"], row["value"], row["timestamp"]) for row in prepared.rows("interactions")}


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in rows}


def test_the_format_of_2018_is_found_in_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "amazon", gzip.compress(jsonl(OLD).encode()), "Office_5.json.gz").parent
    write(folder, gzip.compress(jsonl(OLD_META).replace("\n", "\r\n").encode()), "meta_Office.json.gz")
    prepared = prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder)))
    assert output(prepared) == {("A1", "0001", 5, 1464652800000), ("A2", "B00X", 2, 1464739200000)}
    items = by_id(prepared.rows("items"))
    assert (items["0001"]["title"], items["0001"]["brand"]) == ("Fine pen", "Café & Co")
    assert items["0001"]["price"] == "1299.50"
    assert [items[name]["price"] for name in ("B00X", "B00Y")] == [None, "4.99"]
    assert {"brand=Café & Co", "categories=Office Products"} <= set(items["0001"]["attributes"])
    assert items["B00X"]["text"] == ""


def test_the_format_of_2023_takes_the_parent_product_and_milliseconds(tmp_path: Path) -> None:
    reviews = write(tmp_path, jsonl(NEW), "Beauty.jsonl")
    metadata = write(tmp_path, jsonl(NEW_META), "meta_Beauty.jsonl")
    prepared = prepare_with(tmp_path, AmazonReviewsSettings(reviews=str(reviews), metadata=str(metadata)))
    assert output(prepared) == {("AG3", "B01", 4, 1588687728923), ("AG3", "B02", 1, 1588687729000)}
    items = by_id(prepared.rows("items"))
    assert items["B01"]["text"] == "Howard Wax. Howard. Home, Wax. Protects Smells nice"
    assert items["B02"]["text"] == "Yes to. A mask"
    assert items["B01"]["price"] == "12.99"


@pytest.mark.parametrize(("reviews", "metadata"), [(OLD, OLD_META), (NEW, NEW_META)])
def test_texts_and_numbers_derived_from_reviews_are_not_used(tmp_path: Path, reviews: list[dict[str, Any]],
                                                             metadata: list[dict[str, Any]]) -> None:
    folder = write(tmp_path / "amazon", jsonl(reviews), "X.jsonl").parent
    write(folder, jsonl(metadata), "meta_X.jsonl")
    prepared = prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder)))
    written = json.dumps([prepared.rows(name) for name in ("items", "users", "interactions")])
    for word in ("Loved", "Five stars", "So good", "would buy", "4.8", "also_buy", "1,2 in Office", "average_rating"):
        assert word not in written


def test_bad_lines_and_missing_ids_are_listed(tmp_path: Path) -> None:
    missing = {key: value for key, value in NEW[0].items() if key != "parent_asin"}
    reviews = write(tmp_path, jsonl(NEW) + "{broken\n" + jsonl([missing]), "X.jsonl")
    metadata = write(tmp_path, jsonl(NEW_META) + jsonl([{"title": "x"}]), "meta_X.jsonl")
    prepared = prepare_with(tmp_path,
                            AmazonReviewsSettings(reviews=str(reviews), metadata=str(metadata), max_reject_share=0.5))
    assert {(Path(row["file"]).name, row["line"], row["column"]) for row in prepared.rows("rejects")} == {
        ("X.jsonl", 3, ""), ("X.jsonl", 4, "item_id"), ("meta_X.jsonl", 3, "item_id")}


def test_the_python_dictionaries_of_2014_are_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "amazon", jsonl(OLD), "X.json").parent
    write(folder, "{'asin': '0001', 'title': 'Fine pen', 'categories': [['Office']]}\n", "meta_X.json")
    with pytest.raises(DataError, match=r"meta_X\.json: is in the format of 2014, with a Python dictionary"):
        prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder)))


def test_files_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    paths = {name: str(write(tmp_path, jsonl(rows), f"{name}.jsonl")) for name, rows in
             (("old", OLD), ("meta_old", OLD_META), ("new", NEW), ("meta_new", NEW_META), ("other", [{"a": 1}]))}
    for settings, message in (
            ({"reviews": paths["new"], "metadata": paths["meta_old"]}, r"meta_old\.jsonl: the first product has"),
            ({"reviews": [paths["old"], paths["new"]], "metadata": paths["meta_old"]}, r"new\.jsonl: .*2018"),
            ({"reviews": paths["new"], "metadata": paths["meta_new"], "version": "2018"}, r"not reviewerID.*2018"),
            ({"reviews": paths["old"], "metadata": paths["old"]}, r"old\.jsonl: the first product"),
            ({"reviews": paths["other"], "metadata": paths["meta_old"]}, r"keys a, but not reviewerID.*; user_id")):
        with pytest.raises(DataError, match=message):
            prepare_with(tmp_path, AmazonReviewsSettings(**settings))


def test_what_is_missing_or_not_unique_says_what_to_do(tmp_path: Path) -> None:
    assert next(iter(AmazonReviewsSettings().problems())).startswith("reviews: missing; set dataset.reviews=<file>")
    assert next(iter(AmazonReviewsSettings(path="x",
                                           version="2014").problems())).startswith("version=2014: choose one of")
    folder = write(tmp_path / "amazon", jsonl(NEW), "X.jsonl").parent
    with pytest.raises(ConfigError, match=r"has no file of metadata, meta_<category>\.jsonl .*amazon-reviews-2023"):
        prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder)))
    write(folder, jsonl(NEW_META), "meta_X.jsonl")
    write(folder, jsonl(NEW[:1]), "X_5.jsonl")
    with pytest.raises(ConfigError, match=r"several files of reviews, .*dataset\.reviews=\[X\.jsonl,X_5\.jsonl\]"):
        prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder)))
    named = prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder), reviews="X_5.jsonl"))
    assert named.in_split("train") == {("AG3", "B01")}
    with pytest.raises(DataError, match=r"dataset\.reviews=.*Y\.jsonl: no such file.*amazon-reviews-2023"):
        prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder), reviews="Y.jsonl"))
    with pytest.raises(ConfigError, match="split=given: the reviews are not split into train and test"):
        prepare_with(tmp_path, AmazonReviewsSettings(path=str(folder), reviews="X.jsonl"), GivenSettings())
