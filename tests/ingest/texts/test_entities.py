"""Items and users: titles, texts, attributes, and ids that are in only one of the files."""

import subprocess
import sys
from pathlib import Path

import pytest

from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.texts import catalogue as entities
from llmrec_cli.settings.dataset import FilesSettings
from tests.ingest.describing import described
from tests.ingest.preparing import prepare_text, prepare_with, write

CLICKS = "user_id,item_id\nu,b\nv,a\nv,z\n"
ITEMS = "item_id,title,genres\na,Alien,Horror|Sci-Fi\nb,,\nc,Clue,Comedy\n"


@pytest.mark.slow
@pytest.mark.audited
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


@pytest.mark.slow
def test_lists_in_jsonl_are_lists(tmp_path: Path) -> None:
    row = '{"item_id": 7, "title": "A", "tags": ["x|y", "z"], "more": {"k": 1}}\n'
    write(tmp_path, row + '{"item_id": "8"}\n', "i.jsonl")
    write(tmp_path, "user_id,item_id\nu,7\nu,8\n")
    prepared = prepare_with(tmp_path,
                            FilesSettings(interactions="clicks.csv", items="i.jsonl", item_text="{title}: {tags}",
                                                    attributes={"tags": "list"}))
    item = prepared.rows("items")[0]
    assert (item["item_id"], item["text"], item["attributes"]) == ("7", "A: x|y, z", ["tags=x|y", "tags=z"])


def test_the_time_column_of_interactions_is_not_required_in_user_files(tmp_path: Path) -> None:
    write(tmp_path, "uid,sku,ts\nu,b,1600000000\nv,a,1600000001\n")
    write(tmp_path, "uid,age\nu,30\nv,40\n", "users.csv")
    columns = {"user_id": "uid", "item_id": "sku", "timestamp": "ts"}
    prepared = prepare_with(tmp_path, FilesSettings(interactions=str(tmp_path / "clicks.csv"), columns=columns,
                                                    users=str(tmp_path / "users.csv")))
    assert prepared.column("users", "age") == ["30", "40"]


@pytest.mark.audited
def test_rows_of_one_item_become_one_column_by_column_and_contradictions_are_shown(tmp_path: Path) -> None:
    rows = "a,Shirt,S,\na,,M,\na, ,S,red\nz,Z,,\nz,Z,,\n"
    prepared = prepare_text(tmp_path, CLICKS, items="item_id,title,option,colour\n" + rows)
    result = {row["item_id"]: (row["title"], row["option"], row["colour"]) for row in prepared.rows("items")}
    assert (result["a"], result["z"][0]) == (("Shirt", "S", "red"), "Z")
    assert (prepared.counts["items_repeated"], prepared.counts["items_duplicated"]) == (2, 1)
    assert ("different values for one item in one file; the first is kept: option (1, for instance 'a': 'S', 'M'; kept "
            "'S')") in prepared.manifest["notes"]


@pytest.mark.slow
def test_later_files_win_for_items_and_users(tmp_path: Path) -> None:
    write(tmp_path, CLICKS)
    for kind in ("item", "user"):
        who = "a" if kind == "item" else "u"
        write(tmp_path, f"{kind}_id,title,price\n{who},Zebra,1\n", f"{kind}1.csv")
        write(tmp_path, f"{kind}_id,title,price\n{who},Aardvark,\n", f"{kind}2.csv")
    prepared = prepare_with(tmp_path, FilesSettings(interactions="clicks.csv", items=["item1.csv", "item2.csv"],
                                                    users=["user1.csv", "user2.csv"]))
    for kind in ("item", "user"):
        row = prepared.rows(f"{kind}s")[0]
        assert (row["title"], row["price"]) == ("Aardvark", "1")


@pytest.mark.slow
def test_mapped_columns_can_be_used_in_the_text(tmp_path: Path) -> None:
    write(tmp_path, "uid,sku\nu,a\n")
    write(tmp_path, "sku,name,text\na,Alien,words\n", "items.csv")
    prepared = prepare_with(tmp_path, FilesSettings(
        interactions="clicks.csv", items="items.csv", item_text="{name}, {sku}, {title}, {text}",
        columns={"user_id": "uid", "item_id": "sku", "title": "name"}))
    row = prepared.rows("items")[0]
    assert (row["title"], row["text"], row["text_"]) == ("Alien", "Alien, a, Alien, words", "words")


@pytest.mark.slow
def test_a_file_of_items_may_have_names_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "uid,sku\nu,a\n")
    write(tmp_path, "id,name\na,Alien\n", "items.csv")
    files = FilesSettings(interactions="clicks.csv", items="items.csv", columns={"user_id": "uid", "item_id": "sku"},
                          item_columns={"item_id": "id", "title": "name"})
    assert prepare_with(tmp_path, files).rows("items")[0]["title"] == "Alien"
    files.item_columns = {"item_id": "id", "title": "nam"}
    with pytest.raises(DataError, match=r"no column 'nam'; .*item_columns\.title=<name> \(did you mean 'name'\?\)"):
        prepare_with(tmp_path, files)


