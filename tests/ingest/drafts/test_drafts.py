"""Drafted settings: what files and columns are, by their names in six languages and by their values."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.drafts import samples
from llmrec_cli.ingest.drafts.draft import Draft, draft_settings
from llmrec_cli.ingest.drafts.names import event_weight, meaning_of
from llmrec_cli.ingest.drafts.roles import assign_roles
from llmrec_cli.ingest.drafts.samples import read_sample
from llmrec_cli.plain_yaml import parse_yaml
from tests.ingest.preparing import write


def drafted(folder: Path, **files: str) -> tuple[dict[str, Any], str]:
    """Return the settings below `dataset` for files (name without .csv -> content), and the YAML without folders."""
    paths = [write(folder, content, f"{name}.csv") for name, content in files.items()]
    text = draft_settings("shop", assign_roles([read_sample(path) for path in paths])).to_yaml("x")
    text = text.replace(f"{folder}/", "")
    return parse_yaml(text, "shop.yaml")["dataset"], text


def rows(header: str, *values: Any, num: int = 120) -> str:
    """Return a file with random values: each of `values` is a function of the row number and a random generator."""
    draw = random.Random(5)
    return header + "\n" + "".join(",".join(str(value(n, draw)) for value in values) + "\n" for n in range(num))


def user(n: int, draw: random.Random) -> str:
    return f"u{draw.randrange(20)}"


def item(n: int, draw: random.Random) -> str:
    return f"p{draw.randrange(30)}"


def second(n: int, draw: random.Random) -> int:
    return 1_700_000_000 + n


def catalogue(header: str = "item_id,title") -> str:
    return rows(header, lambda n, _: f"p{n}", lambda n, _: f"A long enough title {n}", num=30)


@pytest.mark.parametrize(("name", "ours"), [
    ("User-ID", "user_id"), ("customer_number", "user_id"), ("用户编号", "user_id"), ("Kundennr.", "user_id"),
    ("顧客番号", "user_id"), ("id_cliente", "user_id"), ("N° client", ""), ("user.id", "user_id"),
    ("SKU", "item_id"), ("商品编码", "item_id"), ("Artikel-Nr", "item_id"), ("品番", "item_id"),
    ("id_producto", "item_id"),
    ("référence", "item_id"), ("items[].sku", "item_id"), ("items[].product.id", "item_id"), ("下单时间", "timestamp"),
    ("Bestelldatum", "timestamp"), ("購入日時", "timestamp"), ("fecha", "timestamp"), ("评分", "rating"),
    ("Stückzahl", "quantity"), ("行为类型", "event"), ("商品名称", "title"), ("household_id", "group_id"),
    ("codice_prodotto", "item_id"), ("Číslo zákazníka", "user_id"), ("дата заказа", "timestamp"),
    ("고객번호", "user_id"), ("klantnummer", "user_id"), ("device.设备号", "user_id"), ("新闻.编号", "item_id"),
    ("colour", "")])
def test_names_of_columns_are_known_in_many_languages(name: str, ours: str) -> None:
    assert meaning_of(name) == ours


@pytest.mark.parametrize(("event", "weight"), [
    ("view", 1), ("Add To Cart", 3), ("购买", 5), ("Warenkorb", 3), ("お気に入り", 2), ("compra", 5), ("退货", -5),
    ("vratka", -5), ("不感兴趣", -5), ("阅读", 1), ("prodej", 5), ("spin", None)])
def test_events_have_weights_in_several_languages(event: str, weight: float | None) -> None:
    assert event_weight(event) == weight


def test_files_without_telling_names_are_told_apart_by_their_ids(tmp_path: Path) -> None:
    settings, text = drafted(tmp_path, b=catalogue("key,words"), a=rows("x,y,z", user, item, second),
                             c=rows("who,town", lambda n, _: f"u{n}", lambda n, _: f"t{n % 3}", num=20))
    assert {key: settings[key] for key in ("interactions", "items", "users")} == {
        "interactions": "a.csv", "items": "b.csv", "users": "c.csv"}
    assert settings["columns"] == {"user_id": "x", "item_id": "y", "timestamp": "z"}
    assert settings["item_columns"] == {"item_id": "key"}
    assert settings["user_columns"] == {"user_id": "who"}
    assert "# unsure: user_id: 'x' by its values, since its name says nothing" in text


def test_ratings_are_opinions_and_quantities_add_up(tmp_path: Path) -> None:
    ratings, text = drafted(tmp_path, a=rows("user_id,item_id,rating", user, item, lambda n, draw: draw.randint(1, 5)))
    assert (ratings["feedback"], ratings["min_value"], ratings["columns"]) == ("explicit", 4, {"value": "rating"})
    assert "split: random" in text
    bought, _ = drafted(tmp_path, a=rows("user_id,item_id,qty", user, item, lambda n, draw: draw.randint(1, 9),
                                         num=600))
    assert (bought["feedback"], bought["duplicates"]) == ("implicit", "sum")


def test_events_have_weights_and_unknown_events_are_unsure(tmp_path: Path) -> None:
    events = ["view", "view", "cart", "purchase", "spin"]
    settings, text = drafted(tmp_path, a=rows("user_id,item_id,type", user, item, lambda n, draw: draw.choice(events)))
    assert settings["event_weights"] == {"view": 1, "cart": 3, "purchase": 5, "spin": 1}
    assert settings["columns"] == {"event": "type"}
    assert "# unsure: the meaning of spin; a return or a dislike needs a weight below 0" in text


def test_a_column_of_types_or_of_times_is_not_taken_for_the_users(tmp_path: Path) -> None:
    kinds = ["receipt", "invoice", "note"]
    settings, _ = drafted(tmp_path, a=rows("kind,moment,buyer_x,item_id", lambda n, draw: draw.choice(kinds),
                                           lambda n, _: f"2024-03-{1 + n % 28:02} 10:00", user, item, num=600))
    assert settings["columns"]["user_id"] == "buyer_x"


@pytest.mark.parametrize(("time", "expected", "comment"), [
    (lambda n, _: f"{1 + n % 12:02}/{1 + n % 12:02}/2024", {"timestamp_format": "%d/%m/%Y"},
     "# unsure: day and month may be swapped or %m/%d/%Y"),
    (lambda n, _: f"{13 + n % 12:02}.03.2024 10:22", {"timestamp_format": "%d.%m.%Y %H:%M"}, "# times such as"),
    (lambda n, _: 45000 + n, {"timestamp_unit": "excel"}, "# unsure: may also be an order"),
    (lambda n, _: 20240101 + n % 20, {"timestamp_format": "%Y%m%d"}, "# times such as"),
    (lambda n, _: 1_700_000_000_000 + n, {}, "# times: milliseconds since 1970"),
    (lambda n, _: f"2024-03-{1 + n % 28:02}T10:22:00Z", {}, "# times: ISO 8601")])
def test_times_are_drafted_with_their_form(tmp_path: Path, time: Any, expected: dict[str, str], comment: str) -> None:
    settings, text = drafted(tmp_path, a=rows("user_id,item_id,date", user, item, time))
    assert {key: value for key, value in settings.items() if key.startswith("timestamp_")} == expected
    assert settings["columns"] == {"timestamp": "date"}
    assert comment in text
    assert "split: leave_last_out" in text


def test_items_get_a_text_and_attributes_but_no_pictures_codes_and_times(tmp_path: Path) -> None:
    items = rows("sku,name,genres,year,image,code,added,about", lambda n, _: f"p{n}", lambda n, _: f"Film {n}",
                 lambda n, _: f"a{n % 3}|b{n % 4}", lambda n, _: 1980 + n % 30, lambda n, _: f"https://x.org/{n}.jpg",
                 lambda n, _: 4_000_000_000_000 + n, lambda n, _: f"2024-01-{1 + n % 28:02}",
                 lambda n, _: f"A story about {n} people who meet", num=30)
    settings, _ = drafted(tmp_path, a=rows("user_id,sku", user, item), items=items)
    assert settings["item_text"] == "{name}. {about}"
    assert settings["attributes"] == {"genres": "list", "year": "number"}
    assert (settings["columns"], settings["item_columns"]) == ({"item_id": "sku"}, {"title": "name"})
    assert settings["list_separator"] == "|"


def test_groups_are_found_too(tmp_path: Path) -> None:
    members = rows("household,user_id", lambda n, _: f"h{n // 2}", lambda n, _: f"u{n}", num=20)
    settings, _ = drafted(tmp_path, a=rows("user_id,item_id", user, item), members=members)
    assert (settings["interactions"], settings["groups"]) == ("a.csv", "members.csv")


def test_files_without_users_and_items_are_refused_with_their_columns(tmp_path: Path) -> None:
    message = r"no file has a column of users and a column of items; .*\n  .*a\.csv: item_id, title"
    with pytest.raises(DataError, match=message):
        drafted(tmp_path, a=catalogue())


def test_titles_in_the_interactions_make_items_without_a_file_of_items(tmp_path: Path) -> None:
    settings, text = drafted(tmp_path, a=rows("user_id,item_id,qty,name", user, item, second, lambda n, _: f"Shoe {n}"))
    assert (settings["items"], settings["item_text"]) == ("a.csv", "{name}")
    assert settings["item_columns"] == {"title": "name"}
    assert "attributes" not in settings, "they are of the interactions"
    assert "# unsure: a.csv: is read as the items too" in text


def test_files_that_divide_the_interactions_are_a_given_split(tmp_path: Path) -> None:
    part = rows("user_id,item_id", user, item)
    settings, text = drafted(tmp_path, my_train=part, my_test=part)
    assert (settings["train"], settings["test"], settings.get("interactions")) == ("my_train.csv", "my_test.csv", None)
    assert "split: given" in text
    both, text = drafted(tmp_path, may=part, june=part.replace("user_id", "uid"))
    assert both["interactions"] == ["may.csv", "june.csv"]
    assert "# unsure: june.csv: its columns differ from those of may.csv" in text


def test_rows_that_prepare_will_reject_are_announced(tmp_path: Path) -> None:
    _, text = drafted(tmp_path, a=rows("user_id,item_id,rating", lambda n, draw: user(n, draw) if n % 4 else "", item,
                                       lambda n, _: "n/a" if n == 7 else n % 5))
    assert "# unsure: a.csv: 'user_id' is empty in 30 rows of 120, which are bad rows without user_id" in text
    assert "# unsure: a.csv: 'rating' is not a number in 1 rows of 120" in text
    assert "`prepare` refuses the file with 26% bad rows: if another column is the user_id, set dataset.columns" in text
    assert "and if they may be left out, dataset.max_reject_share=0.26" in text
    assert "  max_reject_share" not in text


def test_few_bad_rows_are_counted_once_and_the_share_is_written(tmp_path: Path) -> None:
    bad = rows("user_id,item_id,rating", lambda n, draw: user(n, draw) if n not in (5, 70) else "",
               lambda n, draw: item(n, draw) if n != 5 else "", lambda n, _: n % 5)
    settings, text = drafted(tmp_path, a=bad + "u1\n", items=catalogue() + ",A title without an id\n")
    assert settings["max_reject_share"] == 0.04
    assert ("# unsure: bad rows: 3 of 121 rows of a.csv and 1 of 31 rows of items.csv; remove this once they are "
            "repaired") in text
    assert "# unsure: a.csv: 1 rows cannot be read and are bad rows" in text
    sound, text = drafted(tmp_path, a=rows("user_id,item_id", user, item))
    assert ("max_reject_share" in sound, "unsure" in text) == (False, False)


def test_bad_rows_of_a_long_file_are_said_to_be_those_of_its_first_rows(tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "MOST_ROWS", 100)
    _, text = drafted(tmp_path, a=rows("user_id,item_id", lambda n, draw: user(n, draw) if n != 5 else "", item))
    assert "# unsure: bad rows: 1 of the first 100 rows of a.csv; remove this" in text


def test_events_without_an_item_get_weight_0_and_their_rows_are_not_bad(tmp_path: Path) -> None:
    events = ["view", "app_open", "buy", "spin"]
    clicks = rows("user_id,item_id,type", user, lambda n, draw: "" if n % 4 == 1 else item(n, draw),
                  lambda n, _: events[n % 4])
    settings, text = drafted(tmp_path, a=clicks)
    assert settings["event_weights"] == {"view": 1, "app_open": 0, "buy": 5, "spin": 1}
    assert ("bad row" in text, "the meaning of spin" in text) == (False, True)


@pytest.mark.parametrize(("last", "name"), [
    ("Summe,,,480", "Summe"), (",,合计,480", "合计"), ("Total:,,,4.803", "Total:"), (",,,480", "480"),
    ("u1,,,480", ""), (",,x,480", ""),
    ("Celkem,,,7 460 Kč", "Celkem"), ("Total,Total,,480", "")])
def test_a_last_row_with_totals_is_named(tmp_path: Path, last: str, name: str) -> None:
    _, text = drafted(tmp_path, a=rows("user_id,item_id,shop,qty", user, item, item, lambda n, _: n % 5) + last + "\n")
    assert (f"# unsure: a.csv: the last row is a total ('{name}'), which `prepare` leaves out" in text) == bool(name)
    assert ("is a total" in text) == bool(name)
    assert not (name and "bad row" in text)


def test_an_export_with_empty_rows_of_a_spreadsheet_is_drafted(tmp_path: Path) -> None:
    file = tmp_path / "moves.csv"
    file.write_text("Moves of 2025;;;\n;;;\nuser_id;item_id;qty;day\n1;7;2;a\n;;;\n2;8;1;b\n;;;\n", "utf-8")
    sample = read_sample(file)
    assert list(sample.columns) == ["user_id", "item_id", "qty", "day"]
    assert (sample.num_rows, sample.num_unread) == (2, 0)


@pytest.mark.parametrize(("text", "said"), [
    ("a;b\n;\n", "line 1 was read as the header ('a', 'b'), and no line after it is filled"),
    ("Moves;all\na;b;c\n1;2;3\n", "line 1 was read as the header ('Moves', 'all'), and the first lines that cannot be "
                                  "read are line 2: 3 fields where the header has 2; line 3")])
def test_a_file_without_rows_is_refused_with_its_lines_and_the_setting(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "moves.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(DataError, match=re.escape(said)) as error:
        read_sample(file)
    assert "dataset.formats.<files>.skip_rows=" in str(error.value)


def test_a_file_of_nothing_known_is_not_used_and_named(tmp_path: Path) -> None:
    settings, text = drafted(tmp_path, a=rows("user_id,item_id", user, item), b="k,v\n1,2\n3,4\n")
    assert "b.csv" not in str(settings)
    assert "# unsure: b.csv: has no column whose ids are in the interactions; it is not used" in text


def test_names_with_line_breaks_and_braces_stay_data(tmp_path: Path) -> None:
    odd = '"a\nsplit: none","b: #",{c}\n' + "".join(f"u{n % 7},i{n % 9},{n}\n" for n in range(99))
    settings, text = drafted(tmp_path, a=odd)
    assert settings["columns"] == {"user_id": "a\nsplit: none", "item_id": "b: #"}
    assert parse_yaml(text, "x")["split"] == "random"


def test_a_draft_without_anything_unsure_says_so() -> None:
    draft = Draft()
    draft.add("name", "1e5", "a comment", "a doubt")
    assert draft.to_yaml("llmrec prepare").splitlines()[2:] == [
        "dataset:", "  # a comment", "  # unsure: a doubt", "  name: '1e5'", "split: random"]


def prices(form: str, delimiter: str = ";") -> str:
    """Return a file of items with prices, such as 12,50; `form` is what is around a price."""
    return f"item_id{delimiter}title{delimiter}price\n" + "".join(
        f"p{n}{delimiter}Shoe {n}{delimiter}{form.format(f'{n * 7 % 90:02},{n * 3 % 20 * 5:02}')}\n" for n in range(60))


@pytest.mark.parametrize("form", ["{}", "{} €", "€ {}", "EUR {}", "{}\u00a0€", "{} kg", "1.2{} Euro",
                                  "7 4{} Kč", "7\u00a04{}\u00a0Kč", "7\u202f4{}"])
def test_a_decimal_comma_separates_no_list(tmp_path: Path, form: str) -> None:
    settings, text = drafted(tmp_path, a=rows("user_id,item_id", user, item), items=prices(form))
    assert settings["attributes"] == {"price": "number"}
    assert settings["formats"]["items"]["decimal"] == ","
    assert "list_separator" not in settings
    assert "unsure" not in text


def test_blanks_between_the_thousands_of_a_value_are_no_bad_rows(tmp_path: Path) -> None:
    settings, text = drafted(tmp_path, items=prices("{}"), a="user_id;item_id;rating\n" + "".join(
        f"u{n % 9};p{n % 7};{n % 5 + 1} {n + 100},50\n" for n in range(90)))
    assert settings["columns"] == {"value": "rating"}
    assert "bad rows" not in text


def test_a_decimal_comma_in_quotes_between_commas_is_written_into_the_draft(tmp_path: Path) -> None:
    settings, text = drafted(tmp_path, a=rows("user_id,item_id", user, item), items=prices('"{} €"', ","))
    assert (settings["attributes"], settings["formats"]) == ({"price": "number"}, {"items": {"decimal": ","}})
    assert "# unsure: 'price' of items.csv has decimal commas; remove decimal if its commas separate a list" in text


@pytest.mark.parametrize(("values", "kind"), [
    (lambda n, _: f"${n % 25 + 3}.50", "number"), (lambda n, _: f'"¥ {n % 25 + 3},299.00"', "number"),
    (lambda n, _: f"{n % 25 + 3} 500", "number"), (lambda n, _: f"{n % 25 + 3}\u00a0299 Kč", "number"),
    (lambda n, _: f'"{n % 9},{n % 7},{n % 5}"', "list"), (lambda n, _: f"{n % 7} {'kg' if n % 2 else 'g'}", "category"),
    (lambda n, _: f"{n % 7}d", "category")])
def test_numbers_of_one_unit_are_numbers_and_lists_stay_lists(tmp_path: Path, values: Any, kind: str) -> None:
    items = rows("item_id,title,x", lambda n, _: f"p{n}", lambda n, _: f"Shoe {n}", values)
    settings, _ = drafted(tmp_path, a=rows("user_id,item_id", user, item), items=items)
    assert settings["attributes"] == {"x": kind}


@pytest.mark.parametrize(("title", "encoder"), [
    (lambda n, _: f"Grüner Topf {n}" if n % 8 == 0 else f"Topf {n}", "lsa"), (lambda n, _: f"运动鞋 {n}", "lsa"),
    (lambda n, _: f"Кастрюля {n}", "lsa"), (lambda n, _: f"Green pot {n}", None),
    (lambda n, _: f"Café cup {n}" if n % 50 == 0 else f"Cup – 5 € {n}", None)])
def test_texts_that_are_not_english_get_an_encoder_that_reads_any_language(tmp_path: Path, title: Any,
                                                                          encoder: str | None) -> None:
    items = rows("item_id,title", lambda n, _: f"p{n}", title)
    _, text = drafted(tmp_path, a=rows("user_id,item_id", user, item), items=items)
    assert parse_yaml(text, "x").get("encoder") == encoder
    comment = ("# MiniLM reads English only; lsa learns from your texts; e5 reads 100 languages (a download of 95 MB)\n"
               "encoder: lsa\n")
    assert text.endswith(comment) == bool(encoder)
    assert ("MiniLM" in text) == bool(encoder)


def test_items_in_an_array_are_no_missing_items(tmp_path: Path) -> None:
    lines = [json.dumps({"user_id": f"u{n % 9}", "item_id": [f"p{n % 7}", f"p{n % 5}"], "type": ("view", "buy")[n % 2]})
             for n in range(60)]
    path = write(tmp_path, "\n".join(lines) + "\n", "a.jsonl")
    text = draft_settings("shop", assign_roles([read_sample(path)])).to_yaml("x")
    assert parse_yaml(text, "x")["dataset"]["event_weights"] == {"view": 1, "buy": 5}
    assert "bad row" not in text
