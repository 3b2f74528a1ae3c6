"""Items and users: titles, texts, attributes, and ids that only one of the files knows."""

from pathlib import Path

import pytest

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.settings.dataset import Files
from tests.ingest.preparing import prepare_text, prepare_with, write

CLICKS = "user_id,item_id\nu,b\nv,a\nv,z\n"
ITEMS = "item_id,title,genres\na,Alien,Horror|Sci-Fi\nb,,\nc,Clue,Comedy\n"


def test_items_are_all_those_of_either_file_and_the_gaps_are_counted(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, CLICKS, items=ITEMS, item_text="{title}. {genres}", attributes={"genres": "list"})
    rows = prepared.rows("items")
    assert [row["item_id"] for row in rows] == ["a", "b", "z", "c"]
    assert [row["title"] for row in rows] == ["Alien", "b", "z", "Clue"]
    assert [row["text"] for row in rows] == ["Alien. Horror, Sci-Fi", "", "", "Clue. Comedy"]
    assert [row["attributes"] for row in rows] == [["genres=Horror", "genres=Sci-Fi"], [], [], ["genres=Comedy"]]
    assert [row["genres"] for row in rows] == ["Horror|Sci-Fi", "", None, "Comedy"]
    counts = prepared.counts
    assert [counts[f"items_{k}"] for k in ("not_in_file", "without_text", "without_interactions")] == [1, 2, 1]
    assert "2 items (50.0%) have no text" in prepared.manifest["notes"]


def test_lists_in_jsonl_are_lists(tmp_path: Path) -> None:
    row = '{"item_id": 7, "title": "A", "tags": ["x|y", "z"], "more": {"k": 1}}\n'
    write(tmp_path, row + '{"item_id": "8"}\n', "i.jsonl")
    write(tmp_path, "user_id,item_id\nu,7\nu,8\n")
    prepared = prepare_with(tmp_path, Files(interactions="clicks.csv", items="i.jsonl", item_text="{title}: {tags}",
                                            attributes={"tags": "list"}))
    item = prepared.rows("items")[0]
    assert (item["item_id"], item["text"], item["attributes"]) == ("7", "A: x|y, z", ["tags=x|y", "tags=z"])


def test_a_repeated_item_is_the_row_whose_columns_sort_first(tmp_path: Path) -> None:
    rows = ["a,Beta,x", "a,Alpha,y", "z,Z,z"]
    for n, given in enumerate((rows, rows[::-1])):
        prepared = prepare_text(tmp_path / str(n), CLICKS, items="item_id,title,genres\n" + "\n".join(given))
        assert prepared.rows("items")[0]["title"] == "Alpha"
        assert prepared.counts["items_repeated"] == 1


def test_names_of_our_own_columns_may_be_mapped_and_still_used_in_the_text(tmp_path: Path) -> None:
    write(tmp_path, "uid,sku\nu,a\n")
    write(tmp_path, "sku,name,text\na,Alien,words\n", "items.csv")
    prepared = prepare_with(tmp_path, Files(
        interactions="clicks.csv", items="items.csv", item_text="{name}, {sku}, {title}, {text}",
        columns={"user_id": "uid", "item_id": "sku", "title": "name"}))
    row = prepared.rows("items")[0]
    assert (row["title"], row["text"], row["text_"]) == ("Alien", "Alien, a, Alien, words", "words")


def test_a_file_of_items_may_have_names_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "uid,sku\nu,a\n")
    write(tmp_path, "id,name\na,Alien\n", "items.csv")
    files = Files(interactions="clicks.csv", items="items.csv", columns={"user_id": "uid", "item_id": "sku"},
                  item_columns={"item_id": "id", "title": "name"})
    assert prepare_with(tmp_path, files).rows("items")[0]["title"] == "Alien"
    files.item_columns = {"item_id": "id", "title": "nam"}
    with pytest.raises(DataError, match=r"no column 'nam'; .*item_columns\.title=<name> \(did you mean 'name'\?\)"):
        prepare_with(tmp_path, files)


def test_users_have_texts_and_attributes_too(tmp_path: Path) -> None:
    write(tmp_path, CLICKS)
    write(tmp_path, "user_id,age,job\nu,30,nurse\nnew,,\n", "users.csv")
    prepared = prepare_with(tmp_path, Files(interactions="clicks.csv", users="users.csv", user_text="a {job} of {age}",
                                            user_attributes={"job": "category"}))
    rows = prepared.rows("users")
    assert [row["user_id"] for row in rows] == ["u", "v", "new"]
    assert [row["text"] for row in rows] == ["a nurse of 30", "", ""]
    assert [row["attributes"] for row in rows] == [["job=nurse"], [], []]


def test_an_unknown_column_in_template_or_attributes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"item_text=\{tilte\}: no column 'tilte' \(did you mean 'title'\?\)"):
        prepare_text(tmp_path, CLICKS, items=ITEMS, item_text="{tilte}")
    with pytest.raises(ConfigError, match=r"dataset\.attributes\.genre: .* \(did you mean 'genres'\?\)"):
        prepare_text(tmp_path, CLICKS, items=ITEMS, attributes={"genre": "list"})
    with pytest.raises(ConfigError, match=r"dataset\.attributes: there is no file of items"):
        prepare_text(tmp_path, CLICKS, attributes={"genre": "list"})


def test_bad_rows_of_items_are_rejects_and_counted(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, CLICKS, items=ITEMS + ",Nameless,\nd,too,many,fields\n", max_reject_share=0.5)
    assert [(row["line"], row["column"]) for row in prepared.rows("rejects")] == [(5, "item_id"), (6, "")]
    assert prepared.counts["items_rejected"] == 2
    assert prepared.counts["rejected"] == 0


def test_texts_of_twenty_scripts_come_through(tmp_path: Path) -> None:
    words = ["Ελλάδα", "Россия", "中国", "日本", "한국", "עברית", "العربية", "हिन्दी", "বাংলা", "தமிழ்", "ไทย", "ລາວ",
             "ქართული", "Հայերեն", "አማርኛ", "ខ្មែរ", "မြန်မာ", "සිංහල", "తెలుగు", "🎬👨‍👩‍👧"]
    items = "item_id,title\n" + "".join(f"{word},{word}\n" for word in words)
    clicks = "user_id,item_id\n" + "".join(f"u,{word}\n" for word in words)
    prepare_text(tmp_path, clicks, items=items, item_text="{title}")
    data = read_prepared(tmp_path / "out")
    assert sorted(data.items.ids) == sorted(data.items.texts) == sorted(data.items.titles) == sorted(words)
