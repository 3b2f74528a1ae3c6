"""The report shows the results, escapes data, and loads nothing from outside."""

import functools
import html
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from llmrec_cli.metrics.table import METRICS, metric_of
from llmrec_cli.report import pages, plots
from llmrec_cli.report.content import Curve, Entry, EvaluationReport, Example, main_cutoff, training_curves
from llmrec_cli.report.headline import _winner, headline, warnings
from llmrec_cli.report.html import render
from llmrec_cli.report.pages import SLICES, metrics_table
from tests.browser import OVERFLOW, browse, measure, needs_browser
from tests.some_slow import some_slow

NASTY = "<script>alert('1')</script>\"&=cmd"
RANKING = [metric.name for metric in METRICS.values() if metric.monitored]


def described(base):
    metrics = {f"{name}@{k}": {"mean": base, "ci95": [base - 0.01, base + 0.01]} for name in RANKING for k in (5, 10)}
    whole = {f"coverage@{k}": {"mean": 0.5, "ci95": None} for k in (5, 10)}
    return metrics | whole | {"tail_share@10": {"mean": 0.1, "ci95": [0.0, 0.2]}}


def content(low=0.05, high=0.15, **changes):
    compared = {name: {"difference": 0.1, "ci95": [low, high], "p": 0.002, "p_holm": 0.004} for name in described(0.3)}
    protocol = {"num_queries": 943, "num_skipped": 2, "ties": "by hash", "candidates": "all",
                "num_candidates": 4, "slice_queries": dict.fromkeys(SLICES, 7)}
    metrics = {"protocol": protocol, "metrics": described(0.3), "baselines": {"popularity": described(0.2)},
               "comparisons": {"popularity": compared}, "slices": {name: {} for name in SLICES}, "tie_rate": 0.01,
               "degenerate_rate": 0.0, "suspicious": []}
    example = Example(NASTY, [Entry(NASTY)], [Entry("千と千尋の神隠し", True), Entry("Alien")], [Entry("أحلام")], 20, 1)
    report = EvaluationReport("ease", {"Data": [("Name", NASTY)]}, metrics, 10, np.array([9, 3, 1, 0]),
                              {"ease": np.array([3, 2, 0, 1]), "popularity": np.array([6, 0, 0, 0])},
                              [Curve("training loss by step", [(1, 2.0), (2, 1.5)])], [example])
    return replace(report, **changes)


@functools.cache
def page():
    """Render the report once for all tests."""
    return render(content())


