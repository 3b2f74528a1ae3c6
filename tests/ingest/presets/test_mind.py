"""MIND, written as Microsoft publishes it."""

from pathlib import Path

import pytest

from llmrec_cli.errors import ConfigError, DataError
from llmrec_cli.ingest.presets.mind import mind
from llmrec_cli.settings.presets import MindSettings
from llmrec_cli.settings.split import GivenSettings
from tests.ingest.preparing import prepare_with, write
from tests.ingest.presets.reading import rows_of

pytestmark = pytest.mark.slow

TRAIN = ("1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
         "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N39317-1 N58114-1\n"
         "3\tU13740\t11/11/2019 12:00:01 AM\tN55189 N42782\tN35729-0\n")
DEV = ("1\tU80234\t11/15/2019 12:37:50 PM\tN55189\tN55689-0 N28682-0 N48740-1\n"
       "2\tU13740\t11/15/2019 1:00:00 PM\tN55189 N42782\tN35729-1\n")
NEWS = ("N55689\tsports\tfootball_nfl\tCharles Rogers, \"the\" star\tA former \"Michigan\" star\thttps://x\t"
        '[{"Label": "Charles Rogers"}]\t[]\n'
        "N35729\tnews\tnewsus\tPorsche launches into café\t\thttps://x\t[]\t[]\n")
DEV_NEWS = NEWS.splitlines(keepends=True)[1] + "N48740\thealth\twellness\tSleep\tMore of it\thttps://x\t[]\t[]\n"
COLUMNS = ("user_id", "item_id", "value", "timestamp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with MINDsmall_train and MINDsmall_dev in it."""
    for name, behaviours, news in (("train", TRAIN, NEWS), ("dev", DEV, DEV_NEWS)):
        write(tmp_path / "mind" / f"MINDsmall_{name}", behaviours, "behaviors.tsv")
        write(tmp_path / "mind" / f"MINDsmall_{name}", news.replace("\n", "\r\n"), "news.tsv")
    return tmp_path / "mind"


def test_every_news_shown_is_a_row_with_the_number_of_its_line(tmp_path: Path, folder: Path) -> None:
    result = mind(MindSettings(path=str(folder / "MINDsmall_train")), "random", tmp_path)
    rows, rejects = rows_of(result.interactions, tmp_path, *COLUMNS)
    assert rows == [("", 1, ("U13740", "N55689", "1", "2019-11-11T09:05:58")),
                    ("", 1, ("U13740", "N35729", "0", "2019-11-11T09:05:58")),
                    ("", 2, ("U91836", "N20678", "0", "2019-11-12T18:11:30")),
                    ("", 2, ("U91836", "N39317", "1", "2019-11-12T18:11:30")),
                    ("", 2, ("U91836", "N58114", "1", "2019-11-12T18:11:30")),
                    ("", 3, ("U13740", "N35729", "0", "2019-11-11T00:00:01"))]
    assert not rejects


def test_clicks_are_positives_even_if_the_news_was_shown_without_a_click(tmp_path: Path, folder: Path) -> None:
    prepared = prepare_with(tmp_path, MindSettings(path=str(folder)))
    assert prepared.in_split("train") == {("U13740", "N55689"), ("U91836", "N39317"), ("U91836", "N58114"),
                                          ("U80234", "N48740"), ("U13740", "N35729")}
    # N35729 was shown to U13740 three times and clicked once. What nobody clicked is kept, but as a dislike of no use.
    assert {(row["user_id"], row["item_id"]) for row in prepared.rows("negatives")} == {("U80234", "N55689")}
    assert {(row["user_id"], row["item_id"]) for row in prepared.rows("filtered")} == {
        ("U80234", "N28682"), ("U91836", "N20678")}
    items = {row["item_id"]: row for row in prepared.rows("items")}
    assert items["N55689"]["text"] == 'Charles Rogers, "the" star. A former "Michigan" star'
    assert items["N55689"]["attributes"] == ["category=sports", "subcategory=football_nfl"]
    assert items["N35729"]["text"] == "Porsche launches into café"
    assert items["N48740"]["title"] == "Sleep"


@pytest.mark.parametrize("dev_split", ["test", "valid"])
def test_with_a_given_split_the_days_after_are_held_out(tmp_path: Path, folder: Path, dev_split: str) -> None:
    both = mind(MindSettings(path=str(folder), dev_split=dev_split), "given", tmp_path)
    named = mind(MindSettings(path=str(folder / "MINDsmall_train"), dev_path=str(folder / "MINDsmall_dev"),
                              dev_split=dev_split), "given", tmp_path)
    assert both == named
    assert [(source.path.parent.name, source.split) for source in both.interactions] == [
        ("MINDsmall_train", "train"), ("MINDsmall_dev", dev_split)]
    assert len(both.items) == 2
    with pytest.raises(ConfigError, match=r"needs the folder \*_dev of MIND beside \*_train.*set dataset\.dev_path="):
        prepare_with(tmp_path, MindSettings(path=str(folder / "MINDsmall_train")), GivenSettings())


def test_the_click_history_is_left_out_unless_asked_for_and_then_comes_before_the_first_impression(
        tmp_path: Path, folder: Path) -> None:
    result = mind(MindSettings(path=str(folder), click_history=True), "given", tmp_path)
    rows, _ = rows_of(result.interactions[2:], tmp_path, *COLUMNS)
    # U13740's first impression is in line 3 of train, at 00:00:01; U91836 has no history; U80234 is new in dev.
    assert rows == [("train", 3, ("U13740", "N42782", "1", "2019-11-11T00:00:00")),
                    ("train", 3, ("U13740", "N55189", "1", "2019-11-10T23:59:59")),
                    ("train", 1, ("U80234", "N55189", "1", "2019-11-15T12:37:49"))]
    prepared = prepare_with(tmp_path, MindSettings(path=str(folder), click_history=True), GivenSettings())
    assert ("U13740", "N55189") in prepared.in_split("train")
    assert prepared.in_split("test") == {("U80234", "N48740"), ("U13740", "N35729")}


def test_bad_lines_are_listed_whole(tmp_path: Path, folder: Path) -> None:
    bad = ("4\tU1\t11/13/2019 9:05:58 AM\t\tN1-1 N2\n"
           "5\tU2\t2019-11-13\t\tN1-1\n"
           "6\tU3\t11/13/2019 9:05:58 AM\tN1-1\n"
           "7\tU4\t13/13/2019 9:05:58 AM\t\tN1-1\n"
           "8\tU5\t11/13/2019 9:05:58 AM\tN9\t\n"
           "9\tU6\t11/13/2019 9:05:58 AM\t\t-1\n")
    write(folder / "MINDsmall_train", (TRAIN + bad).replace("\n", "\r\n"), "behaviors.tsv")
    for click_history in (False, True):
        result = mind(MindSettings(path=str(folder / "MINDsmall_train"), click_history=click_history), "random",
                     tmp_path)
        rows, rejects = rows_of(result.interactions, tmp_path, *COLUMNS)
        assert {line for _, line, _ in rows} == {1, 2, 3}
        assert rejects == ["behaviors.tsv:4: 'N2' does not end in -1 (clicked) or -0",
                           "behaviors.tsv:5: '2019-11-13' is not a time like 11/11/2019 9:05:58 AM",
                           "behaviors.tsv:6: 4 fields where behaviors.tsv has 5",
                           "behaviors.tsv:7: '13/13/2019 9:05:58 AM' is not a time like 11/11/2019 9:05:58 AM",
                           "behaviors.tsv:8: the impression has no news",
                           "behaviors.tsv:9: '-1' does not end in -1 (clicked) or -0"]


def test_the_reject_share_of_a_file_read_for_histories_counts_all_rows_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "train", NEWS, "news.tsv").parent
    write(folder, "1\tU1\t11/13/2019 9:05:58 AM\tN1\tN35729-1 N55689-0 N2-0\n" + "x\n" * 2, "behaviors.tsv")
    settings = MindSettings(path=str(folder), click_history=True)
    with pytest.raises(DataError, match=r"behaviors\.tsv: 2 of 6 rows \(33\.33%\) are bad"):
        prepare_with(tmp_path, settings)


