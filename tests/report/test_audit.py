"""The audit page shows the results of the audit, escapes data, and loads nothing from outside."""

import html
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from llmrec_cli.report import audit_charts as charts
from llmrec_cli.report.audit import render, write_audit
from tests.browser import OVERFLOW, measure, needs_browser
from tests.some_slow import some_slow

NASTY = "<script>alert('1')</script>\"&=cmd"
ABOUT = {"name": NASTY, "fingerprint": "0123456789abcdef0123", "split": {"kind": "random", "valid": 0.1, "seed": 42}}
LINK_NOTE = "example link to check: item 7 is entity m.1"
SUMMARY = {"num": 3, "min": 1, "q1": 1, "median": 2, "q3": 3, "max": 3, "mean": 2.0}


def a_split(size: int) -> dict[str, Any]:
    cold = {f"cold_{kind}{what}": 1 for kind in ("users", "items") for what in ("", "_interactions", "_share")}
    return {"interactions": size, "users": 3, "items": 3, "density": 0.2, "first": "2001-01-01T00:00:00Z",
            "last": "2001-03-01T00:00:00Z", "users_with_one_interaction": 1, "per_user": SUMMARY, "per_item": SUMMARY,
            **cold}


def make_audit(**changes: Any) -> dict[str, Any]:
    """An audit with every field filled, with hostile strings."""
    texts = {"num": 3, "empty": 0, "empty_share": 0.0, "title_is_id": 0, "lengths": SUMMARY,
             "longest": {"item_id": NASTY, "length": 3},
             "duplicated": {"num": 2, "share": 0.66, "texts": 1, "most": 2,
                            "examples": [{"text": NASTY, "num": 2, "item_ids": [NASTY, "b"], "user_ids": ["x", "y"]}]},
             "scripts": {"looked_at": 3, "every": 1, "characters": 200, "dominant": {"Latin": 2, "Han": 1}, "mixed": 0,
                         "mixed_share": 0.0}}
    counts = {"train": [3, 0], "valid": [0, 1], "test": [1, 1]}
    return {"format": 1, "rows": {"read": 9, "earlier": 0, "rejected": 1, "duplicates": 1, "filtered": 1,
                                  "negatives": 0, "kept": 6, "train": 3, "valid": 1, "test": 2,
                                  "filtered_by_reason": {"below_core": 1}, "unaccounted": 0},
            "rejects": {"total": 1, "by_reason": [{"column": "value", "reason": NASTY, "rows": 1}],
                        "by_file": [{"file": NASTY, "rows": 1}]},
            "splits": {name: a_split(3) for name in ("train", "valid", "test", "all")},
            "popularity": {"gini": 0.3, "top": {"1": 0.1, "50": 0.8}, "curve": [[0, 0], [0.5, 0.8], [1, 1]],
                           "most_popular": [{"item_id": NASTY, "title": NASTY, "interactions": 2, "share": 0.66}]},
            "histograms": {"per_user": [{"from": 1, "to": 1, "num": 2}, {"from": 2, "to": 2, "num": 0},
                                        {"from": 3, "to": 4, "num": 1}], "per_item": [{"from": 1, "to": 1, "num": 3}]},
            "time": {"unit": "s", "edges": ["2001-01-01T00:00:00Z", "2001-02-01T00:00:00Z", "2001-03-01T00:00:00Z"],
                     **counts},
            "values": {"values": [1.0, 5.0], "edges": None, **counts}, "texts": {"item": texts, "user": texts},
            "groups": {"groups": 1, "standing": 1, "occasional": 0, "members": 2, "members_without_history": 1,
                       "held_out_without_history": 0, "synthetic": "", "memberships": 2, "members_per_group": SUMMARY,
                       "interactions": {"train": 1, "valid": 0, "test": 0}},
            "knowledge": {"triples": 3, "relations": 2, "entities": 4, "largest_relations": [], "items_linked": 2,
                          "items_linked_share": 0.5, "linked_without_triples": 1},
            "links": {"counts": {}, "association": None,
                      "examples": [{"item_id": "7", "title": NASTY, "entity_id": "m.1", "known": [NASTY],
                                    "note": LINK_NOTE}],
                      "differences": [{"column": "year", "entities": "film.year", "pairs": 9, "different": 2,
                                       "examples": [("7", "1995", "m.1", NASTY)]}]},
            "ties": {"users": {"rule": ["timestamp", "salted hash"], "interactions": 3, "share": 0.75,
                               "held_out_users": 1, "held_out_share": 0.5}},
            "leakage": [{"name": "x", "meaning": "Pairs in both.", "count": 1, "checked": 2, "share": 0.5,
                         "verdict": "warning", "note": "a note", "not_checked": "",
                         "examples": [{"user_id": NASTY, "title": "千と"}]},
                        {"name": "y", "meaning": "Titles told.", "count": 0, "checked": 0, "share": 0.0,
                         "verdict": "ok", "note": "", "not_checked": "No user has a text.", "examples": []},
                        {"name": "z", "meaning": "Older ones.", "count": 0, "checked": 3, "share": 0.0,
                         "verdict": "ok", "note": "split=random is not a forecast.", "not_checked": "",
                         "examples": []}],
            "warnings": [NASTY], "notes": [NASTY], **changes}


