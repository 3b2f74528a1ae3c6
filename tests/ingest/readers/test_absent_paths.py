"""Paths inside objects that no row has are refused with the keys that are there; paths that some rows have are read."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.requests.files import read_rows
from llmrec_cli.settings.dataset import FilesSettings
from tests.ingest.preparing import Prepared, prepare_with, write

CLICKS = [{"who": "u", "what": {"id": "a", "seconds": 3}}, {"who": "u", "what": {"id": "b"}}]
ITEMS = [{"item_id": "a", "meta": {"title": "A", "tags": [{"name": "x"}], "more": {}}},
         {"item_id": "b", "meta": {"title": "B", "tags": [], "sale": "yes", "more": None}}]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def prepare_shop(folder: Path, mode: str = "new", clicks: list[dict[str, Any]] = CLICKS,
                 items: list[dict[str, Any]] = ITEMS, **settings: Any) -> Prepared:
    columns = {"user_id": "who", "item_id": "what.id"} | settings.pop("columns", {})
    return prepare_with(folder, FilesSettings(
        name="shop", interactions=str(write(folder, lines(clicks), "clicks.jsonl")), columns=columns,
        items=str(write(folder, lines(items), "items.jsonl")), **settings), mode=mode)


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"item_text": "{meta.titel}"},
     "items.jsonl: no row has the path of 'meta.titel' in dataset.item_text or dataset.attributes: 'meta' has no key "
     "'titel'; there are 'title', 'tags', 'more', 'sale'; name an existing key, or remove the setting "
     "(did you mean 'meta.title'?)"),
    ({"attributes": {"meta.tag": "list"}}, "(did you mean 'meta.tags'?)"),
    ({"attributes": {"meta.tags[].nme": "list"}}, "'meta.tags[]' has no key 'nme'; there are 'name'"),
    ({"attributes": {"mta.title": "list"}}, "mta.title"),
    ({"attributes": {"meta.title[]": "list"}}, "'meta.title' is not an array; leave out the '[]' after it"),
    ({"attributes": {"meta.title.text": "list"}}, "'meta.title' is not an object with keys"),
    ({"columns": {"item_id": "what.idd"}},
     "clicks.jsonl: no row has the path of dataset.columns.item_id=what.idd: 'what' has no key 'idd'; there are "
     "'id', 'seconds'; name an existing key, or remove the setting (did you mean 'what.id'?)"),
    ({"columns": {"value": "what.qqq"}}, "there are 'id', 'seconds'; name an existing key, or remove the setting")])
def test_a_path_that_no_row_has_is_refused(tmp_path: Path, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011  A plain name is a ConfigError, a path a DataError.
        prepare_shop(tmp_path, **settings)
    assert sentence in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_path_that_some_rows_have_is_read(tmp_path: Path) -> None:
    prepared = prepare_shop(tmp_path, attributes={"meta.sale": "category", "meta.tags[].name": "list"})
    assert prepared.column("items", "attributes") == [["meta.tags[].name=x"], ["meta.sale=yes"]]


def test_a_path_into_empty_values_only_is_no_mistake(tmp_path: Path) -> None:
    items = [{"item_id": name, "meta": {"title": name, "tags": []}} for name in "ab"]
    assert prepare_shop(tmp_path, items=items, attributes={"meta.tags[].name": "list"}).counts["items"] == 2


def test_a_path_of_another_file_of_the_same_kind_or_of_earlier_data_is_no_mistake(tmp_path: Path) -> None:
    attributes = {"meta.sale": "category"}
    both = str(write(tmp_path, lines(ITEMS[:1]), "a.jsonl")), str(write(tmp_path, lines(ITEMS[1:]), "b.jsonl"))
    clicks = [str(write(tmp_path, lines([click]), f"{n}.jsonl")) for n, click in enumerate(CLICKS)]
    settings: dict[str, Any] = {"name": "shop", "columns": {"user_id": "who", "item_id": "what.id"},
                                "attributes": attributes}
    prepare_with(tmp_path, FilesSettings(interactions=clicks[0], items=list(both), **settings))
    appended = prepare_with(tmp_path, FilesSettings(interactions=clicks[1], items=both[0], **settings), mode="append")
    assert appended.column("items", "attributes") == [[], ["meta.sale=yes"]]


def test_a_path_into_a_parquet_file_or_json_in_a_csv_file_is_refused_too(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"item_id": "a", "meta": {"title": "A"}}]), tmp_path / "items.parquet")
    write(tmp_path, 'item_id,meta\na,"{""title"": ""A""}"\n', "items.csv")
    clicks = str(write(tmp_path, "user_id,item_id\nu,a\n", "clicks.csv"))
    for name in ("items.parquet", "items.csv"):
        with pytest.raises(DataError, match=r"did you mean 'meta\.title'"):
            prepare_with(tmp_path, FilesSettings(name="shop", interactions=clicks, items=str(tmp_path / name),
                                                 item_text="{meta.titel}"))


def test_new_items_of_recommend_need_not_have_the_paths_of_the_prepared_files(tmp_path: Path) -> None:
    rows = read_rows(str(write(tmp_path, lines(ITEMS[:1]), "new.jsonl")), "items", ("item_id",), ("meta.sale",))
    assert rows.columns["meta.sale"] == [None]