def test_no_history_at_all_is_no_fault(tmp_path: Path) -> None:
    folder = write(tmp_path / "train", NEWS, "news.tsv").parent
    write(folder, "1\tU1\t11/13/2019 9:05:58 AM\t\tN35729-1\n", "behaviors.tsv")
    assert prepare_with(tmp_path,
                        MindSettings(path=str(folder), click_history=True)).in_split("train") == {("U1", "N35729")}


def test_the_test_of_the_competition_is_refused_since_it_says_nothing_of_clicks(tmp_path: Path, folder: Path) -> None:
    write(folder / "MINDsmall_train", "1\tU1\t11/16/2019 9:05:58 AM\tN1\tN2 N3\n", "behaviors.tsv")
    with pytest.raises(DataError, match=r"line 1 has no click labels \('N2' instead of 'N2-1'.*use \*_dev"):
        prepare_with(tmp_path, MindSettings(path=str(folder / "MINDsmall_train")))


def test_a_folder_that_lacks_a_file_or_holds_too_many_says_what_to_do(tmp_path: Path, folder: Path) -> None:
    assert next(iter(MindSettings().problems())).startswith("path: missing; set dataset.path=<folder MINDsmall_train")
    (folder / "MINDsmall_dev" / "news.tsv").unlink()
    with pytest.raises(ConfigError, match=r"MINDsmall_dev: has no file news\.tsv; name the .*MINDsmall_dev.*Research"):
        prepare_with(tmp_path, MindSettings(path=str(folder)))
    write(folder / "MINDlarge_train", TRAIN, "behaviors.tsv")
    with pytest.raises(ConfigError, match=r"holds .*MINDlarge_train and .*MINDsmall_train; name one \*_train with"):
        prepare_with(tmp_path, MindSettings(path=str(folder)))
    with pytest.raises(ConfigError, match=r"nowhere: has no file behaviors\.tsv; .*https://msnews\.github\.io"):
        prepare_with(tmp_path, MindSettings(path="nowhere"))