class Visible(HTMLParser):
    """Collects tags with attributes and the visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_titles_with_markup_are_shown_and_not_run() -> None:
    printed = Visible(render(make_audit(), ABOUT))
    assert not [tag for tag, _ in printed.tags if tag == "script"]
    assert "".join(printed.text).count(NASTY) >= 10
    assert "千と" in "".join(printed.text)


def test_the_page_loads_nothing_from_anywhere() -> None:
    page = render(make_audit(), ABOUT)
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|url\(|@import", page)
    loading = {"link", "script", "img", "iframe", "object", "embed", "base", "form"}
    assert not loading & {tag for tag, _ in Visible(page).tags}


def test_warnings_come_first_and_their_absence_is_stated() -> None:
    page = html.unescape(render(make_audit(), ABOUT))
    assert page.index("1 warning: check it before training") < page.index("Row accounting")
    assert "No warnings." in render(make_audit(warnings=[]), ABOUT)


def test_sections_without_data_are_left_out() -> None:
    texts = {**make_audit()["texts"]["item"], "num": 3, "empty": 3, "longest": None, "duplicated": None,
             "scripts": None, "lengths": {"num": 0}}
    nothing = {"num": 0}
    splits = {name: {**a_split(0), "first": None, "last": None, "per_user": nothing if name == "test" else SUMMARY}
              for name in ("train", "valid", "test", "all")}
    values = {"values": None, "edges": [n / 2 for n in range(21)], **{s: [1] * 20 for s in ("train", "valid", "test")}}
    page = render(make_audit(time=None, groups=None, knowledge=None, splits=splits, values=values, notes=[],
                             texts={"item": texts, "user": texts}, rejects={"total": 0, "by_reason": [],
                                                                            "by_file": []}),
                  ABOUT)
    for words in ("Interactions over time", "Groups", "Knowledge", "Notes", "Rejected rows"):
        assert words not in page


def test_links_are_shown_with_their_contradictions() -> None:
    page = html.unescape(render(make_audit(), ABOUT))
    assert "year differs from the entity's film.year in 2 of 9 compared links" in page
    assert f"7 {NASTY} → m.1 ({NASTY})" in page
    without = make_audit()
    del without["links"]
    assert "Links to check" not in render(without, ABOUT)


def test_every_plot_has_labels_for_its_axes() -> None:
    page = render(make_audit(), ABOUT)
    assert page.count("<svg") == 5
    for words in ("time (UTC)", "interactions in each of 2 spans", "share of the training items, most popular first"):
        assert words in page


def test_the_same_audit_gives_the_same_page_and_json(tmp_path: Path) -> None:
    write_audit(tmp_path, make_audit(), ABOUT)
    assert (tmp_path / "audit.html").read_text("utf-8") == render(make_audit(), ABOUT)
    assert json.loads((tmp_path / "audit.json").read_text("utf-8")) == json.loads(json.dumps(make_audit()))


def test_stacked_bars_stand_on_each_other() -> None:
    chart = charts.bars("t", "x", "y", ["a", "b"], {"train": [6, 0], "valid": [2, 4]})
    low, high, second = chart.bars
    assert [tick.label for tick in chart.y_ticks] == ["0", "2", "4", "6", "8"]
    assert low.y + low.height == pytest.approx(charts.HEIGHT - charts.BOTTOM)
    assert high.y + high.height == pytest.approx(low.y)
    assert high.y == pytest.approx(charts.TOP)
    assert (low.series, high.series, second.series) == (0, 1, 1)
    assert second.label == "b: 4 valid"


@pytest.mark.parametrize(("most", "end"), [(0, 1), (1, 1), (3, 3), (7, 8), (99, 100), (12_345, 15_000),
                                           (16_000_000, 20_000_000)])
def test_axes_end_at_round_numbers(most: int, end: int) -> None:
    assert charts.scale(most)[0] == end


def test_numbers_beside_an_axis_are_short() -> None:
    assert [charts.short(n) for n in (0, 950, 1200, 45_000, 2_500_000)] == ["0", "950", "1,200", "45k", "2.5M"]


def test_the_page_is_made_without_matplotlib_or_torch() -> None:
    code = "import sys, llmrec_cli.report.audit; print({'matplotlib', 'torch', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@needs_browser
@pytest.mark.parametrize(("width", "language"), some_slow([(360, "zh"), (360, "en"), (1280, "en")]))
def test_the_page_is_no_wider_than_the_window_and_its_charts_and_headers_have_room(
        tmp_path: Path, width: int, language: str) -> None:
    charts = "[...page.querySelectorAll('.chart')].filter(chart => chart.scrollWidth > chart.clientWidth).length"
    # A header of three characters or more must not be a column of single characters.
    headers = ("[...page.querySelectorAll('thead th')].filter(th => th.textContent.length > 2 && th.clientWidth < "
               "3 * parseFloat(getComputedStyle(th).fontSize)).length")
    page = render(make_audit(), ABOUT, language)
    assert measure(tmp_path, page, width, f"[{OVERFLOW}, {charts}, {headers}]") == "0,0,0"


def test_a_skipped_check_is_not_shown_as_passed() -> None:
    printed = re.sub(r"\s+", " ", "".join(Visible(render(make_audit(), ABOUT)).text))
    assert "Not checked Titles told. No user has a text." in printed
    assert "OK Older ones. Found: 0 of 3. split=random is not a forecast." in printed


def test_a_check_that_found_rows_without_a_warning_is_a_note() -> None:
    audit = make_audit()
    older = next(check for check in audit["leakage"] if check["meaning"].startswith("Older"))
    printed = "".join(Visible(render({**audit, "leakage": [{**older, "count": 2, "share": 2 / 3}]}, ABOUT)).text)
    assert "Note Older ones. Found: 2 of 3 (66.67%)." in re.sub(r"\s+", " ", printed)


def test_example_links_are_shown_once() -> None:
    audit = make_audit(notes=[LINK_NOTE])
    assert LINK_NOTE not in render(audit, ABOUT)
    assert LINK_NOTE in render({key: value for key, value in audit.items() if key != "links"}, ABOUT)


def test_ties_in_time_are_shown_with_their_ordering_rule() -> None:
    page = render(make_audit(), ABOUT)
    assert "Equal timestamps" in page
    assert "<td>3<small>75.0%</small></td><td>1 users<small>50.0%</small></td><td>salted hash</td>" in page
    assert "Equal timestamps" not in render(make_audit(ties={}), ABOUT)


def test_the_page_is_in_chinese_but_for_data_and_messages(tmp_path: Path) -> None:
    write_audit(tmp_path, make_audit(warnings=[], notes=[], leakage=[]), ABOUT, "zh")
    page = (tmp_path / "audit.html").read_text("utf-8")
    text = html.unescape(re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>|<[^>]*>", " ", page)).replace(NASTY, "")
    for chinese in ("行的去向", "数据泄漏", "没有警告", "长尾", "每个用户的交互数"):
        assert chinese in text
    assert '<html lang="zh-CN">' in page
    assert not re.findall("[a-z]{3,} [a-z]{3,}", text)
