"""The fault matrix, data that looks right: exports whose files are whole and in another dialect."""

import gzip
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.faults.common import manifest_counts, prepared_ids, refused
from tests.some_slow import some_slow

MANY = "".join(f"u{n % 9},i{n % 7}\n" for n in range(40))


def rejects():
    """Return line, column and reason of the bad rows of what `prepared_ids` prepared."""
    rows = pq.read_table("data/prepared/fault/rejects.parquet").to_pylist()
    return [(row["line"], row["column"], row["reason"]) for row in rows]


@pytest.mark.parametrize(("name", "pack"), some_slow([("x.csv", bytes), ("x.csv.gz", gzip.compress)]))
@pytest.mark.parametrize("again", ["user_id,item_id\n", "\ufeffuser_id,item_id\r\n", '"user_id","item_id"\n',
                                   '\ufeff"user_id","item_id"\n', "user_id,item_id,\n"])
def test_80_a_repeated_header_is_rejected_with_its_line_and_stops_nothing(llmrec, name, pack, again):
    # gzip files that were joined are one file of two members.
    content = pack(f"user_id,item_id\n{MANY}".encode()) + pack(again.encode() + b"v,i\n" + again.encode() + b"w,i\n")
    ids = prepared_ids(llmrec, content, name=name)
    assert (len(ids), {"v", "w"} <= set(ids)) == (42, True)
    assert rejects() == [(42, "", "is the header again"), (44, "", "is the header again")]
    assert manifest_counts()["rejected"] == 2


def test_80_a_repeated_header_with_mapped_or_padded_columns_is_rejected_too(llmrec):
    again = "uid\t item\n"
    ids = prepared_ids(llmrec, again + MANY.replace(",", "\t") + again + "v\ti\n", "dataset.columns.user_id=uid",
                       "dataset.columns.item_id=item", name="x.tsv")
    assert "uid" not in ids
    assert rejects() == [(42, "", "is the header again")]


def test_80_headers_again_do_not_hide_rows_that_are_bad(llmrec):
    content = f"user_id,item_id\n{MANY}user_id,item_id\nu,\n"
    assert "1 of 42 rows (2.38%) are bad" in refused(llmrec, content)


def test_80_a_repeated_header_in_another_order_is_refused(llmrec):
    assert refused(llmrec, f"user_id,item_id\n{MANY}item_id,user_id\ni1,u1\n") == (
        "clicks.csv: line 42: repeats the header with the columns in another order, which the rows after it have too; "
        "split the file there, and name both files")


def test_80_an_item_named_like_a_column_is_kept(llmrec):
    assert len(prepared_ids(llmrec, f"user_id,item_id\n{MANY}u1,item_id\nuser_id,i1\n")) == 42


BOOKS = ('"ISBN";"Book-Title"\n"1";"Plain"\n"2";"Again: \\"The King\\"; vol 2"\n"3";"Ends \\\\"\n"4";"Die Mörder"\n')


def test_a_semicolon_separated_csv_is_distinguished_from_a_misplaced_quote(llmrec):
    ratings = '"User-ID";"ISBN"\n' + "".join(f'"u{n}";"{n % 4 + 1}"\n' for n in range(20))
    assert refused(llmrec, ratings, "dataset.delimiter=,") == (
        "clicks.csv: line 1: the header has a quote that is misplaced or never closed; its delimiter is ';', so set "
        "dataset.formats.interactions.delimiter=';'")


