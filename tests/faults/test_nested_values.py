"""The fault matrix, data that looks right: arrays and objects where one value belongs, and columns of another case."""

import csv
import gzip
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.faults.common import manifest_counts, prepared_ids, refused
from tests.some_slow import some_slow

BASKETS = [(f"u{n}", [f"s{(n + k) % 7}" for k in range(4)]) for n in range(12)]
PAIRS = sorted((user, item) for user, items in BASKETS for item in items)


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def parquet(table):
    pq.write_table(table, "it")
    return Path("it").read_bytes()


def pairs(*columns):
    """Return user, item and other columns of what `prepared_ids` prepared, sorted."""
    rows = pq.read_table("data/prepared/fault/interactions.parquet").to_pylist()
    return sorted(tuple(row[name] for name in ("user_id", "item_id", *columns)) for row in rows)


def files_of_baskets():
    users, items = zip(*BASKETS, strict=True)
    lines = jsonl({"user_id": user, "item_id": items} for user, items in BASKETS)
    quoted = "".join(f'{user},"{json.dumps(items).replace(chr(34), chr(34) * 2)}"\n' for user, items in BASKETS)
    python = "".join(f'{user},"{items!r}"\n' for user, items in BASKETS)
    return {"x.jsonl": lines, "x.jsonl.gz": gzip.compress(lines.encode()),
            "x.parquet": parquet(pa.table({"user_id": users, "item_id": items})),
            "text.parquet": parquet(pa.table({"user_id": users, "item_id": [json.dumps(one) for one in items]})),
            "x.csv": "user_id,item_id\n" + quoted, "python.csv": "user_id,item_id\n" + python,
            "numpy.csv": "user_id,item_id\n" + python.replace("', '", "' '"),
            "tuple.csv": "user_id,item_id\n" + python.replace("[", "(").replace("]", ")")}


NAMES = ["x.jsonl", "x.parquet", "python.csv", "x.jsonl.gz", "text.parquet", "x.csv", "numpy.csv", "tuple.csv"]


@pytest.mark.audited
@pytest.mark.parametrize("name", some_slow(NAMES, 1, 2))
def test_79_an_array_where_an_id_belongs_is_refused_by_line_and_explode_makes_rows_of_it(llmrec, name, tmp_path):
    content = files_of_baskets()[name]
    line = 2 if name.endswith(".csv") else 1
    assert refused(llmrec, content, name=name) == (
        f'{name}: line {line}: item_id is an array (["s0", "s1", "s2", "s3"]), but must be a single id; set '
        f"dataset.explode=item_id to turn each entry into a row")
    prepared_ids(llmrec, content, "dataset.explode=item_id", name=name)
    assert pairs() == PAIRS
    assert manifest_counts()["read"] == 48
    notes = json.loads(Path("data/prepared/fault/audit.json").read_text())["notes"]
    assert f"{name}: 12 arrays turned into one row per entry, 48 rows in all" in notes


def files_of_baskets_with_values():
    rows = [{"user_id": user, "item_id": items, "value": [1, 2, 3, 4],
             "timestamp": [f"2024-01-0{day}" for day in (1, 2, 3, 4)]} for user, items in BASKETS]
    text = io.StringIO()
    csv.writer(text).writerows([list(rows[0]), *(list(row.values()) for row in rows)])
    return {"x.jsonl": jsonl(rows), "x.parquet": parquet(pa.Table.from_pylist(rows)),
            "text.parquet": parquet(pa.Table.from_pylist([{name: str(value) for name, value in row.items()}
                                                          for row in rows])),
            "x.csv": text.getvalue()}


@pytest.mark.slow
@pytest.mark.parametrize("name", some_slow(["x.csv", "x.jsonl", "x.parquet", "text.parquet"], 1, 0))
def test_79_the_error_names_all_arrays_of_the_row_and_they_are_exploded_together(llmrec, name, tmp_path):
    content = files_of_baskets_with_values()[name]
    all_three = "set dataset.explode=[item_id,value,timestamp] to turn each entry into a row"
    assert refused(llmrec, content, name=name).endswith(f"must be a single id; {all_three}")
    again = refused(llmrec, content, "dataset.explode=item_id", name=name)
    assert again.endswith(f"must be a single value; {all_three}")
    prepared_ids(llmrec, content, "dataset.explode=[item_id,value,timestamp]", name=name)
    assert pairs("value") == sorted((user, item, k + 1.0) for user, items in BASKETS for k, item in enumerate(items))


