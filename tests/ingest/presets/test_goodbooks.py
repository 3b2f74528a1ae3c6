"""goodbooks-10k, a preset that is one YAML file over dataset=files."""

from pathlib import Path

import pytest

from llmrec_cli.config import compose
from llmrec_cli.errors import DataError
from tests.ingest.preparing import prepare_with, write

RATINGS = "user_id,book_id,rating\n1,258,5\n2,4081,4\n2,258,2\n"
BOOKS = ("book_id,goodreads_book_id,best_book_id,work_id,books_count,isbn,isbn13,authors,original_publication_year,"
         "original_title,title,language_code,average_rating,ratings_count,image_url\n"
         "258,1232,1232,3209783,279,143034901,9.78014303490e+12,\"Carlos Ruiz Zafón, Lucia Graves\",2001.0,"
         "La sombra del viento,\"The Shadow of the Wind (The Cemetery of Forgotten Books,  #1)\",eng,4.24,263685,"
         "https://x/1.jpg\n"
         "4081,1,1,1,1,,,Ann Lee,,,Untitled,,3.9,10,https://x/2.jpg\n")


def test_book_texts_have_title_and_authors_but_no_ratings(tmp_path: Path) -> None:
    write(tmp_path / "goodbooks", RATINGS, "ratings.csv")
    write(tmp_path / "goodbooks", BOOKS.replace("\n", "\r\n"), "books.csv")
    settings = compose("prepare", ["dataset=goodbooks", f"dataset.path={tmp_path / 'goodbooks'}"]).dataset
    prepared = prepare_with(tmp_path, settings)
    assert {(row["user_id"], row["item_id"], row["value"]) for row in prepared.rows("interactions")} == {
        ("1", "258", 5), ("2", "4081", 4), ("2", "258", 2)}
    shadow, untitled = sorted(prepared.rows("items"), key=lambda row: row["item_id"])
    assert shadow["title"].startswith("The Shadow of the Wind")
    assert shadow["text"].endswith("#1). Carlos Ruiz Zafón, Lucia Graves")
    assert {"authors=Carlos Ruiz Zafón", "authors=Lucia Graves", "language_code=eng"} <= set(shadow["attributes"])
    assert untitled["text"] == "Untitled. Ann Lee"
    assert not any("rating" in attribute for attribute in shadow["attributes"])


def test_a_missing_file_says_where_the_data_is(tmp_path: Path) -> None:
    write(tmp_path / "goodbooks", RATINGS, "ratings.csv")
    settings = compose("prepare", ["dataset=goodbooks", f"dataset.path={tmp_path / 'goodbooks'}"]).dataset
    with pytest.raises(DataError, match=r"dataset\.items=.*books\.csv: no such file, .*; set dataset\.path=<folder of "
                                        r"goodbooks-10k .*https://github\.com/zygmuntz/goodbooks-10k.* \(CC BY-SA"):
        prepare_with(tmp_path, settings)
