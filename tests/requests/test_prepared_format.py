"""Files given beside a model are read like the files of `prepare`, and in llmrec's own names too."""

import re

import pytest

from llmrec_cli.data.file_rules import FileRules, are_file_rules, file_rules_of
from llmrec_cli.errors import DataError
from llmrec_cli.requests.candidates import read_candidates
from llmrec_cli.requests.files import read_rows
from llmrec_cli.requests.new_interactions import read_new_interactions
from llmrec_cli.requests.queries import read_queries
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.formats import FormatSettings
from tests.ingest.preparing import Prepared, prepare_with, write

CLICKS = ("Kunde;Artikel;Menge;Datum;Kasse\n"
          + "".join(f"Jörg{n % 4};ä{n % 6};{n % 3 + 1},5;{n % 28 + 1:02}.10.2026;1\n" for n in range(40)))
ITEMS = "Artikel|Bezeichnung|Preis\n" + "".join(f"ä{n}|Schöner Stuhl {n}|{n},50\n" for n in range(6))
COLUMNS = {"user_id": "Kunde", "item_id": "Artikel", "value": "Menge", "timestamp": "Datum", "title": "Bezeichnung"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A German shop: two systems, umlauts in windows-1252, decimal commas."""
    folder = tmp_path_factory.mktemp("shop")
    return prepare_with(folder, FilesSettings(
        name="shop", interactions=str(write(folder, CLICKS.encode("windows-1252"), "kasse.csv")),
        items=str(write(folder, ITEMS.encode("windows-1252"), "artikel.csv")), columns=COLUMNS,
        timestamp_format="%d.%m.%Y", item_text="{Bezeichnung}", attributes={"Preis": "number"}))


@pytest.fixture
def rules(shop: Prepared) -> dict[str, FileRules]:
    return file_rules_of(shop.manifest)


def test_the_manifest_keeps_names_delimiters_encodings_and_decimal_signs_of_the_files(shop, rules):
    assert shop.manifest["file_rules"]["interactions"] == {
        "columns": COLUMNS, "all_columns": ["Kunde", "Artikel", "Menge", "Datum", "Kasse"],
        "format": {"delimiter": ";", "encoding": "windows-1252", "decimal": ","}, "time": "%d.%m.%Y"}
    assert rules["items"].format == FormatSettings(delimiter="|", encoding="windows-1252", decimal=",")
    assert file_rules_of({"file_rules": {role: one.to_dict() for role, one in rules.items()}}) == rules


def test_interactions_of_today_are_read_with_names_format_and_time_pattern_of_prepare(tmp_path, rules):
    # Too little to detect the encoding, and a column without effect that prepare did not need either.
    file = write(tmp_path, "Kunde;Artikel;Menge;Datum;Kasse\nJörg1;ä2;2,5;03.11.2026;7\n".encode("windows-1252"))
    new = read_new_interactions(str(file), {}, 1.0, rules)
    assert (list(new.user_ids), list(new.item_ids), list(new.values)) == (["Jörg1"], ["ä2"], [2.5])
    assert list(new.timestamps) == [1_793_664_000_000]  # 2026-11-03


@pytest.mark.parametrize("content", [
    "user_id,item_id,value,timestamp\nJörg1,ä2,2.5,2026-11-03\n",
    "Kunde\tArtikel\tMenge\tDatum\nJörg1\tä2\t2.5\t2026-11-03\n",
    "Kunde;Artikel;Menge;Datum\nJörg1;ä2;2,5;03.11.2026\n"])
def test_files_in_our_own_names_in_utf_8_or_with_another_delimiter_are_read_too(tmp_path, rules, content):
    new = read_new_interactions(str(write(tmp_path, content)), {}, 1.0, rules)
    assert (list(new.user_ids), list(new.item_ids), list(new.values)) == (["Jörg1"], ["ä2"], [2.5])
    assert list(new.timestamps) == [1_793_664_000_000]


def test_a_time_that_does_not_fit_the_pattern_of_the_others_is_named(tmp_path, rules):
    file = write(tmp_path, "Kunde;Artikel;Datum\na;b;03.11.2026\na;c;2026-11-03\n")
    with pytest.raises(DataError, match=r"line 3: timestamp '2026-11-03' is not a time in '%d\.%m\.%Y'"):
        read_new_interactions(str(file), {}, 1.0, rules)


def test_a_column_that_prepare_did_not_see_is_still_refused(tmp_path, rules):
    file = write(tmp_path, "Kunde;Artikel;Filiale\na;b;c\n")
    with pytest.raises(DataError, match="the column 'Filiale' has no effect"):
        read_new_interactions(str(file), {}, 1.0, rules)


def test_the_items_file_names_candidates_and_a_list_of_customers_names_queries(tmp_path, rules):
    items = write(tmp_path, ITEMS.encode("windows-1252"), "artikel.csv")
    assert list(read_candidates(str(items), rules=rules).items) == [f"ä{n}" for n in range(6)]
    per_user = write(tmp_path, "Kunde;Artikel\nJörg1;ä3\nJörg1;ä4\n".encode("windows-1252"), "c.csv")
    candidates = read_candidates(str(per_user), rules=rules)
    assert (candidates.column, list(candidates.ids), list(candidates.items)) == ("user_id", ["Jörg1"], ["ä3", "ä4"])
    queries = read_queries(str(write(tmp_path, "Kunde\nJörg1\nJörg2\n".encode("windows-1252"), "k.csv")), rules=rules)
    assert list(queries.user_ids) == ["Jörg1", "Jörg2"]


@pytest.mark.parametrize(("name", "content"), [
    ("q.csv", "Kunde;Artikel\nJörg1;ä3|ä4\nJörg2;\n"),
    ("q.jsonl", '{"Kunde": "Jörg1", "Artikel": ["ä3", "ä4"]}\n{"Kunde": "Jörg2", "Artikel": []}\n'),
    ("q.jsonl", '{"Kunde": "Jörg1", "item_id": ["ä3", "ä4"]}\n{"Kunde": "Jörg2"}\n')])
def test_the_shops_column_of_items_is_the_history_of_queries_and_it_is_said(tmp_path, rules, capsys, name, content):
    if "item_id" in content:
        rules = {"items": FileRules(), "interactions": FileRules({"user_id": "Kunde"})}
    queries = read_queries(str(write(tmp_path, content, name)), rules=rules)
    assert (list(queries.user_ids), list(queries.history), list(queries.offsets)) == (
        ["Jörg1", "Jörg2"], ["ä3", "ä4"], [0, 2, 2])
    assert re.search(r"the column '(Artikel|item_id)' is read as history", capsys.readouterr().err)


def test_a_history_of_queries_stays_the_history_beside_a_column_of_items(tmp_path, rules):
    with pytest.raises(DataError, match="unknown column 'Artikel'"):
        read_queries(str(write(tmp_path, "Kunde;history;Artikel\nJörg1;ä3;ä4\n")), rules=rules)


def test_columns_of_prepared_users_that_queries_do_not_use_are_named(tmp_path, capsys):
    rules = {"users": FileRules({"user_id": "Kunde"}, all_columns=("Kunde", "Stadt", "Alter"))}
    queries = read_queries(str(write(tmp_path, "Kunde,Alter,Stadt\nu1,30,Köln\n", "k.csv")), rules=rules)
    assert list(queries.user_ids) == ["u1"]
    assert "k.csv: columns not used in queries: Alter, Stadt; users=<file> adds users" in capsys.readouterr().err
    with pytest.raises(DataError, match="unknown column 'Filiale'"):
        read_queries(str(write(tmp_path, "Kunde,Filiale\nu1,7\n", "k.csv")), rules=rules)


def test_a_column_of_the_shop_comes_before_one_in_our_name_and_it_is_said(tmp_path, rules, capsys):
    file = write(tmp_path, "Artikel,item_id\nä1,i1\n")
    assert read_rows(str(file), "items", ("item_id",), rules=[rules["items"]]).columns["item_id"] == ["ä1"]
    assert "'Artikel' is read as item_id, as in the prepared files, and the column 'item_id' is not used" in \
        capsys.readouterr().err


def test_a_missing_column_is_named_as_in_the_prepared_files(tmp_path, rules):
    with pytest.raises(DataError, match="no column 'item_id', nor 'Artikel' as in the prepared files; there are sku"):
        read_rows(str(write(tmp_path, "sku\n1\n")), "items", ("item_id",), rules=[rules["items"]]).ids("item_id")


def test_files_without_a_header_stay_without_one_and_null_markers_of_prepare_are_nulls(tmp_path):
    rules = [FileRules(header=("user_id", "item_id", "price"), nulls={"price": ("nan",)})]
    rows = read_rows(str(write(tmp_path, "u,i,nan\n")), "items", ("user_id", "item_id"), rules=rules)
    assert rows.columns == {"user_id": ["u"], "item_id": ["i"], "price": [""]}
    rows = read_rows(str(write(tmp_path, "item_id,user_id\ni,u\n")), "items", ("user_id", "item_id"), rules=rules)
    assert rows.columns == {"user_id": ["u"], "item_id": ["i"]}


def test_arrays_and_objects_are_read_by_the_paths_of_prepare(tmp_path):
    rules = [FileRules({"user_id": "user.id", "item_id": "items[].sku"})]
    file = write(tmp_path, '{"user": {"id": "u"}, "items": [{"sku": "a"}, {"sku": "b"}]}\n', "events.jsonl")
    rows = read_rows(str(file), "interactions", ("user_id", "item_id"), rules=rules)
    assert (rows.columns["user_id"], rows.columns["item_id"]) == (["u", "u"], ["a", "b"])


@pytest.mark.parametrize("entry", [
    {"columns": {"user_id": 3}}, {"columns": {"nobody": "x"}}, {"format": {"encoding": "utf-99"}}, {"time": "%"},
    {"format": {"delimiter": ";;"}}, {"header": "user_id"}, {"strange": 1}, {"nulls": {"a": "b"}}, ["x"],
    {"format": {"skip_rows": True}}])
def test_damaged_rules_in_a_manifest_are_refused(entry):
    assert are_file_rules({"items": {}, "users": {"columns": {"user_id": "Kunde"}}})
    assert not are_file_rules({"items": entry})
    assert not are_file_rules({"others": {}})