class Visible(HTMLParser):
    """Collects tags with attributes and the visible text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.inside = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self.inside):
            self.text.append(data)


@pytest.mark.slow
def test_titles_with_markup_are_shown_and_not_run():
    printed = Visible(page())
    assert not [tag for tag, _ in printed.tags if tag == "script"]
    assert "".join(printed.text).count(NASTY) >= 3


@pytest.mark.parametrize(("name", "kind"), [("rmse", "better"), ("auc", "worse")])
def test_a_lower_value_is_better_where_the_table_of_metrics_says_so(name, kind):
    one = content()
    one.metrics["metrics"][name] = {"mean": 0.5, "ci95": [0.4, 0.6]}
    one.metrics["comparisons"]["popularity"][name] = {"difference": -0.2, "ci95": [-0.3, -0.1], "p": 0.01}
    row = next(row for row in metrics_table(one).rows if row.name == name)
    assert row.cells[-1].kind == kind


def test_a_value_stands_over_both_ends_of_its_interval():
    ndcg = {"ndcg@10": {"mean": 0.25, "ci95": [0.2, 0.3]}}
    assert pages.mean_cell(ndcg, "ndcg@10") == pages.Cell("0.2500", "0.2000 to 0.3000")
    assert pages.mean_cell({"coverage@10": {"mean": 0.25, "ci95": None}}, "coverage@10") == pages.Cell("0.2500", "")
    difference = {"difference": 0.02, "ci95": [0.01, 0.03], "p": 0.0104}
    assert pages.difference_cell(difference, 1) == pages.Cell("+0.0200", "+0.0100 to +0.0300; p 0.010", "better")
    assert pages.difference_cell(difference, -1).kind == "worse"
    assert pages.difference_cell(difference | {"ci95": [-0.01, 0.05]}, 1).kind == ""


def test_the_report_defines_the_metrics_it_shows_and_no_others():
    text = "".join(Visible(page()).text)
    for name in ("ndcg@10", "coverage@10", "tail_share@10"):
        assert text.count(metric_of(name).definition) == 1
    assert metric_of("rmse").definition not in text


def test_the_report_loads_nothing_from_anywhere():
    text = page()
    assert not re.search(r"https?://|//[a-z]+\.[a-z]", text)
    loading = {"link", "script", "img", "iframe", "object", "embed", "audio", "video", "source", "base", "form"}
    parsed = Visible(text)
    assert not loading & {tag for tag, _ in parsed.tags}
    for _, attributes in parsed.tags:
        assert all(value.startswith("#") for key, value in attributes.items() if key in ("src", "href", "xlink:href"))
    assert "@import" not in text
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))


def test_ids_of_the_plots_do_not_collide():
    ids = re.findall(r'\bid="([^"]+)"', page())
    assert len(ids) == len(set(ids))


def test_every_reference_within_a_plot_is_defined():
    text = page()
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) <= {
        pair for name in re.findall(r'\bid="([^"]+)"', text) for pair in ((name, ""), ("", name))}


def test_plots_take_their_colours_from_the_page():
    assert not re.search(r"#0[1-9a-b]0[1-9a-b]0[1-9a-b]", page())


def test_all_scripts_are_in_the_page_as_text():
    text = html.unescape(page())
    assert "千と千尋の神隠し" in text
    assert "أحلام" in text


@pytest.mark.slow
def test_the_same_evaluation_gives_the_same_bytes():
    assert render(content()) == page()


@pytest.mark.slow
def test_a_model_without_training_curves_says_so():
    assert "No training curves" in render(content(curves=[]))
    assert "No training curves" not in page()


@pytest.mark.slow
def test_without_baselines_the_report_still_renders():
    metrics = {**content().metrics, "baselines": {}, "comparisons": {}}
    text = render(content(metrics=metrics, exposure={"ease": np.array([1, 1, 0, 0])}))
    assert "reaches an ndcg@10 of 0.300" in text


@pytest.mark.parametrize(("low", "high", "title"), [(0.05, 0.15, "EASE ranks better than popularity"),
                                                    (-0.1, 0.1, "EASE does not differ significantly from popularity"),
                                                    (-0.2, -0.1, "EASE ranks worse than popularity")])
def test_the_title_claims_no_more_than_the_interval(low, high, title):
    assert headline(content(low, high)).title == title


def test_many_ties_give_a_warning_and_few_do_not():
    metrics = content().metrics
    assert warnings(metrics, 10) == []
    assert "97% of the lists" in warnings({**metrics, "tie_rate": 0.97}, 10)[0]


def test_sampled_candidates_constant_scores_and_possible_leaks_give_warnings():
    metrics = content().metrics
    sampled = {**metrics["protocol"], "candidates": "sampled: 99 at random"}
    assert "99 at random" in warnings({**metrics, "protocol": sampled}, 10)[0]
    assert "For 40% of the users" in warnings({**metrics, "degenerate_rate": 0.4}, 10)[0]
    assert "Possible leak: it knows" in warnings({**metrics, "suspicious": ["it knows"]}, 10)[0]


def test_zero_recall_is_explained_if_no_held_out_item_is_in_training():
    metrics = content().metrics
    cold = {"protocol": {"candidates": "all", "slice_queries": {**dict.fromkeys(SLICES, 0), "item:cold": 7}}}
    assert warnings({**metrics, **cold}, 10) == []
    assert warnings({**metrics, **cold, "metrics": described(0.0)}, 10)[0].startswith("No held-out item is in training")
    assert warnings({**metrics, "metrics": described(0.0)}, 10) == []


def test_the_report_talks_about_lists_of_ten_or_the_nearest_length():
    assert main_cutoff([5, 10, 20]) == 10
    assert main_cutoff([1, 100]) == 1
    assert main_cutoff([5, 15]) == 5


def test_training_curves_are_read_from_the_log_and_a_new_fit_begins_a_new_curve(tmp_path):
    lines = ['{"event": "step", "step": 1, "loss": 3.0}', '{"event": "step", "step": 2, "loss": 2.0}',
             '{"event": "validation", "epoch": 1, "value": 0.1}', '{"event": "step", "step": 1, "loss": 2.5}',
             '{"event": "chosen", "monitor": "ndcg@10", "value": 0.1}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    assert training_curves(tmp_path / "log.jsonl") == [
        Curve("training loss by step", [(1, 3.0), (2, 2.0)]), Curve("training loss by step", [(1, 2.5)]),
        Curve("ndcg@10 on validation by epoch", [(1, 0.1)])]
    assert training_curves(tmp_path / "none.jsonl") == []


def test_long_curves_are_thinned_by_means(tmp_path):
    lines = [f'{{"event": "step", "step": {n}, "loss": 1.5}}' for n in range(1, 5001)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    (curve,) = training_curves(tmp_path / "log.jsonl")
    assert len(curve.points) <= 300
    assert {value for _, value in curve.points} == {1.5}


@pytest.mark.slow
def test_the_picture_of_a_large_catalogue_stays_small():
    counts = np.random.default_rng(0).zipf(1.3, 200_000).clip(max=100_000)
    svg = plots.popularity(counts, {"ease": counts // 3, "popularity": counts // 5})
    assert len(svg) < 600_000


def test_the_popularity_plot_draws_where_nothing_is_recommended():
    svg = plots.popularity(np.array([3, 1, 0]), {"ease": np.zeros(3, np.int64)})
    assert "popularity rank" in svg


@needs_browser
@pytest.mark.parametrize("width", some_slow([390, 1280]))
def test_the_report_renders_in_a_browser(tmp_path, width):
    """The picture is not empty, and the page is not wider than the window."""
    assert measure(tmp_path, page(), width, f"[{OVERFLOW}, page.title]") == "0,EASE ranks better than popularity"
    picture = tmp_path / "report.png"
    browse(tmp_path, (tmp_path / "page.html").as_uri(), f"--screenshot={picture}")
    image = pytest.importorskip("matplotlib.image").imread(picture)
    assert image[..., :3].std() > 0.02


def test_the_title_of_a_comparison_lists_the_models_that_do_not_differ_significantly():
    def title(*letters):
        names = ["ease", "ials", "item_knn", "popularity"]
        rows = [{"name": name, "letters": some} for name, some in zip(names, letters, strict=False)]
        return _winner({"leaderboard": {"rows": rows}})
    assert title("a", "b") == "EASE ranks best of 2 recommenders"
    assert title("a", "a", "b") == "EASE ranks first of 3 recommenders, but is not significantly better than iALS"
    assert title("a", "a", "a", "a") == ("EASE ranks first of 4 recommenders, but is not significantly better than "
                                         "iALS, item kNN or popularity")


def compared(named=False, equal=False, **changes):
    """The content of a comparison of two models, about the second one that was given."""
    one = content()
    rows = [{"name": "ease", "baseline": False, "letters": "a", "mean": 0.3, "ci95": [0.29, 0.31]},
            {"name": "ials", "baseline": False, "letters": "b", "mean": 0.3 if equal else 0.2, "ci95": [0.1, 0.3]},
            {"name": "popularity", "baseline": True, "letters": "c", "mean": 0.1, "ci95": [0.05, 0.15]}]
    of_model = {"metrics": one.metrics["metrics"], "slices": {name: {"ndcg@10": {"mean": 0.3}} for name in SLICES},
                "tie_rate": 0.0, "degenerate_rate": 0.0, "suspicious": []}
    metrics = one.metrics | {"models": {"ease": of_model, "ials": of_model | {"tie_rate": 0.9, "suspicious": ["odd"]}},
                             "leaderboard": {"metric": "ndcg@10", "rows": rows}}
    metrics["comparisons"] |= {"ials": metrics["comparisons"]["popularity"]}
    return replace(one, metrics=metrics, compared_models=("ease", "ials"), is_named=named, **changes)


def test_a_comparison_says_which_model_its_sentences_warnings_and_details_are_about():
    top = headline(compared())
    assert top.title == "EASE ranks best of 3 recommenders"
    assert top.sentences[1] == "Sentences and details below are about EASE, the best model by ndcg@10."
    assert headline(compared(named=True)).sentences[1].endswith("about EASE, which about= names.")
    assert headline(compared(equal=True)).sentences[1].endswith("The same ndcg@10 is reached by iALS.")
    assert all("EASE" in sentence for sentence in top.sentences[2:])
    assert "90% of the lists of ials contain items with equal scores" in top.warnings[0]
    assert "ials: odd" in top.warnings[1]


def drawn_without_plots(monkeypatch, one, language):
    monkeypatch.setattr("llmrec_cli.report.html._plots", lambda *_: dict.fromkeys(
        ("metrics", "popularity", "lengths", "trade_offs", "training"), ""))
    return render(one, language)


def test_every_shade_has_its_legend_and_headings_name_the_model(monkeypatch):
    text = drawn_without_plots(monkeypatch, compared(), "en")
    shades = set(re.findall(r'<i class="swatch (heat-[0-9])">', text))
    assert set(re.findall(r'<td class="heat (heat-[0-9])">', text)) <= shades
    assert len(shades) == 9
    for heading in ("Metrics of ease", "Metrics of ease by slice", "Items recommended by ease", "Training of ease",
                    "Example users with the lists of ease"):
        assert f"<h2>{heading}</h2>" in text


def test_metrics_link_to_the_glossary_with_their_definition_as_tooltip(monkeypatch):
    text = drawn_without_plots(monkeypatch, compared(), "en")
    tags = Visible(text).tags
    terms = [attributes for tag, attributes in tags if tag == "a"]
    assert {"#metric-ndcg", "#metric-coverage", "#metric-tail_share"} <= {term["href"] for term in terms}
    assert all(f'id="{term["href"][1:]}"' in text and len(term["title"]) > 30 for term in terms)
    assert any(tag == "details" for tag, _ in tags)
    assert "Range: 0 to 1; higher is better." in text
    assert ".term:focus-visible::after" in text


def test_the_report_is_in_chinese_but_for_data_and_names(monkeypatch):
    text = drawn_without_plots(monkeypatch, compared(), "zh")
    assert '<html lang="zh-CN">' in text
    shown = html.unescape(re.sub(r"(?s)<style>.*?</style>|<[^>]*>", " ", text)).replace(NASTY, "")
    for chinese in ("EASE 在 3 个推荐器中最好", "排行榜", "ease 的细节", "归一化折损累计增益 (NDCG)",
                    "以下说明与细节针对 EASE"):
        assert chinese in shown
    assert not set(re.findall("[a-z]{3,} [a-z]{3,}", shown)) - {"by hash"}


def test_plots_draw_chinese_text_without_warnings(recwarn):
    assert "热门名次" in plots.popularity(np.array([3, 1]), {"ease": np.array([1, 1])}, "zh")
    assert not recwarn.list
