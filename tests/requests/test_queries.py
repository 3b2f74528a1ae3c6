"""Query files, inline queries, new items and users: values read, and errors with file and line."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from llmrec_cli.data.catalogue import Catalogue
from llmrec_cli.data.queries import UNTIMED
from llmrec_cli.errors import ArtifactError, ConfigError, DataError
from llmrec_cli.requests.files import read_ids
from llmrec_cli.requests.new_items import new_items, new_users
from llmrec_cli.requests.queries import IdChecker, RawQueries, inline_query, raw_queries, read_history, read_queries
from llmrec_cli.requests.resolve import resolve
from llmrec_cli.settings.recommend import QuerySettings

TEXTS = {"item": {"template": "{title} ({year}). {genres}", "attributes": {"genres": "list"},
                  "columns": {"sku": "item_id"}, "list_separator": "|", "max_length": 40},
         "user": {"template": "", "attributes": {}, "columns": {}, "list_separator": "|", "max_length": 40}}


def write(name: str, content: str) -> str:
    Path(name).write_text(content, "utf-8")
    return name


def histories(queries: RawQueries) -> list[list[str]]:
    return [list(queries.history[a:b]) for a, b in zip(queries.offsets, queries.offsets[1:], strict=False)]


def entities(*ids: str, texts: tuple[str, ...] = ()) -> Catalogue:
    column = np.array([*ids, None], object)[:-1]
    message = np.array([*(texts or [""] * len(ids)), None], object)[:-1]
    return Catalogue(column, column, message, sp.csr_array((len(ids), 0), dtype=np.float32), [])


ROWS = [{"query_id": "a", "user_id": "007", "history": ["50", "a|b"], "text": "café, \"slow\""},
        {"query_id": "b", "user_id": "NA", "history": [], "text": ""},
        {"query_id": "c", "user_id": "", "history": ["太空"], "text": "null"}]


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.tsv", "q.parquet", "q.jsonl.gz", "q.csv.zst"])
def test_all_query_formats_give_the_same_queries(name: str) -> None:
    delimiter = "\t" if ".tsv" in name else ","
    lines = [delimiter.join(ROWS[0])] + [delimiter.join('"' + str(v if isinstance(v, str) else json.dumps(v)).replace(
        '"', '""') + '"' for v in row.values()) for row in ROWS]
    text = "\n".join(map(json.dumps, ROWS) if "jsonl" in name else lines) + "\n"
    if name == "q.parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), name)
    else:
        with pa.output_stream(name, compression={"gz": "gzip", "zst": "zstd"}.get(name.split(".")[-1])) as stream:
            stream.write(text.encode())
    queries = read_queries(name)
    assert list(queries.ids) == ["a", "b", "c"]
    assert list(queries.user_ids) == ["007", "NA", ""]
    assert list(queries.texts) == [row["text"] for row in ROWS]
    assert histories(queries) == [["50", "a|b"], [], ["太空"]]


def test_a_history_in_csv_is_divided_by_bars_or_is_a_json_list() -> None:
    assert read_history("50|172", "") == ["50", "172"]
    assert read_history(" 50 | 172 |", "") == ["50", "172"]
    assert read_history('["50", "a|b", " c"]', "") == ["50", "a|b", " c"]
    assert read_history("[50, 9007199254740993, 1.50]", "") == ["50", "9007199254740993", "1.50"]
    assert read_history("", "") == []


@pytest.mark.parametrize("text", ["[50, abc]", "[007]", "[[1]]", "[null]", '[{"a": 1}]'])
def test_a_history_that_is_no_list_of_ids_is_refused_with_its_row(text: str) -> None:
    file = write("q.csv", f'user_id,history\nu1,50\nu2,"{text.replace(chr(34), chr(34) * 2)}"\n')
    with pytest.raises(DataError, match=r"q\.csv: line 3: history"):
        read_queries(file)


def test_a_query_is_called_by_its_id_or_its_user_or_its_row() -> None:
    file = write("q.jsonl", '{"query_id": "a", "user_id": "u"}\n{"user_id": "v"}\n{"text": "war"}\n')
    assert list(read_queries(file).ids) == ["a", "v", "query3"]


def test_two_queries_of_one_name_are_refused_with_both_rows() -> None:
    with pytest.raises(DataError, match=r"line 4: query_id 'a' is also in line 2; give each query a query_id"):
        read_queries(write("q.csv", "query_id,text\na,x\nb,y\na,z\n"))
    with pytest.raises(DataError, match=r"line 3: user_id 'u' is also in line 2"):
        read_queries(write("q.csv", "user_id\nu\nu\n"))


def test_an_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(DataError, match=r"unknown column 'histroy' \(did you mean 'history'\?\)"):
        read_queries(write("q.csv", "user_id,histroy\nu,1\n"))


def test_group_queries_have_an_id_members_or_both_and_the_groups_name() -> None:
    rows = ('{"group_id": "小组"}\n{"query_id": "ad hoc", "members": ["u1", "007"]}\n'
            '{"group_id": "g", "members": [7]}\n')
    result = read_queries(write("q.jsonl", rows))
    assert list(result.ids) == ["小组", "ad hoc", "g"]
    assert list(result.group_ids) == ["小组", "", "g"]
    assert list(result.members) == ["u1", "007", "7"]
    assert list(result.member_offsets) == [0, 0, 2, 3]
    assert list(result.rows(2, 3).members) == ["7"]
    piped = read_queries(write("q.csv", "query_id,members\nq,u1|u2\n"))
    assert list(piped.members) == ["u1", "u2"]


def test_a_query_of_a_user_and_of_a_group_at_once_is_refused_with_its_line() -> None:
    with pytest.raises(DataError, match=r"q\.jsonl: line 2: user_id 'u' with group_id or members"):
        read_queries(write("q.jsonl", '{"user_id": "v"}\n{"user_id": "u", "members": ["w"]}\n'))
    assert len(read_queries(write("q.csv", "user_id,group_id\nu,\n"))) == 1


@pytest.mark.parametrize(("name", "content", "message"), [
    ("q.jsonl", '{"user_id": "u"}\nnot json\n', "q.jsonl: line 2: not JSON"),
    ("q.csv", "user_id,text\nu\n", "line 2: 1 fields where the header has 2"),
    ("q.csv", "user_id,text\n", "has a header but no rows"), ("q.csv", "", "is empty"),
    ("q.csv", "user_id,user_id\nu,v\n", "two columns are called 'user_id'"),
    ("q.jsonl", '{"user_id": "u"}\n{"user_id', "truncated")])
def test_a_file_with_a_bad_row_is_refused_with_its_place(name: str, content: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_queries(write(name, content))


def test_a_missing_file_is_refused() -> None:
    with pytest.raises(DataError, match=r"queries=none\.csv: no such file"):
        read_queries("none.csv")


def test_an_inline_query_is_called_query_or_as_its_user() -> None:
    assert list(inline_query(QuerySettings(text="war")).ids) == ["query"]
    query = inline_query(QuerySettings(user_id="u", history=["1", "2"]))
    assert list(query.ids) == ["u"]
    assert histories(query) == [["1", "2"]]
    with pytest.raises(ConfigError, match=r"query\.text: is not UTF-8"):
        inline_query(QuerySettings(text="a\udcff"))


def test_a_given_history_is_appended_to_the_known_one_without_repeats() -> None:
    known = sp.csr_array((np.ones(2, np.float32), [2, 0], [0, 2, 2]), shape=(2, 4))
    raw = raw_queries(["u", "w", ""], histories=[["i0", "i3", "xx", "i3"], ["i1", "i1"], []], ids=["a", "b", "c"])
    queries, unknown = resolve(raw, entities("u", "v"), entities("i0", "i1", "i2", "i3"), known, known)
    assert [list(queries.history[[q]].indices) for q in range(3)] == [[2, 0, 3], [1], []]
    assert (queries.history.data == 1).all()
    assert list(queries.user) == [0, -1, -1]
    assert list(queries.gave_history) == [True, True, False]
    assert list(unknown.items) == ["xx"]
    assert sorted(queries.seen[[0]].indices) == [0, 2, 3]


def test_a_users_own_text_is_used_without_a_history_or_query_text() -> None:
    known = sp.csr_array((np.ones(1, np.float32), [0], [0, 1, 1]), shape=(2, 1))
    users = entities("u", "v", "new", texts=("old hand", "quiet", "likes war"))
    raw = raw_queries(["u", "v", "new", "new2", "new"], ["", "", "", "", "own"], ids=list("abcde"))
    queries, _ = resolve(raw, users, entities("i"), known, known)
    assert list(queries.texts) == ["", "quiet", "likes war", "", "own"]
    assert list(queries.user) == [0, 1, -1, -1, -1]


def test_new_items_get_title_text_and_attributes_as_the_models_own_did() -> None:
    file = write("new.jsonl", '{"sku": "n1", "title": "Solaris", "year": 1972, "genres": ["Sci-Fi", "Drama"]}\n'
                              '{"sku": "n2", "title": "Stalker", "genres": "Sci-Fi"}\n')
    result = new_items(file, TEXTS, entities("i1"))
    assert list(result.catalogue.texts) == ["Solaris (1972). Sci-Fi, Drama", "Stalker. Sci-Fi"]
    assert list(result.catalogue.titles) == ["Solaris", "Stalker"]
    assert result.catalogue.attribute_names == ["genres=Drama", "genres=Sci-Fi"]
    assert result.catalogue.attributes.toarray().tolist() == [[1, 1], [0, 1]]
    assert result.notes == []


def test_new_items_the_model_knows_are_counted_and_the_others_added_or_refused_by_name() -> None:
    file = write("new.csv", "item_id,title\nn1,A\ni1,B\nn2,C\n")
    result = new_items(file, TEXTS, entities("i0", "i1"))
    assert list(result.catalogue.ids) == ["n1", "n2"]
    assert list(result.catalogue.titles) == ["A", "C"]
    assert result.known_rows.tolist() == [1]
    assert "the model already knows 1 ('i1') of 3 items and keeps their features from training" in result.notes[-1]
    with pytest.raises(DataError, match=r"line 3: the model already knows item 'i1'.*on_unknown=error"):
        new_items(file, TEXTS, entities("i1"), refuse_known=True)
    assert len(new_items(write("old.csv", "item_id,title\ni1,B\n"), TEXTS, entities("i1")).catalogue) == 0


@pytest.mark.parametrize(("row", "message"), [
    ({"user_id": "u", "history": ["i1", "xx"]}, "q.jsonl: line 2: history 'xx' is not an item of the model"),
    ({"members": ["u", "who"]}, "q.jsonl: line 2: members 'who' is not a user of the model"),
    ({"group_id": "g"}, "q.jsonl: line 2: group_id 'g' is not a group of the model")])
def test_unknown_ids_in_queries_are_refused_with_on_unknown_error(row: dict[str, Any], message: str) -> None:
    checker = IdChecker(entities("i1"), entities("u"), None)
    file = write("q.jsonl", '{"query_id": "a", "text": "any"}\n' + json.dumps({"query_id": "b", **row}) + "\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read_queries(file, checker)
    assert len(read_queries(file)) == 2


def test_with_on_unknown_error_users_and_groups_with_members_may_be_unknown() -> None:
    checker = IdChecker(entities("i1"), entities("u"), None)
    rows = [{"user_id": "new", "history": ["i1"]}, {"group_id": "tonight", "members": ["u"]}]
    assert len(read_queries(write("q.jsonl", "".join(json.dumps(row) + "\n" for row in rows)), checker)) == 2
    with pytest.raises(DataError, match=r"query\.history: history 'xx' is not an item"):
        inline_query(QuerySettings(history=["i1", "xx"]), checker)


def test_new_items_missing_a_template_column_give_a_note_and_missing_all_are_refused() -> None:
    result = new_items(write("new.csv", "item_id,title,year\nn1,A,\n"), TEXTS, entities())
    assert list(result.catalogue.texts) == ["A"]
    assert result.notes == ["items=new.csv: no column 'genres'; texts and attributes are made without it"]
    with pytest.raises(DataError, match=r"no column of the model's text template '{title}"):
        new_items(write("new.csv", "item_id,titel\nn1,A\n"), TEXTS, entities())


@pytest.mark.parametrize(("content", "message"), [
    ("item_id,title\nn1,A\nn1,B\n", "line 3: item_id 'n1' is also in line 2"),
    ("item_id,title\n,A\n", "line 2: item_id is empty"),
    ("item,title\nn1,A\n", "no column 'item_id'; there are title, item; rename")])
def test_new_items_need_an_id_each_of_their_own(content: str, message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        new_items(write("new.csv", content), TEXTS, entities())


def test_a_model_that_does_not_say_how_texts_were_made_takes_no_new_items() -> None:
    with pytest.raises(ArtifactError, match="prepare the data and train again"):
        new_items(write("new.csv", "item_id,title\nn1,A\n"), None, entities())


def test_new_users_texts_use_the_models_template_or_a_text_column_and_known_users_are_skipped() -> None:
    file = write("users.csv", "user_id,text,age\nu,x,1\nnew,likes war,2\n")
    result = new_users(file, TEXTS, entities("u"))
    assert list(result.catalogue.ids) == ["new"]
    assert list(result.catalogue.texts) == ["likes war"]
    assert result.notes == ["users=users.csv: the model already knows 1 of 2 users and uses their history"]
    told = {**TEXTS, "user": {**TEXTS["user"], "template": "aged {age}"}}
    assert list(new_users(file, told, entities("u")).catalogue.texts) == ["aged 2"]
    with pytest.raises(DataError, match="these users have no text"):
        new_users(write("users.csv", "user_id,age\nnew,2\n"), TEXTS, entities("u"))


def test_candidates_are_a_column_or_a_line_each() -> None:
    assert read_ids(write("c.txt", "007\r\n7\n\n a b \n"), "candidates", "item_id") == ["007", "7", " a b "]
    assert read_ids(write("c.csv", "title,item_id\nA,NA\nB,7\n"), "candidates", "item_id") == ["NA", "7"]
    with pytest.raises(DataError, match=r"candidates=c\.txt: is empty"):
        read_ids(write("c.txt", "\n"), "candidates", "item_id")


def test_a_history_has_values_and_times_and_query_items_count_as_newest() -> None:
    def known(data: list[float], kind: type) -> sp.csr_array:
        return sp.csr_array((np.array(data, kind), [2, 0], [0, 2, 2]), shape=(2, 4))

    values, times = known([5, 9], np.float32), known([70, 80], np.int64)
    raw = raw_queries(["u", "new"], histories=[["i2", "i3"], ["i1"]], ids=["a", "b"])
    queries, _ = resolve(raw, entities("u", "v"), entities("i0", "i1", "i2", "i3"), values, known([5, 9], np.float32),
                         times=times, given_value=6.0)
    # i2 counts at its last position, with the larger of its values.
    assert [list(queries.history[[q]].indices) for q in range(2)] == [[0, 2, 3], [1]]
    assert queries.history.data.tolist() == [9, 6, 6, 6]
    assert queries.times is not None
    assert queries.times.data.tolist() == [80, UNTIMED, UNTIMED, UNTIMED]
    assert queries.times.indices.tolist() == queries.history.indices.tolist()
    assert (queries.seen.data == 1).all()
