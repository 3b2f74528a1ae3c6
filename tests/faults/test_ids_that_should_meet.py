"""The fault matrix, data that looks right: ids that differ between files by how they are written."""

import json
import unicodedata
from pathlib import Path

import pytest

from tests.faults.common import prepared_ids, refused
from tests.some_slow import some_slow

IDS = [f"Ä{100 + n}b" for n in range(20)]
WRITTEN = {"without '.0' at the end": lambda n: (f"{100 + n}.0", f"{100 + n}"),
           "in lower case": lambda n: (IDS[n].lower(), IDS[n]),
           "without blanks at the ends": lambda n: (f"{IDS[n]} ", IDS[n]),
           "without leading zeros": lambda n: (str(n + 1), f"{n + 1:05}"),
           "in one of Unicode's normal forms": lambda n: (unicodedata.normalize("NFD", IDS[n]), IDS[n]),
           "without '.0', case, blanks and leading zeros": lambda n: (f"a{n} ", f"00A{n}.0")}


def clicks(items, users=9):
    return "user_id,item_id\n" + "".join(f"u{n % users},{items[n % len(items)]}\n" for n in range(len(items) * 3))


def catalogue(ids, kind="item"):
    Path(f"{kind}s.csv").write_text(f"{kind}_id,title\n" + "".join(f"{name},T{n}\n" for n, name in enumerate(ids)))
    return f"dataset.{kind}s={kind}s.csv"


def warnings():
    return json.loads(Path("data/prepared/fault/manifest.json").read_text())["warnings"]


@pytest.mark.audited
@pytest.mark.parametrize("cause", some_slow(WRITTEN, 1, 1))
def test_81_ids_that_match_after_normalisation_give_a_warning_with_their_number(llmrec, cause):
    ours, theirs = zip(*map(WRITTEN[cause], range(20)), strict=True)
    message = [catalogue(theirs)]
    prepared_ids(llmrec, clicks(ours), *message)
    [warning] = warnings()
    assert warning.startswith(f"20 of 20 items of the interactions are not in dataset.items, but 20 of these would "
                              f"match {cause} (")
    assert f"items of the interactions are not in dataset.items, but 20 of these would match {cause}" in refused(
        llmrec, clicks(ours), *message, "dataset.audit=strict")


@pytest.mark.slow
@pytest.mark.audited
def test_81_partly_matching_ids_give_a_warning_for_users_and_items(llmrec):
    ids = [f"A{n}" for n in range(20)]
    prepared_ids(llmrec, clicks([*ids[:17], *map(str.lower, ids[17:])]), catalogue(ids),
                 catalogue([f"u{n}.0" for n in range(9)], "user"))
    assert warnings() == [
        "3 of 20 items of the interactions are not in dataset.items, but 3 of these would match in lower case ('a17' "
        "and 'A17'); ids are compared character by character, so write ids in the same case in all files",
        "9 of 9 users of the interactions are not in dataset.users, but 9 of these would match without '.0' at the "
        "end ('u0' and 'u0.0'); ids are compared character by character, so export ids as text or as whole "
        "numbers: a column with gaps became floating point"]


@pytest.mark.slow
@pytest.mark.audited
def test_81_few_common_ids_give_a_warning_but_a_catalogue_with_gaps_does_not(llmrec):
    ids = [f"A{n}" for n in range(20)]
    prepared_ids(llmrec, clicks(ids), catalogue(["A3", *(f"x{n}" for n in range(30))]))
    assert warnings() == ["only 1 of the 20 items of the interactions is in dataset.items ('A0' here, 'A3' there); is "
                          "it a file of another data set, or are the ids written differently?"]
    # A catalogue with gaps may be meant, so the warning about it does not stop a strict run.
    prepared_ids(llmrec, clicks(ids), catalogue([*ids[:9], "x", "y"]), "force=true", "dataset.audit=strict")
    assert warnings() == ["11 of 20 items of the interactions have no row in dataset.items ('A10', 'A11', 'A12', ...), "
                          "so they have no text; is the file complete, and as new as the interactions?"]


@pytest.mark.slow
@pytest.mark.audited
def test_81_group_members_and_links_are_compared_with_the_catalogues_ids(llmrec):
    Path("groups.csv").write_text("group_id,user_id\n" + "".join(f"g,{n}.0\n" for n in range(9)))
    Path("kg.csv").write_text("head,relation,tail\n" + "".join(f"e{n},is,thing\n" for n in range(20)))
    Path("links.csv").write_text("item_id,entity_id\n" + "".join(f"a{n},E{n}\n" for n in range(20)))
    content = clicks([f"A{n}" for n in range(20)]).replace("u", "").replace("ser_id", "user_id")
    prepared_ids(llmrec, content, "dataset.groups=groups.csv", "dataset.knowledge=kg.csv", "dataset.links=links.csv")
    result = " | ".join(warnings())
    assert "9 of 9 members of groups are not in the users, but 9 of these would match without '.0' at the end" in result
    assert "20 of 20 items of dataset.links are not in the items, but 20 of these would match in lower case" in result
    assert "20 of 20 entities of dataset.links are not in dataset.knowledge, but 20 of these would match in" in result


