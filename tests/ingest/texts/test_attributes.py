"""Numbers as attributes: classes of equal size, fitted on training."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.texts.attributes import class_of, number_of
from tests.ingest.describing import described
from tests.some_slow import some_slow

PRICE = {"price": "number"}
PRICED = "item_id,price\n" + "".join(f"i{n:02},{n}\n" for n in range(1, 21))
TWENTY = {f"i{n:02}": 0 for n in range(1, 21)}


def test_numbers_are_in_ten_classes_of_equal_size(tmp_path: Path) -> None:
    result = described(tmp_path, PRICED, TWENTY, attributes=PRICE)
    assert result.column("attributes") == [[f"price=q{(n + 1) // 2}"] for n in range(1, 21)]
    assert result.column("price") == [str(n) for n in range(1, 21)]
    assert result.texts["item"]["edges"] == {"price": [2, 4, 6, 8, 10, 12, 14, 16, 18]}


def test_held_out_data_does_not_change_the_classes(tmp_path: Path) -> None:
    ranks = TWENTY | {f"i{n:02}": 1 + n % 3 for n in range(11, 21)}
    result = described(tmp_path, PRICED, ranks, attributes=PRICE)
    assert result.texts["item"]["edges"] == {"price": [1, 2, 3, 4, 5, 6, 7, 8, 9]}
    assert {row["item_id"]: row["attributes"] for row in result.rows}["i20"] == ["price=q10"]


def test_equal_numbers_share_a_class_so_there_may_be_fewer(tmp_path: Path) -> None:
    rows = [(f"i{n:02}", 0 if n < 17 else n) for n in range(1, 21)]
    result = described(tmp_path, "item_id,price\n" + "".join(f"{i},{p}\n" for i, p in rows), TWENTY, attributes=PRICE)
    assert result.texts["item"]["edges"] == {"price": [0, 18]}
    assert [a[0] for a in result.column("attributes")] == ["price=q1"] * 16 + ["price=q2"] * 2 + ["price=q3"] * 2
    one = described(tmp_path, "item_id,price\na,7\n", {"a": 0, "b": 0}, attributes=PRICE)
    assert (one.texts["item"]["edges"], one.column("attributes")) == ({"price": []}, [["price=q1"], []])


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    lines = [f"i{n:02},{math.sin(n) * 10 ** (n % 7)}\n" for n in range(1, 21)] + ["z1,-0.0\n", "z2,0.0\n"]
    ranks = TWENTY | {"z1": 0, "z2": 0}
    expected = described(tmp_path, "item_id,price\n" + "".join(lines), ranks, attributes=PRICE)
    for seed in range(3):
        random.Random(seed).shuffle(lines)
        result = described(tmp_path, "item_id,price\n" + "".join(lines), ranks, attributes=PRICE)
        assert (result.content, result.texts) == (expected.content, expected.texts)
    assert "-0.0" not in json.dumps(expected.texts)


@pytest.mark.audited
def test_83_a_value_that_is_not_a_number_empties_its_cell_not_its_row(tmp_path: Path) -> None:
    values = ["1", "abc", "", "nan", "1.5e3", " 2 ", "1e999", "#5", "7", "8", "9", "12d", " "]
    file = "item_id,price,brand\n" + "".join(f"{chr(97 + n)},{value},B\n" for n, value in enumerate(values))
    result = described(tmp_path, file, {chr(97 + n): 0 for n in range(len(values))}, item_text="{price} {brand}",
                      attributes=PRICE | {"brand": "category"})
    assert result.rejects == []
    assert (result.counts["items_rejected"], result.counts["items_values_unread"]) == (0, 5)
    assert {row["item_id"]: row["attributes"][1:] for row in result.rows if len(row["attributes"]) == 2} == {
        "a": ["price=q1"], "e": ["price=q6"], "f": ["price=q2"], "i": ["price=q3"], "j": ["price=q4"],
        "k": ["price=q5"]}
    assert result.column("price") == values
    assert result.rows[1]["text"] == "abc B"
    assert result.notes == [f"5 of 11 values of 'price' are not numbers, so these items do not get this attribute; "
                           f"the first is 'abc' ({tmp_path}/about.csv, line 3): it has no digit; leave the cell empty "
                           f"where there is no number"]


_ALONE = "it is more than a number with a currency sign or unit; write the number alone, as in 1234.5"


def after(text: str) -> str:
    """Return the problem of a number with an unknown text after it."""
    return f"'{text}' after the number is no currency sign or unit that is known; leave it out"


@pytest.mark.audited
@pytest.mark.parametrize(("text", "problem"), some_slow([
    ("nan", "it has no digit; leave the cell empty where there is no number"), ("1_000", after("_000")),
    ("１", "its digits are not those of ASCII; write 0 to 9"),
    ("inf", "it has no digit; leave the cell empty where there is no number"),
    ("1e999", "it is too large, or its points and commas are not those of one number; write 1234.5"),
    ("0x10", after("x10")), ("12d", after("d")), ("#5", _ALONE), ("12-15", after("-15")), ("12 Stk", after("Stk")),
    ("1.2.3", "it is too large, or its points and commas are not those of one number; write 1234.5"),
    ("39,67", "it has a decimal comma; set dataset.decimal=',', or export numbers with a decimal point: 39.67 for "
              "'39,67'")], 3))
def test_a_column_with_few_numbers_gives_a_warning_with_what_is_wrong(tmp_path: Path, text: str, problem: str) -> None:
    result = described(tmp_path, f'item_id,price,size\na,"{text}",\nb,"{text}",\n', {"a": 0, "b": 0},
                      attributes=PRICE | {"size": "number"})
    assert result.column("attributes") == [[], []]
    assert result.warnings == [f"2 of 2 values of 'price' are not numbers, so these items do not get this attribute; "
                              f"the first is '{text}' ({tmp_path}/about.csv, line 2): {problem}; if no numbers are "
                              f"meant, set dataset.attributes.price=category"]


@pytest.mark.parametrize(("text", "number", "unit"), [
    ("66.12 €", 66.12, "EUR"), ("€ 66.12", 66.12, "EUR"), ("$12.50", 12.5, "USD"), ("￥299", 299, "¥"),
    ("¥ 1,299.00", 1299, "¥"), ("12 EUR", 12, "EUR"), ("CHF 5.-", 5, "CHF"), ("CHF 1'299.50", 1299.5, "CHF"),
    ("Fr. 5.50", 5.5, "CHF"), ("12\u00a0€", 12, "EUR"), ("-$5", -5, "USD"), ("$-5", -5, "USD"), ("3 元", 3, "CNY"),
    ("7 460.00 Kč", 7460, "CZK"), ("1\u00a0299\u00a0Kč", 1299, "CZK"), ("€ 1\u202f234\u202f567.5", 1234567.5, "EUR"),
    ("$1,299", 1299, "USD"), ("R$ .5", 0.5, "BRL"), (" 5 kr. ", 5, "kr"), ("500 g", 500, "g"), ("20%", 20, "%")])
def test_a_currency_sign_or_unit_around_a_number_is_ignored_and_said(tmp_path: Path, text: str, number: float,
                                                                     unit: str) -> None:
    assert number_of(text) == number
    lower = f"{number - 1}"
    result = described(tmp_path, f'item_id,price\na,"{text}"\nb,{lower}\n', {"a": 0, "b": 0}, attributes=PRICE)
    assert result.texts["item"]["edges"] == {"price": [number - 1]}
    assert result.column("attributes") == [["price=q2"], ["price=q1"]]
    what = "units" if unit in ("g", "%") else "currency signs"
    assert result.notes[0] == f"{what} of 'price' are ignored: {unit} (1)"
    grouped = [f"1 values of 'price' have separators of thousands, which are ignored; one is '{text}'"]
    assert result.notes[1:] == grouped * (number > 1000)


@pytest.mark.parametrize("text", ["-$-5", "1e5 €", "€", "$ 1,29", "12 € 5", "1,299", "5 €/kg", "12 eur",
                                  "12 50", "1 2345", "0 123", "1  299", "1 299,500", "12 500 500 5"])
def test_other_texts_with_signs_are_no_numbers(text: str) -> None:
    assert number_of(text) is None


def test_different_currencies_are_counted_and_warned_of(tmp_path: Path) -> None:
    file = "item_id,price\na,5 €\nb,6 EUR\nc,$7\nd,8\n"
    result = described(tmp_path, file, {"a": 0, "b": 0, "c": 0, "d": 0}, attributes=PRICE)
    assert result.notes == []
    assert result.warnings == ["'price' has different currency signs: EUR (2), USD (1); its numbers "
                               "are compared without them, so write all of them in one"]


def test_decimal_commas_with_a_currency_sign_are_read(tmp_path: Path) -> None:
    file = "item_id;price\na;1.299,50 €\nb;€ 66,12\nc;5,- €\nd;5\n"
    result = described(tmp_path, file, {"a": 0, "b": 0, "c": 0, "d": 0}, attributes=PRICE)
    assert result.texts["item"]["edges"] == {"price": [5, 66.12]}
    assert result.column("price") == ["1299.50 €", "€ 66.12", "5.- €", "5"]


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u202f"])
def test_blanks_between_thousands_are_read_and_counted(tmp_path: Path, blank: str) -> None:
    file = (f"item_id;price;stock\na;7{blank}460,00{blank}Kč;12{blank}500\nb;1{blank}299{blank}Kč;7\n"
            f"c;735,00{blank}Kč;9{blank}234{blank}567\nd;-2{blank}000,5 Kč;8\n")
    result = described(tmp_path, file, dict.fromkeys("abcd", 0), attributes={"price": "number", "stock": "number"})
    assert result.texts["item"]["edges"] == {"price": [-2000.5, 735, 1299], "stock": [7, 8, 12500]}
    assert result.warnings == []
    assert [note for note in result.notes if "thousands" in note] == [
        f"3 values of 'price' have separators of thousands, which are ignored; one is '7{blank}460.00{blank}Kč'",
        f"2 values of 'stock' have separators of thousands, which are ignored; one is '9{blank}234{blank}567'"]


@given(st.one_of(st.floats(), st.integers()).map(str))
def test_python_reads_the_numbers_it_writes(text: str) -> None:
    expected = float(text) if math.isfinite(float(text)) else None
    assert number_of(text) == expected


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, unique=True).map(sorted), st.data())
def test_a_class_ends_with_its_edge(edges: list[float], data: st.DataObject) -> None:
    value = data.draw(st.sampled_from(edges) | st.floats(allow_nan=False, allow_infinity=False))
    assert class_of(value, edges) == 1 + sum(edge < value for edge in edges)


def test_an_image_is_kept_as_it_came_and_is_no_text(tmp_path: Path) -> None:
    file = "item_id,title,cover,more\na,Alien,<b>/covers/a&amp;b .jpg,words\n"
    result = described(tmp_path, file, {"a": 0}, attributes={"cover": "image", "more": "text"})
    assert result.rows[0]["cover"] == "<b>/covers/a&amp;b .jpg"
    assert (result.rows[0]["text"], result.rows[0]["attributes"]) == ("Alien. words", [])
    with pytest.raises(ConfigError, match=r"^dataset\.item_text=\{title\} \{cover\}: 'cover' is an image by "
                                          r"dataset\.attributes and cannot be part of a text; remove it$"):
        described(tmp_path, file, {"a": 0}, attributes={"cover": "image"}, item_text="{title} {cover}")
    with pytest.raises(ConfigError, match="the title must be text, not an image"):
        described(tmp_path, file, {"a": 0}, attributes={"title": "image"})


def test_a_text_is_no_attribute_but_templates_use_it(tmp_path: Path) -> None:
    file = "item_id,title,plot\na,Alien,<p>In space</p><p>no one.</p>\n"
    result = described(tmp_path, file, {"a": 0}, attributes={"plot": "text"}, item_text="{title}: {plot}")
    assert (result.rows[0]["text"], result.rows[0]["attributes"]) == ("Alien: In space no one.", [])
    assert result.rows[0]["plot"] == "<p>In space</p><p>no one.</p>"


def test_categories_and_lists_lose_their_html(tmp_path: Path) -> None:
    file = "item_id,title,kind,tags\na,R&amp;B &lt;3,<b>Soul</b> &amp; Blues,x &amp; y; <i>z</i>;z\nb&amp;,,<br>,\n"
    settings = {"attributes": {"kind": "category", "tags": "list"}, "list_separator": ";"}
    result = described(tmp_path, file, {"a": 0, "b&amp;": 0}, item_text="{title} {item_id}", **settings)
    assert result.column("attributes") == [["kind=Soul & Blues", "tags=x & y", "tags=z"], []]
    assert result.column("title") == ["R&B <3", "b&amp;"]
    assert result.column("text") == ["R&B <3 a", "b&amp;"]
    assert result.rows[0]["kind"] == "<b>Soul</b> &amp; Blues"
    remaining = described(tmp_path, file, {"a": 0}, strip_html=False, **settings)
    assert remaining.rows[0]["title"] == "R&amp;B &lt;3"
    assert remaining.rows[0]["attributes"][0] == "kind=<b>Soul</b> &amp; Blues"


def test_a_json_array_is_a_list_also_in_a_column_of_categories(tmp_path: Path) -> None:
    rows = [{"item_id": "a", "tags": ["x<br>y", "R&amp;B"], "kind": ["p", "q"]}, {"item_id": "b", "kind": "p"}]
    result = described(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), {"a": 0, "b": 0}, name="a.jsonl",
                      attributes={"tags": "list", "kind": "category"})
    assert result.column("attributes") == [["kind=p", "kind=q", "tags=R&B", "tags=x y"], ["kind=p"]]
    assert result.column("text") == ["x y, R&B. p, q", "p"]