@pytest.mark.slow
def test_79_an_array_with_a_missing_comma_is_a_bad_row_and_never_one_item_of_several_names(llmrec):
    rows = "".join(f"u{n},\"['a{n % 5}', 'b{n % 5}']\"\n" for n in range(9))
    content = f"user_id,item_id\n{rows}u9,\"['a0' 'a1', 'b1']\"\n"
    prepared_ids(llmrec, content, "dataset.explode=item_id", "dataset.max_reject_share=0.2")
    assert not any("a0a1" in item for _, item in pairs())
    assert manifest_counts()["rejected"] == 1


def test_79_blanks_after_a_separator_are_no_part_of_an_entry(llmrec):
    prepared_ids(llmrec, 'user_id,item_id\nu1,"s1, s2"\nu2,"s2 ,s1"\n', "dataset.explode=item_id",
                 "dataset.list_separator=,")
    assert pairs() == [("u1", "s1"), ("u1", "s2"), ("u2", "s1"), ("u2", "s2")]


def test_79_one_array_among_thousands_of_ids_is_refused_too(llmrec):
    rows = [{"user_id": f"u{n}", "item_id": f"i{n % 9}"} for n in range(3000)]
    assert "x.jsonl: line 3001: user_id is an array" in refused(
        llmrec, jsonl([*rows, {"user_id": ["u1"], "item_id": "i"}]), name="x.jsonl")


@pytest.mark.parametrize(("row", "sentence"), [
    ({"user_id": {"id": "u", "age": 3}, "item_id": "i"}, "user_id is an object with the keys id, age ({\"id\": \"u\", "
     "\"age\": \"3\"}), but must be a single id; use one of its keys with dataset.columns.user_id='user_id.id'"),
    ({"user_id": "u", "item_id": [{"n": 1, "sku": "i"}]}, "item_id is an array of objects with the keys n, sku ([{"
     "\"n\": \"1\", \"sku\": \"i\"}]), but must be a single id; use one of its keys with "
     "dataset.columns.item_id='item_id[].n', which turns each entry into a row"),
    ({"user_id": "u", "item_id": "i", "value": [1, 2]}, "value is an array ([\"1\", \"2\"]), but must be a single "
     "value; set dataset.explode=[item_id,value] to turn each entry into a row"),
    ({"user_id": "u", "item_id": "i", "timestamp": {"$date": "2020-01-01"}}, "use one of its keys with "
     "dataset.columns.timestamp='timestamp.$date'")])
def test_79_objects_and_other_columns_are_refused_with_the_key_to_take(llmrec, row, sentence):
    assert sentence in refused(llmrec, jsonl([row] * 3), name="x.jsonl")


EVENTS = [{"user": {"id": f"u{n}", "age": 30}, "at": 1_600_000_000 + n, "cart": {"items": [
    {"item_id": f"s{(n + k) % 7}", "qty": k + 1, "tags": ["a"]} for k in range(n % 4)]}} for n in range(12)]
NESTED = sorted((f"u{n}", f"s{(n + k) % 7}", k + 1.0, (1_600_000_000 + n) * 1000) for n in range(12)
                for k in range(n % 4))
MAPPED = ["dataset.columns.user_id=user.id", "dataset.columns.item_id=cart.items[].item_id",
          "dataset.columns.value=cart.items[].qty", "dataset.columns.timestamp=at"]


@pytest.mark.audited
@pytest.mark.parametrize("name", some_slow(["x.jsonl", "x.jsonl.gz", "x.parquet", "x.csv"]))
def test_79_paths_read_nested_events_and_columns_of_one_array_stay_together(llmrec, name):
    content = jsonl(EVENTS)
    if name == "x.jsonl.gz":
        content = gzip.compress(content.encode())
    elif name == "x.parquet":
        content = parquet(pa.Table.from_pylist(EVENTS))
    elif name == "x.csv":
        content = "user|at|cart\n" + "".join("|".join(json.dumps(row[key]) for key in ("user", "at", "cart")) + "\n"
                                             for row in EVENTS)
    prepared_ids(llmrec, content, *MAPPED, *(["dataset.delimiter=|", "dataset.quote="] if name == "x.csv" else []),
                 name=name)
    assert pairs("value", "timestamp") == NESTED
    notes = json.loads(Path("data/prepared/fault/audit.json").read_text())["notes"]
    assert f"{name}: 3 rows dropped: empty or missing array" in notes