@pytest.mark.audited
def test_81_held_out_ids_of_a_given_split_are_compared_with_training_ids(llmrec):
    Path("train.csv").write_text(clicks([f"{n}" for n in range(20)]))
    Path("test.csv").write_text("user_id,item_id\n" + "".join(f"u{n},{n}.0\n" for n in range(9)))
    done = llmrec("prepare", "dataset=files", "dataset.name=fault", "dataset.train=train.csv", "dataset.test=test.csv",
                  "split=given")
    assert done.code == 0, done.err
    result = "9 of 9 held-out items are not in training, but 9 of these would match without '.0' at the end"
    assert any(result in warning for warning in warnings())


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.parametrize("kind", some_slow(["items", "users"], 1, 0))
def test_a_published_cold_split_gets_no_advice_to_change_it(llmrec, kind):
    train = [(f"u{n % 30}", f"i{n % 40}") for n in range(600)]
    test = [(f"u{n % 30}", f"new{n % 40}") if kind == "items" else (f"new{n % 40}", f"i{n % 30}")
            for n in range(150)]
    for name, rows in (("train", train), ("test", test)):
        lines = sorted({",".join(row) + "\n" for row in rows})
        Path(f"{name}.csv").write_text("user_id,item_id\n" + "".join(lines))
    message = ["dataset=files", "dataset.name=fault", "dataset.train=train.csv", "dataset.test=test.csv", "split=given"]
    assert llmrec("prepare", *message).code == 0
    [warning] = [sentence for sentence in warnings() if "that are not in training" in sentence]
    assert "split=cold" not in warning
    assert warning.endswith(f"or, if the split has cold {kind} on purpose, keep it and describe these "
                            f"{kind} in dataset.{kind}: cold {kind} can only be recommended by their descriptions")
    # Described in a file they are known to be meant: strict lets the published split pass.
    Path("about.csv").write_text(f"{kind[:-1]}_id,title\n" + "".join(f"new{n},A{n}\ni{n},B{n}\nu{n},C{n}\n"
                                                                     for n in range(40)))
    done = llmrec("prepare", *message, f"dataset.{kind}=about.csv", "dataset.audit=strict")
    assert done.code == 0, done.err
    notes = json.loads(Path("data/prepared/fault/manifest.json").read_text())["notes"]
    assert f"split 'test': 100% of the interactions have {kind} that are not in training" in notes


@pytest.mark.audited
@pytest.mark.parametrize(("again", "words"), [("{}.0", "without '.0' at the end"), ("{}\u00a0", "without blanks at the "
                                              "ends")])
def test_81_ids_of_two_files_of_interactions_that_would_be_the_same_are_warned_of(llmrec, again, words):
    Path("more.csv").write_text("user_id,item_id\n" + "".join(f"{again.format(n % 9)},x{n}\n" for n in range(27)))
    first = "user_id,item_id\n" + "".join(f"{n % 9},x{n}\n" for n in range(27))
    Path("first.csv").write_text(first)
    done = llmrec("prepare", "dataset=files", "dataset.interactions=[first.csv,more.csv]", "dataset.audit=strict",
                  "split=none")
    assert f"9 of the 18 user ids of the interactions would equal another one {words} (" in done.err
    assert "item ids of the interactions would equal" not in done.err
    assert done.code == 3


@pytest.mark.slow
@pytest.mark.audited
def test_81_an_appended_file_whose_ids_end_in_point_zero_is_warned_of(llmrec):
    prepared_ids(llmrec, clicks(IDS))
    Path("more.csv").write_text("user_id,item_id\n" + "".join(f"u{n}.0,{item}\n" for n in range(9) for item in IDS))
    llmrec("prepare", "dataset=files", "dataset.name=fault", "dataset.interactions=more.csv", "mode=append",
           "split=none")
    assert any(warning.startswith("9 of the 18 user ids of the interactions would equal another one without '.0'")
               for warning in warnings())


@pytest.mark.slow
@pytest.mark.audited
def test_81_ids_of_another_script_are_shown_as_they_are_written(llmrec):
    message = catalogue([f"商品S{n}" for n in range(20)])
    prepared_ids(llmrec, clicks([f"商品s{n}" for n in range(20)]), message)
    assert "('商品s0' and '商品S0')" in warnings()[0]
    prepared_ids(llmrec, clicks([f"商品S{n}\u00a0" for n in range(20)]), message, "force=true")
    assert r"('商品S0\xa0' and '商品S0')" in warnings()[0]