@pytest.mark.slow
def test_a_backslash_before_a_quote_names_the_setting_that_reads_it_and_it_does(llmrec):
    ratings = '"User-ID";"ISBN"\n' + "".join(f'"u{n}";"{n % 4 + 1}"\n' for n in range(20))
    # Detected if it makes all rows whole, so not with a row that is bad for another reason.
    Path("books.csv").write_bytes(f'{BOOKS}"5";"x";"y"\n'.encode("latin-1"))
    text = ["dataset.columns.user_id=User-ID", "dataset.columns.item_id=ISBN",
            "dataset.items=books.csv", "dataset.item_columns.title=Book-Title"]
    assert "if \\\" is a quote inside quotes, set dataset.formats.items.escape='\\'" in refused(
        llmrec, ratings, *text)
    Path("books.csv").write_bytes(BOOKS.encode("latin-1"))
    prepared_ids(llmrec, ratings, *text, "dataset.encoding=latin-1", "dataset.escape=\\")
    titles = pq.read_table("data/prepared/fault/items.parquet")["title"].to_pylist()
    assert titles == ["Plain", 'Again: "The King"; vol 2', "Ends \\", "Die Mörder"]
    prepared_ids(llmrec, ratings, *text)
    titles = pq.read_table("data/prepared/fault/items.parquet")["title"].to_pylist()
    assert titles == ["Plain", 'Again: "The King"; vol 2', "Ends \\", "Die Mörder"]


def test_an_escaped_n_is_a_field_without_a_value_as_mysql_writes_it(llmrec):
    rows = "user_id,item_id,value\n" + "".join(f"u{n},N{n},1\n" for n in range(20)) + "u1,\\N,1\n\\N,N1,1\n"
    ids = prepared_ids(llmrec, rows, "dataset.escape=\\", "dataset.max_reject_share=0.1")
    assert "N" not in ids
    assert rejects() == [(22, "item_id", "is empty"), (23, "user_id", "is empty")]


@pytest.mark.parametrize(("name", "pack"), [("my reviews.json", bytes), ("reviews.json.gz", gzip.compress)])
def test_lines_of_python_are_named_and_the_command_that_converts_them_works(llmrec, name, pack):
    rows = [{"user_id": f"u{n}", "item_id": "i'1", "early": False, "note": None, "text": "ça \"va\""} for n in range(9)]
    message = refused(llmrec, pack("\n".join(map(repr, rows)).encode()), name=name)
    text, command = message.split("\n")
    assert text == (f"{name}: line 1 and all others are Python dictionaries, not JSON; convert the file and name "
                    f"the new one:")
    command = command.strip().replace("python3", shlex.quote(sys.executable), 1)
    subprocess.run(["bash", "-c", command], check=True)
    converted = f"{Path(name.removesuffix('.gz')).stem}.converted.jsonl"
    assert [json.loads(line) for line in Path(converted).read_text().splitlines()] == rows
    assert len(prepared_ids(llmrec, Path(converted).read_bytes(), name="again.jsonl")) == 9


def test_a_line_of_python_among_json_is_a_bad_row_that_says_so(llmrec):
    rows = [json.dumps({"user_id": f"u{n}", "item_id": "i"}) for n in range(40)]
    prepared_ids(llmrec, "\n".join([*rows, "{'user_id': 'v', 'item_id': 'i'}"]), "dataset.max_reject_share=0.1",
                 name="x.jsonl")
    assert rejects() == [(41, "", "not JSON but a Python dictionary")]


def test_leaving_out_most_rows_is_never_advised(llmrec):
    content = "user_id,item_id\n" + "u,i\n" * 10 + "u,\n" * 20
    message = refused(llmrec, content)
    assert "20 of 30 rows (66.67%) are bad" in message
    assert "set dataset.max_reject_share" not in message
    assert message.endswith("20 of them: item_id is empty; probably a setting is wrong and not the rows: map a column "
                            "that is filled with dataset.columns.item_id=<name>, or leave these rows out of the export")


@pytest.mark.parametrize(("row", "advice"), [
    ("u,i,1,2\n", "4 fields where the header has 3; probably a setting is wrong and not the rows: compare the format "
                  "with the file: dataset.formats.interactions.delimiter, quote, escape and skip_rows"),
    ("u,i,many\n", "value is not a number; probably a setting is wrong and not the rows: map dataset.columns.value to "
                   "a column of numbers, or remove that column or mapping")])
def test_above_a_twentieth_of_bad_rows_the_cause_is_named(llmrec, row, advice):
    message = refused(llmrec, "user_id,item_id,value\n" + "u,i,1\n" * 30 + row * 2, "dataset.duplicates=sum")
    assert message.endswith(f"2 of them: {advice}")