@pytest.mark.slow
def test_79_arrays_inside_arrays_and_arrays_side_by_side_are_read(llmrec):
    orders = [{"day": "2020-01-01", "skus": ["a", "b"]}, {"day": "2020-01-02", "skus": ["c"]}]
    rows = [{"user_id": "u", "orders": orders}, {"user_id": "v", "orders": []}]
    prepared_ids(llmrec, jsonl(rows), "dataset.columns.item_id=orders[].skus[]",
                 "dataset.columns.timestamp=orders[].day", name="x.jsonl")
    assert pairs("timestamp") == [("u", "a", 1577836800000), ("u", "b", 1577836800000), ("u", "c", 1577923200000)]
    rows = [{"user_id": "u", "item_id": ["a", "b"], "value": [3, 4]}, {"user_id": "v", "item_id": ["a"], "value": 5}]
    prepared_ids(llmrec, jsonl(rows), "dataset.explode=[item_id,value]", name="x.jsonl")
    assert pairs("value") == [("u", "a", 3.0), ("u", "b", 4.0), ("v", "a", 5.0)]


@pytest.mark.slow
def test_79_what_does_not_fit_a_path_or_its_neighbour_is_a_bad_row(llmrec):
    good = [{"user_id": f"u{n}", "item_id": ["a"], "value": [1]} for n in range(9)]
    prepared_ids(llmrec, jsonl([{"user_id": "u", "item_id": ["a", "b"], "value": [3]}, *good]),
                 "dataset.explode=[item_id,value]", "dataset.max_reject_share=0.1", name="x.jsonl")
    [reject] = pq.read_table("data/prepared/fault/rejects.parquet").to_pylist()
    assert (reject["line"], reject["reason"]) == (1, "the arrays of dataset.explode differ in length: item_id has 2, "
                                                     "value has 1")
    rows = [{"user": "u", "item_id": "a"}, *[{"user": {"id": f"u{n}"}, "item_id": "a"} for n in range(9)]]
    prepared_ids(llmrec, jsonl(rows), "dataset.columns.user_id=user.id", "dataset.max_reject_share=0.1", name="x.jsonl")
    [reject] = pq.read_table("data/prepared/fault/rejects.parquet").to_pylist()
    assert reject["reason"] == "a part of the path 'user.id' is not an object"


def test_79_a_column_whose_own_name_looks_like_a_path_is_that_column(llmrec):
    rows = [{"user.id": f"u{n}", "user": {"id": "other"}, "item_id": "i"} for n in range(3)]
    assert set(prepared_ids(llmrec, jsonl(rows), "dataset.columns.user_id=user.id", name="x.jsonl")) == {"u0", "u1",
                                                                                                       "u2"}


def test_79_ids_in_brackets_that_are_no_arrays_are_ids(llmrec):
    names = ["[REC]", "{a}", "[]x", "[1, 2", "{GUID-1}"]
    content = "user_id|item_id\n" + "".join(f"{name}|i\n" for name in names)
    assert sorted(prepared_ids(llmrec, content, "dataset.delimiter=|")) == sorted(names)


@pytest.mark.audited
def test_79_explode_without_an_array_and_paths_of_two_arrays_are_refused(llmrec):
    Path("clicks.csv").write_text("user_id,item_id\nu,i\nv,i\n")
    done = llmrec("prepare", "dataset=files", "dataset.interactions=clicks.csv", "dataset.explode=item_id",
                  "split=none")
    assert done.code == 2
    assert "dataset.explode=item_id: has no effect, since no row has an array there" in done.err
    Path("x.jsonl").write_text(jsonl([{"u": ["a"], "i": ["b"]}]))
    done = llmrec("prepare", "dataset=files", "dataset.interactions=x.jsonl", "dataset.columns.user_id=u[]",
                  "dataset.columns.item_id=i[]", "split=none")
    assert done.code == 2
    assert "are in different arrays, whose entries cannot be paired" in done.err


def test_79_floating_point_ids_inside_arrays_are_refused(llmrec):
    content = parquet(pa.table({"user_id": ["u"], "items": [[{"sku": 1.0}]]}))
    assert "the id column 'items[].sku' holds floating point numbers" in refused(
        llmrec, content, "dataset.columns.item_id=items[].sku", name="x.parquet")


@pytest.mark.slow
def test_79_members_and_links_may_be_arrays_too(llmrec):
    Path("groups.jsonl").write_text(jsonl([{"group_id": "g", "user_id": ["u1", "u2"]},
                                           {"group_id": "h", "user_id": "u3"}]))
    clicks = "user_id,item_id\n" + "".join(f"u{n % 5},i{n % 7}\n" for n in range(35))
    message = refused(llmrec, clicks, "dataset.groups=groups.jsonl")
    assert message.startswith("groups.jsonl: line 1: user_id is an array")
    prepared_ids(llmrec, clicks, "dataset.groups=groups.jsonl", "dataset.explode=user_id")
    members = pq.read_table("data/prepared/fault/groups.parquet").to_pylist()
    assert sorted((row["group_id"], row["user_id"]) for row in members) == [("g", "u1"), ("g", "u2"), ("h", "u3")]


