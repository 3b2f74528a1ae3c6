"""mode=append: the result equals preparing all files at once, except for integer ids."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from llmrec_cli.errors import ArtifactError, ConfigError, DataError
from llmrec_cli.ingest.output.append import has_rows
from llmrec_cli.settings.dataset import FilesSettings, KnowledgeSettings
from llmrec_cli.settings.split import (
    ColdItemsSplitSettings,
    LeaveLastOutSettings,
    NoSplitSettings,
    RandomSettings,
    SplitSettings,
    TemporalSettings,
)
from tests.ingest.preparing import HEADER, Prepared, prepare_with, source, write
from tests.some_slow import some_slow

UNNUMBERED = {"interactions": ("user", "item"), "negatives": ("user", "item"), "filtered": (), "items": ("item",),
              "users": ("user",), "groups": ("group", "user"), "group_interactions": ("group", "item"), "triples": (),
              "links": ("item",)}


def content(prepared: Prepared) -> dict[str, list[str]]:
    """Return the rows of all files without integer ids, sorted."""
    return {name: sorted(str({k: v for k, v in row.items() if k not in numbers}) for row in prepared.rows(name))
            for name, numbers in UNNUMBERED.items() if (prepared.folder / f"{name}.parquet").is_file()}


def both_ways(folder: Path, parts: list[dict[str, str]], split: SplitSettings,
              **options: Any) -> tuple[Prepared, Prepared]:
    """Prepare the files of all parts at once, and one part after the other; a part is dataset key -> content."""
    named: dict[str, list[str]] = {}
    appended = None
    for n, part in enumerate(parts):
        files = {key: [str(write(folder, text, f"{key}{n}.csv"))] for key, text in part.items()}
        for key, paths in files.items():
            named.setdefault(key, []).extend(paths)
        appended = prepare_with(folder / "step", FilesSettings(name="x", **files, **options), split,
                                mode="append" if n else "new", force=bool(n))
    whole = prepare_with(folder / "whole", FilesSettings(name="x", **named, **options), split)
    assert appended is not None
    return whole, appended


def rows_of(n: int, seed: int) -> str:
    rng = random.Random(seed)
    lines = [f"u{rng.randrange(8)},i{rng.randrange(9)},{rng.randrange(1, 6)},{1_600_000_000 + rng.randrange(10**6)}"
             for _ in range(n)]
    return HEADER + "\n".join(lines) + "\n"


SPLITS = [NoSplitSettings(), RandomSettings(), LeaveLastOutSettings(), TemporalSettings(valid=0.2, test=0.2),
          TemporalSettings(test_from="2020-09-20", valid=0.1), ColdItemsSplitSettings(valid=0.2, test=0.2)]
OPTIONS: list[dict[str, Any]] = [
    {}, {"min_value": 3.0, "duplicates": "keep_first"}, {"duplicates": "sum", "min_user_interactions": 3},
    {"feedback": "explicit", "min_value": 4.0, "max_negative_value": 2.0, "duplicates": "max",
     "min_item_interactions": 2, "min_user_interactions": 2}]


def assert_same(appended: Prepared, whole: Prepared) -> None:
    """Assert equal content, except for users and items that were kept once and keep their integer ids."""
    actual, expected = content(appended), content(whole)
    for kind in ("user", "item"):
        more = set(appended.column(f"{kind}s", f"{kind}_id")) - set(whole.column(f"{kind}s", f"{kind}_id"))
        assert not more & set(appended.column("interactions", f"{kind}_id"))
        remaining = [row for row in appended.rows(f"{kind}s") if row[f"{kind}_id"] not in more]
        actual[f"{kind}s"] = sorted(str({k: v for k, v in row.items() if k != kind}) for row in remaining)
    assert actual == expected


CASES = list(zip(SPLITS, [*OPTIONS, *OPTIONS[2:]], strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("split", "options"), some_slow(reversed(CASES), 2, 0))
def test_appending_gives_the_same_as_preparing_at_once(tmp_path: Path, split: SplitSettings,
                                                       options: dict[str, Any]) -> None:
    items = ["item_id,title,year\n" + "".join(f"i{n},Film {n},19{n}0\n" for n in part)
             for part in ((0, 1, 2), (2, 7, 8))]
    parts = [{"interactions": rows_of(40, 1), "items": items[0]}, {"interactions": rows_of(30, 2), "items": items[1]},
             {"interactions": rows_of(10, 3)}]
    whole, appended = both_ways(tmp_path, parts, split, **options)
    assert_same(appended, whole)
    assert appended.manifest["split"] == whole.manifest["split"]
    assert appended.manifest["data_cutoff"] == whole.manifest["data_cutoff"]


@pytest.mark.faults
@pytest.mark.audited
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.generate],
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.integers(0, 2**20), second=st.integers(0, 2**20),
       sizes=st.tuples(st.integers(3, 40), st.integers(1, 40)))
def test_appending_any_two_files_gives_the_same_as_preparing_both_at_once(
        tmp_path_factory: pytest.TempPathFactory, first: int, second: int, sizes: tuple[int, int]) -> None:
    sure = "".join(f"v{n},j{m},5,1500000000\n" for n in range(2) for m in range(2))  # in any core of two
    parts = [{"interactions": rows_of(size, seed) + sure} for size, seed in zip(sizes, (first, second), strict=True)]
    whole, appended = both_ways(tmp_path_factory.mktemp("any"), parts, LeaveLastOutSettings(), min_value=3.0,
                                min_user_interactions=2)
    assert_same(appended, whole)


def in_file_order(prepared: Prepared) -> dict[str, list[str]]:
    """Return the items of each user in the order of interactions.parquet."""
    actual: dict[str, list[str]] = {}
    for row in prepared.rows("interactions"):
        actual.setdefault(row["user_id"], []).append(row["item_id"])
    return actual


@pytest.mark.slow
def test_equal_times_are_in_the_same_order_and_the_content_has_the_same_hash_as_at_once(tmp_path: Path) -> None:
    days = [HEADER + "".join(f"u{user},i{(user + 3 * n) % 7},1,{1_600_000_000 + n % 2}\n" for user in range(6)
                             for n in part) for part in ((0, 1, 2, 3, 4, 5, 6), (2, 3), (0,))]
    whole, appended = both_ways(tmp_path, [{"interactions": day} for day in days], LeaveLastOutSettings())
    assert in_file_order(appended) == in_file_order(whole)
    # No id is new, so the numbers are the same too.
    assert appended.manifest["fingerprint"] == whole.manifest["fingerprint"]
    orders = {tuple(items) for items in in_file_order(whole).values()}
    assert len({tuple(sorted(items)) for items in orders}) == 1
    assert len(orders) > 3


@pytest.mark.slow
def test_items_that_change_are_the_same_one_after_the_other_as_at_once(tmp_path: Path) -> None:
    parts = [{"interactions": f"user_id,item_id\nu,a\nu,b\nv,c{n}\n", "items": f"item_id,title,price\n{rows}"}
             for n, rows in enumerate(("a,A,1\nb,,2\nb,B,\nc9,left out,1\n", "a,,3\nb,Z,\n", "b,B2,0\nc9,C,\n"))]
    whole, appended = both_ways(tmp_path, parts, NoSplitSettings())
    assert content(appended) == content(whole)
    items = {row["item_id"]: (row["title"], row["price"]) for row in whole.rows("items")}
    assert (items["a"], items["b"], items["c9"]) == (("A", "3"), ("B2", "0"), ("C", "1"))


@pytest.mark.slow
def test_dropped_group_rows_count_again_after_appending(tmp_path: Path) -> None:
    first = {"interactions": "user_id,item_id\nu,a\nv,b\n", "groups": "group_id,user_id\ng,u\ng,v\n",
             "group_interactions": "group_id,item_id,value\ng,a,-3\ng,b,1\nh,a,1\ng,new,1\n"}
    second = {"interactions": "user_id,item_id\nw,new\n", "groups": "group_id,user_id\nh,w\n",
              "group_interactions": "group_id,item_id,value\ng,a,4\ng,b,-1\n"}
    whole, appended = both_ways(tmp_path, [first, second], NoSplitSettings(), duplicates="sum")
    assert content(appended) == content(whole)
    assert {(row["group_id"], row["item_id"]): row["value"] for row in whole.rows("group_interactions")} == {
        ("g", "a"): 1.0, ("h", "a"): 1.0, ("g", "new"): 1.0}


@pytest.mark.slow
def test_group_interactions_stay_when_a_file_without_any_is_appended(tmp_path: Path) -> None:
    first = {"interactions": "user_id,item_id\nu,a\nv,b\n", "groups": "group_id,user_id\ng,u\ng,v\n",
             "group_interactions": "group_id,item_id\ng,a\n"}
    whole, appended = both_ways(tmp_path, [first, {"interactions": "user_id,item_id\nu,b\n"}], NoSplitSettings())
    assert content(appended) == content(whole)
    assert len(appended.rows("group_interactions")) == 1


def test_data_of_an_earlier_format_is_not_added_to(tmp_path: Path) -> None:
    file = str(write(tmp_path, rows_of(5, 1), "a.csv"))
    prepared = prepare_with(tmp_path / "x", FilesSettings(name="x", interactions=file), NoSplitSettings())
    (prepared.folder / "manifest.json").write_text(json.dumps(prepared.manifest | {"format": 1}))
    with pytest.raises(ArtifactError, match=r"mode=append: .* was prepared by an earlier version, with another order"):
        prepare_with(tmp_path / "x", FilesSettings(name="x", interactions=str(write(tmp_path, rows_of(5, 2), "b.csv"))),
                     NoSplitSettings(), mode="append")


def test_old_ids_keep_their_numbers_and_new_ones_come_after_them(tmp_path: Path) -> None:
    parts = [{"interactions": "user_id,item_id\nm,q\nk,p\n"}, {"interactions": "user_id,item_id\na,b\nm,z\n"}]
    _, appended = both_ways(tmp_path, parts, NoSplitSettings())
    assert appended.column("users", "user_id") == ["k", "m", "a"]
    assert appended.column("items", "item_id") == ["p", "q", "b", "z"]
    assert appended.column("items", "item") == [0, 1, 2, 3]


@pytest.mark.slow
def test_groups_and_knowledge_are_added_too(tmp_path: Path) -> None:
    first = {"interactions": "user_id,item_id\nu,a\nv,b\n", "items": "item_id,title\na,A\nb,B\n",
             "groups": "group_id,user_id\ng,u\ng,v\n", "group_interactions": "group_id,item_id\ng,a\n"}
    second = {"interactions": "user_id,item_id\nw,c\n", "items": "item_id,title\nc,C\n",
              "groups": "group_id,user_id\nh,w\ng,w\n", "group_interactions": "group_id,item_id\nh,c\ng,b\n"}
    triples = [str(write(tmp_path, f"head,relation,tail\n{row}\n", f"kg{n}.csv"))
               for n, row in enumerate(("x,r,y", "z,r,y"))]
    links = [str(write(tmp_path, f"item_id,entity_id\n{row}\n", f"link{n}.csv"))
             for n, row in enumerate(("a,x", "c,z"))]
    done = []
    for n, part in enumerate((first, second)):
        files = {key: str(write(tmp_path, text, f"{key}{n}.csv")) for key, text in part.items()}
        done.append(prepare_with(tmp_path / "step",
                                 FilesSettings(name="x", **files, knowledge=KnowledgeSettings(triples=triples[n]),
                                                                  links=links[n]), NoSplitSettings(),
                                 mode="append" if n else "new"))
    files = {key: [str(tmp_path / f"{key}{n}.csv") for n in (0, 1)] for key in first}
    whole = prepare_with(tmp_path / "whole",
                         FilesSettings(name="x", **files, knowledge=KnowledgeSettings(triples=triples),  # type: ignore
                                                           links=links), NoSplitSettings())
    assert content(done[1]) == content(whole)
    assert [row["group_id"] for row in done[1].rows("groups")] == ["g", "g", "g", "h"]


@pytest.mark.slow
def test_what_was_rejected_before_stays_on_the_list(tmp_path: Path) -> None:
    parts = [{"interactions": HEADER + "u,a,x,1\nu,b,1,2\n"}, {"interactions": HEADER + "v,a,y,1\nv,b,1,2\n"}]
    whole, appended = both_ways(tmp_path, parts, NoSplitSettings(), max_reject_share=0.5, timestamp_unit="s")
    assert appended.rows("rejects") == whole.rows("rejects")
    assert len(whole.rows("rejects")) == 2


@pytest.mark.slow
def test_the_manifest_lists_the_earlier_versions(tmp_path: Path) -> None:
    parts = [{"interactions": f"user_id,item_id\nu,i{n}\n"} for n in range(3)]
    fingerprints = []
    for n, part in enumerate(parts):
        file = write(tmp_path, part["interactions"], f"{n}.csv")
        prepared = prepare_with(tmp_path / "x", FilesSettings(name="x", interactions=str(file)), NoSplitSettings(),
                                mode="append" if n else "new")
        chain = prepared.manifest.get("chain", [])
        assert [link["fingerprint"] for link in chain] == fingerprints
        fingerprints.append(prepared.manifest["fingerprint"])
    assert [link["inputs"]["files"]["interactions"][0]["path"] for link in chain] == [
        str(tmp_path / "0.csv"), str(tmp_path / "1.csv")]


def test_data_that_cannot_be_appended_to_is_refused(tmp_path: Path) -> None:
    def prepare(name: str, text: str, mode: str, split: SplitSettings | None = None, **options: Any) -> Prepared:
        file = write(tmp_path, text, f"{name}.csv")
        return prepare_with(tmp_path / "x", FilesSettings(name="x", interactions=str(file), **options),
                            split or NoSplitSettings(),
                            mode=mode)

    with pytest.raises(ConfigError, match=r"mode=append: there is no prepared data in .* use mode=new the first time"):
        prepare("a", rows_of(5, 1), "append")
    before = prepare("a", rows_of(5, 1), "new").manifest
    with pytest.raises(ConfigError, match=r"mode=append: dataset\.min_value=3\.0, but .* was made with None"):
        prepare("b", rows_of(5, 2), "append", min_value=3.0)
    with pytest.raises(ConfigError, match=r"mode=append: split\.kind=random, but .* was made with none"):
        prepare("b", rows_of(5, 2), "append", RandomSettings())
    with pytest.raises(DataError, match=r"mode=append: the new timestamps are in 'order' and those in .* in 's'"):
        prepare("b", HEADER + "u,i,1,5\n", "append")
    same = FilesSettings(name="x", interactions=str(tmp_path / "a.csv"))
    again = prepare_with(tmp_path / "x", same, NoSplitSettings(), mode="append")
    assert again.manifest == before
    assert Prepared(tmp_path / "x" / "out").manifest == before


@pytest.mark.slow
@pytest.mark.parametrize(("before", "new", "said"), [
    ("user_id,item_id\nu,a\n", "user_id,item_id,timestamp\nu,b,1600000000\n",
     r"the new rows have times, but .* was prepared without times, .*; prepare the old and new files together with "
     r"mode=new .*, or remove the column of times from the new files"),
    ("user_id,item_id,timestamp\nu,a,1600000000\n", "user_id,item_id\nu,b\n",
     r"the new rows have no times, but .* was prepared with times, .*; add a column 'timestamp' to the new files, or "
     r"name it with dataset.columns.timestamp=<name>")])
def test_rows_with_times_after_rows_without_are_refused_and_no_unit_is_advised(tmp_path: Path, before: str, new: str,
                                                                               said: str) -> None:
    def append(text: str, mode: str = "append", **options: Any) -> Prepared:
        file = write(tmp_path, text, f"{mode}.csv")
        return prepare_with(tmp_path / "x", FilesSettings(name="x", interactions=str(file), **options),
                            NoSplitSettings(), mode=mode)

    append(before, "new")
    with pytest.raises(DataError, match=rf"^mode=append: {said}") as refused:
        append(new)
    assert "unit" not in str(refused.value)
    if "timestamp" in new:
        append("user_id,item_id\nu,b\n")
    else:
        append("user_id,item_id,when\nu,b,1600000001\n", columns={"timestamp": "when"})
    assert sorted(Prepared(tmp_path / "x" / "out").column("interactions", "item_id")) == ["a", "b"]


@pytest.mark.slow
def test_event_weights_are_not_applied_twice(tmp_path: Path) -> None:
    header = "user_id,item_id,event\n"
    parts = [{"interactions": header + "u,a,buy\nu,b,view\nu,b,skip\n"},
             {"interactions": header + "u,a,view\nu,b,buy\n"}]
    whole, appended = both_ways(tmp_path, parts, NoSplitSettings(),
                                event_weights={"view": 1.0, "buy": 5.0, "skip": 0.0},
                                duplicates="sum")
    assert content(appended) == content(whole)
    assert {(r["item_id"], r["value"]) for r in whole.rows("interactions")} == {("a", 6.0), ("b", 6.0)}


def test_appended_events_of_weight_0_need_no_item_and_do_not_count_as_repeated(tmp_path: Path) -> None:
    header, weights = "user_id,item_id,event,timestamp\n", {"view": 1.0, "open": 0.0}
    first, new = (str(write(tmp_path, header + rows, name)) for name, rows in (
        ("a.csv", "u,a,view,1\nu,b,open,9\n"), ("b.csv", "u,,open,3\nu,b,open,2\nu,c,view,4\n")))
    for mode, file in (("new", first), ("append", new)):
        prepared = prepare_with(tmp_path, FilesSettings(name="x", interactions=file, event_weights=weights,
                                                        duplicates="sum"), mode=mode)
    assert prepared.in_split("train") == {("u", "a"), ("u", "c")}
    assert (prepared.counts["ignored_events"], prepared.counts["rejected"]) == (3, 0)


def test_names_of_columns_may_be_for_a_file_of_interactions_that_is_skipped(tmp_path: Path) -> None:
    clicks = str(write(tmp_path, "user_id,sku\nu,a\nu,b\n", "clicks.csv"))
    for mode, text in (("new", "item_id,title\na,A\n"), ("append", "item_id,title\na,A\nb,B\n")):
        items = str(write(tmp_path, text, f"{mode}.csv"))
        prepared = prepare_with(tmp_path, FilesSettings(name="x", interactions=clicks, items=items,
                                                        columns={"item_id": "sku"}), mode=mode)
    assert prepared.column("items", "title") == ["A", "B"]


def test_appended_files_that_are_replaced_without_append_are_noted(tmp_path: Path) -> None:
    files = [str(write(tmp_path, rows_of(20, n), f"{n}.csv")) for n in range(4)]

    def notes(interactions: list[str], mode: str = "new") -> list[str]:
        prepared = prepare_with(tmp_path, FilesSettings(name="x", interactions=interactions), NoSplitSettings(),
                                mode=mode)
        return [note for note in prepared.manifest["notes"] if "replaced" in note]

    assert notes(files[:1]) == notes(files[1:2], "append") == notes(files[2:3], "append") == []
    assert notes([files[2], files[3]]) == [
        f"{tmp_path / 'out'} was replaced, and 2 files of interactions that it was made from are not among the new "
        f"ones ({files[0]}, {files[1]}), so their rows are gone unless the new files have them too; mode=append adds "
        f"new files to the data"]
    Path(files[2]).rename(tmp_path / "moved.csv")
    write(tmp_path, rows_of(20, 9), "3.csv")  # The same path with new rows, as of an export that is repeated.
    assert notes([str(tmp_path / "moved.csv"), files[3]]) == []


@pytest.mark.slow
def test_returned_items_stay_returned_when_a_file_without_returns_is_appended(tmp_path: Path) -> None:
    parts = [{"interactions": HEADER + "u,a,1,1\nu,a,-1,2\nu,b,1,3\nv,a,1,1\n"},
             {"interactions": HEADER + "v,b,1,5\n"}]
    whole, appended = both_ways(tmp_path, parts, NoSplitSettings(), duplicates="sum")
    assert content(appended) == content(whole)
    for prepared in (whole, appended):
        assert [(r["user_id"], r["item_id"], r["value"]) for r in prepared.rows("returned")] == [("u", "a", 0.0)]


@pytest.mark.slow
def test_a_title_with_markup_is_read_as_it_came(tmp_path: Path) -> None:
    def items(*rows: tuple[str, str]) -> str:
        stream = io.StringIO()
        csv.writer(stream).writerows([("item_id", "title"), *rows])
        return stream.getvalue()

    parts = [{"interactions": "user_id,item_id\nu,a\n", "items": items(("a", "Q &amp;amp; A"))},
             {"interactions": "user_id,item_id\nu,b\n", "items": items(("b", "<b>B</b>"))}]
    whole, appended = both_ways(tmp_path, parts, NoSplitSettings(), item_text="{title}")
    assert content(appended) == content(whole)
    assert appended.column("items", "text") == ["Q &amp; A", "B"]


def test_a_pair_that_was_prepared_already_is_an_error_where_duplicates_are(tmp_path: Path) -> None:
    parts = [{"interactions": "user_id,item_id\nu,a\n"}, {"interactions": "user_id,item_id\nu,b\nu,a\n"}]
    with pytest.raises(DataError, match=r"mode=append: 1 user-item pairs in .* are in the prepared data already"):
        both_ways(tmp_path, parts, NoSplitSettings(), duplicates="error")


@pytest.mark.parametrize(("text", "filled"), [("Report;\n;\na;b\n;\n", False), ("a;b\n;\n1;\n", True)])
def test_empty_rows_of_a_spreadsheet_are_no_rows_to_append(tmp_path: Path, text: str, filled: bool) -> None:
    assert has_rows(source(tmp_path, text)) == filled


def test_prices_that_are_no_numbers_are_counted_once_and_named_by_the_file_of_the_user(tmp_path: Path) -> None:
    def warnings(mode: str, **files: str) -> list[str]:
        prepared = prepare_with(tmp_path, FilesSettings(name="x", attributes={"price": "number"}, **files), mode=mode)
        return [text.split(": 'oz'")[0] for text in prepared.manifest["warnings"] if "not numbers" in text]

    items = str(write(tmp_path, "item_id,price\ni1,1 oz\ni2,2 oz\ni3,7 €\ni3,7 €\n", "items.csv"))
    days = [str(write(tmp_path, f"user_id,item_id,value\nu{n},i1,1\nu{n},i2,1\n", f"{n}.csv")) for n in range(3)]
    said = "2 of 3 values of 'price' are not numbers, so these items do not get this attribute; the first is '1 oz' "
    assert warnings("new", interactions=days[0], items=items) == [f"{said}({items}, line 2)"]
    assert warnings("append", interactions=days[1], items=items) == [f"{said}({items}, line 2)"]
    assert warnings("append", interactions=days[2]) == [f"{said}(the earlier data)"]