@pytest.mark.slow
def test_users_have_texts_and_attributes_too(tmp_path: Path) -> None:
    write(tmp_path, CLICKS)
    write(tmp_path, "user_id,age,job\nu,30,nurse\nnew,,\n", "users.csv")
    prepared = prepare_with(tmp_path,
                            FilesSettings(interactions="clicks.csv", users="users.csv", user_text="a {job} of {age}",
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
    with pytest.raises(ConfigError, match=r"dataset\.attributes: no file describes items"):
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


@pytest.mark.slow
@pytest.mark.audited
def test_items_without_text_have_an_empty_text_and_their_share_is_reported(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, CLICKS, items="item_id,title\na,Alien\nb, \n", item_text="{title}")
    assert [(row["item_id"], row["title"], row["text"]) for row in prepared.rows("items")] == [
        ("a", "Alien", "Alien"), ("b", "b", ""), ("z", "z", "")]
    assert "2 items (66.7%) have no text" in prepared.manifest["notes"]


@pytest.mark.audited
def test_repeats_that_say_the_same_are_counted_apart(tmp_path: Path) -> None:
    rows = ["a,Beta,x", "a,Alpha,y", "a,Beta,x", "a,Alpha,y", "a,Alpha,", "z,Z,z", "z,Z,z", "b,B,b"]
    for n, (given, row) in enumerate(((rows, ("Beta", "x")), (rows[::-1], ("Alpha", "y")))):
        result = described(tmp_path / str(n), "item_id,title,genres\n" + "\n".join(given), {"a": 0, "b": 0, "z": 1})
        assert list(zip(result.column("title"), result.column("genres"), strict=True)) == [row, ("B", "b"), ("Z", "z")]
        assert (result.counts["items_repeated"], result.counts["items_duplicated"]) == (2, 3)


def test_ids_and_texts_are_not_normalised(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    ids = [composed, decomposed, "\u05e9\u05dc\u05d5\u05dd \u202eabc\u202c", "\u0645\u0631\u062d\u0628\u0627", "👨‍👩‍👧",
           "\u212b", "\u00c5", "&amp;", "<b>", " a ", "A", "a"]
    file = "item_id,title\n" + "".join(f'"{name}","{name}"\n' for name in ids)
    result = described(tmp_path, file, dict.fromkeys(ids, 0), item_text="{title}", strip_html=False)
    assert sorted(result.column("item_id")) == sorted(ids)
    assert {row["item_id"]: row["text"] for row in result.rows} == {name: name.strip() for name in ids}


def test_when_an_item_was_described_is_kept_but_is_no_text(tmp_path: Path) -> None:
    result = described(tmp_path, "item_id,timestamp,title\na,1700000000,Alien\n", {"a": 0})
    assert (result.rows[0]["timestamp"], result.rows[0]["text"]) == ("1700000000", "Alien")


def test_texts_and_titles_are_cut_and_own_columns_are_not(tmp_path: Path) -> None:
    result = described(tmp_path, "item_id,title,plot\na,Long title,long plot\n", {"a": 0}, max_text_length=8)
    assert [result.rows[0][name] for name in ("title", "text", "plot")] == ["Long tit", "Long tit", "long plot"]


@pytest.mark.parametrize("filed", [True, False])
def test_many_users_without_descriptions_are_written_with_empty_texts(tmp_path: Path, filed: bool) -> None:
    ranks = {f"u{n:05}": n % 2 for n in range(10_000)}
    file = "user_id,age\n" + "".join(f"u{n:05},{n}\n" for n in range(0, 10_000, 3))
    result = described(tmp_path, file if filed else None, ranks, "user")
    ids = sorted(ranks, key=lambda name: (ranks[name], name))
    assert result.column("user_id") == result.column("title") == ids
    assert result.column("user") == list(range(10_000))
    assert set(result.column("text")) == {""}
    assert all(own == [] for own in result.column("attributes"))
    assert result.counts["users_without_text"] == 10_000


@pytest.mark.slow
def test_the_sort_block_size_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = {f"i{n}": n % 4 for n in range(50)}
    file = "item_id,title,tags\n" + "".join(f"i{n},T{n},{'x' * n}|y\n" for n in range(0, 50, 2))
    expected = described(tmp_path, file, ranks, attributes={"tags": "list"})
    monkeypatch.setattr(entities, "_SORTED", 100)
    monkeypatch.setattr(entities, "_MOST_CHARACTERS", 40)
    result = described(tmp_path, file, ranks, attributes={"tags": "list"})
    assert (result.rows, result.counts) == (expected.rows, expected.counts)


_LONG = """
import resource, sys
from pathlib import Path
from tests.ingest.describing import described
folder, rows, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
words = "many words and no end of them. "
def run(rows, size):
    file = "item_id,plot\\n" + "".join(f"i{n},{words * (size // len(words))}\\n" for n in range(rows))
    found = described(folder, file, {f"i{n}": 0 for n in range(rows)})
    assert all(len(text) <= 20_000 for text in found.column("text"))
    return found.column("text")[0][:5]
run(3, 100)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(rows, size)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.faults
@pytest.mark.parametrize(("rows", "megabytes"), [(1, 50), (200, 1500)])
def test_a_text_of_a_megabyte_is_cut_and_memory_stays(tmp_path: Path, rows: int, megabytes: int) -> None:
    # 200 of them are 200 MB, which this test itself holds three times; the engine sorts 64 MB of them at once.
    done = subprocess.run([sys.executable, "-c", _LONG, str(tmp_path), str(rows), "1000000"], capture_output=True,
                          text=True, check=True)
    assert float(done.stdout.split()[-1]) < megabytes