SHELVES = [[], *([{"count": "12", "name": "to-read"}, {"count": "3", "name": f"shelf{n % 2}"}] for n in range(1, 7))]
BOOKS = [{"item_id": f"i{n}", "title": f"Book {n}", "pages": "Free" if n == 3 else str(100 + n), "shelves": SHELVES[n],
          "by": {"name": "Ann", "id": n}} for n in range(7)]
CLICKS = "user_id,item_id\n" + "".join(f"u{n % 9},i{n % 7}\n" for n in range(60))


@pytest.mark.slow
@pytest.mark.parametrize("name", some_slow(["b.jsonl", "b.jsonl.gz", "b.parquet", "b.csv"]))
def test_83_objects_as_an_attribute_are_refused_with_the_key_and_the_path_takes_it(llmrec, name):
    if name == "b.parquet":
        pq.write_table(pa.Table.from_pylist(BOOKS), name)
    elif name == "b.csv":  # As pandas writes it: Python's own notation.
        Path(name).write_text("item_id;title;pages;shelves;by\n" + "".join(
            ";".join(str(value) for value in row.values()) + "\n" for row in BOOKS))
    else:
        content = jsonl(BOOKS).encode()
        Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    sentence = [f"dataset.items={name}", *(["dataset.delimiter=;"] if name == "b.csv" else [])]
    clicks = CLICKS.replace(",", ";") if name == "b.csv" else CLICKS
    line = 3 if name == "b.csv" else 2
    message = refused(llmrec, clicks, *sentence, "dataset.attributes.shelves=list")
    assert message == (f"{name}: line {line}: the attribute 'shelves' is an array of objects with the keys count, "
                       f"name, and each object would count as one value; use one key with "
                       f"'dataset.attributes.shelves[].name=list'")
    assert "'dataset.attributes.by.name=category'" in refused(llmrec, clicks, *sentence,
                                                              "dataset.attributes.by=category")
    prepared_ids(llmrec, clicks, *sentence, "dataset.attributes.shelves[].name=list",
                 "dataset.attributes.by.name=category", "dataset.item_text={title} by {by.name}: {shelves[].name}")
    items = pq.read_table("data/prepared/fault/items.parquet").to_pylist()
    assert items[0]["attributes"] == ["by.name=Ann"]
    assert items[1]["attributes"] == ["by.name=Ann", "shelves[].name=shelf1", "shelves[].name=to-read"]
    assert items[1]["text"] == "Book 1 by Ann: to-read, shelf1"


@pytest.mark.slow
def test_83_arrays_of_arrays_are_named_with_the_path_that_flattens_them(llmrec):
    Path("b.jsonl").write_text(jsonl([{"item_id": f"i{n}", "genre": [["Books", "SF"], ["Books"]]} for n in range(7)]))
    assert "use the inner values with 'dataset.attributes.genre[][]=list'" in refused(
        llmrec, CLICKS, "dataset.items=b.jsonl", "dataset.attributes.genre=list")
    prepared_ids(llmrec, CLICKS, "dataset.items=b.jsonl", "dataset.attributes.genre[][]=list")
    assert pq.read_table("data/prepared/fault/items.parquet")["attributes"].to_pylist()[0] == [
        "genre[][]=Books", "genre[][]=SF"]


@pytest.mark.slow
@pytest.mark.audited
def test_83_a_value_that_is_no_number_costs_its_cell_and_is_counted_with_an_example(llmrec):
    Path("b.jsonl").write_text(jsonl(BOOKS))
    prepared_ids(llmrec, CLICKS, "dataset.items=b.jsonl", "dataset.attributes.pages=number")
    items = pq.read_table("data/prepared/fault/items.parquet").to_pylist()
    assert [(row["title"], len(row["attributes"])) for row in items] == [(f"Book {n}", int(n != 3)) for n in range(7)]
    assert manifest_counts()["items_values_unread"] == 1
    audit = json.loads(Path("data/prepared/fault/audit.json").read_text())
    assert ("1 of 7 values of 'pages' are not numbers, so these items do not get this attribute; the first is 'Free' "
            "(b.jsonl, line 4): it has no digit; leave the cell empty where there is no number") in audit["notes"]


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.parametrize("name", some_slow(["items.csv", "items.jsonl", "items.parquet"]))
def test_a_title_column_in_another_case_is_used_with_a_note(llmrec, name):
    rows = [{"Item_ID": f"i{n}", "Title": f"Mug {n}", "Genre": "g"} for n in range(7)]
    if name == "items.csv":
        Path(name).write_text("Item_ID,Title,Genre\n" + "".join(",".join(row.values()) + "\n" for row in rows))
    elif name == "items.jsonl":
        Path(name).write_text(jsonl(rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), name)
    prepared_ids(llmrec, CLICKS.replace("user_id", "USER_ID"), f"dataset.items={name}",
                 "dataset.item_text={Title}. {Genre}")
    items = pq.read_table("data/prepared/fault/items.parquet").to_pylist()
    assert [(row["title"], row["text"]) for row in items[:2]] == [("Mug 0", "Mug 0. g"), ("Mug 1", "Mug 1. g")]
    notes = json.loads(Path("data/prepared/fault/audit.json").read_text())["notes"]
    assert [note for note in notes if "is read as" in note] == [
        "clicks.csv: column 'USER_ID' is read as user_id", f"{name}: column 'Item_ID' is read as item_id",
        f"{name}: column 'Title' is read as title"]


@pytest.mark.slow
@pytest.mark.audited
def test_columns_that_differ_only_by_case_are_ambiguous_unless_one_is_exact(llmrec):
    Path("items.csv").write_text("item_id,Title,TITLE\n" + "".join(f"i{n},a,b\n" for n in range(7)))
    prepared_ids(llmrec, CLICKS, "dataset.items=items.csv")
    assert pq.read_table("data/prepared/fault/items.parquet")["title"].to_pylist()[0] == "i0"
    notes = json.loads(Path("data/prepared/fault/audit.json").read_text())["notes"]
    assert ("items.csv: 'Title' and 'TITLE' differ only by case, so none is read as title; choose one with "
            "dataset.item_columns.title=<name>") in notes
    assert refused(llmrec, "User_id,USER_ID,item_id\nu,v,i\n") == (
        "clicks.csv: no column 'user_id', but 'User_id' and 'USER_ID'; choose one with dataset.columns.user_id=<name>")
    Path("items.csv").write_text("item_id,title,Title\n" + "".join(f"i{n},a{n},b\n" for n in range(7)))
    prepared_ids(llmrec, CLICKS, "dataset.items=items.csv")
    assert pq.read_table("data/prepared/fault/items.parquet")["title"].to_pylist()[0] == "a0"


@pytest.mark.audited
def test_79_a_query_file_with_an_array_for_a_user_is_refused(llmrec, model):
    Path("q.jsonl").write_text(jsonl([{"user_id": ["u1", "u2"], "history": ["i1"]}]))
    done = llmrec("recommend", f"model={model}", "queries=q.jsonl", "output=lists.jsonl")
    assert done.code == 3
    assert "q.jsonl: line 1: user_id is an array" in done.err
    assert "write one user_id per row" in done.err


@pytest.mark.slow
@pytest.mark.audited
def test_79_objects_are_left_out_of_a_text_without_a_template_and_the_path_to_take_is_named(llmrec):
    items = [{"item_id": f"i{n}", "title": f"T{n}", "authors": [{"name": f"A{n}", "role": "x"}]} for n in range(3)]
    Path("items.jsonl").write_text(jsonl(items))
    clicks = "user_id,item_id\n" + "".join(f"u,i{n}\n" for n in range(3))
    note = "'authors' has objects in 3 items, {} the text; for a value inside the objects set " \
           "dataset.item_text='{{authors[].name}}'"

    def texts_and_notes(*settings):
        prepared_ids(llmrec, clicks, "dataset.items=items.jsonl", "force=true", *settings)
        notes = json.loads(Path("data/prepared/fault/audit.json").read_text())["notes"]
        return pq.read_table("data/prepared/fault/items.parquet")["text"].to_pylist(), notes

    texts, notes = texts_and_notes()
    assert texts == ["T0", "T1", "T2"]
    assert note.format("left out of") in notes
    texts, notes = texts_and_notes("dataset.item_text={title} by {authors}")
    assert note.format("shown as JSON in") in notes
    texts, notes = texts_and_notes("dataset.item_text={title} by {authors[].name}")
    assert texts == ["T0 by A0", "T1 by A1", "T2 by A2"]
    assert not any("has objects" in text for text in notes)
