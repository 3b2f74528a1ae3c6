"""New interactions for a model: the merged histories equal those of preparing all rows together."""

import csv
import json
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import torch

from llmrec_cli import cli
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import DataError
from llmrec_cli.heads.artifact import Recommender, load_recommender, save_recommender
from llmrec_cli.heads.base import Context, build
from llmrec_cli.requests.latest_histories import Histories, latest_histories
from llmrec_cli.settings.head import ItemKnnSettings, ModelConfig
from llmrec_cli.settings.recommend import RecommendConfig
from tests.conftest import own_sigterm
from tests.some_slow import some_slow

START = 1_600_000_000
EVENTS = "{view: 1, buy: 5}"
RETURNS = "{view: 1, buy: 5, back: -6}"


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Path]:
    with chdir(tmp_path), own_sigterm():
        yield tmp_path


def write(name: str, header: str, rows: list[tuple]) -> str:
    with Path(name).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([header.split(","), *rows])
    return name


def prepare(name: str, header: str, rows: list[tuple], *settings: str) -> None:
    write(f"{name}.csv", header, rows)
    cli.run(["prepare", "dataset=files", f"dataset.name={name}", f"dataset.interactions={name}.csv", "split=none",
             *settings])


def model(header: str, rows: list[tuple], *settings: str) -> Recommender:
    """Prepare the rows, fit a model that reads times and values, and read it."""
    prepare("old", header, rows, *settings)
    data, context = read_prepared("data/prepared/old"), Context(torch.device("cpu"), 1)
    head = build(ModelConfig(head=ItemKnnSettings(k=5, decay=100.0 if "timestamp" in header else None)))
    head.fit(data.training("train"), context)
    save_recommender(Path("fitted"), head, data, ("train",), {})
    return load_recommender(Path("fitted"), context)


def asked_with(known: Recommender, file: str) -> Histories:
    return latest_histories(RecommendConfig(queries="all", interactions=file), known, known.users, known.items, True)


def by_id(known: Recommender, result: Histories) -> dict[tuple[str, str], tuple[float, int]]:
    """Value and time of each user's item."""
    row = np.repeat(np.arange(result.history.shape[0]), np.diff(result.history.indptr))
    times = np.zeros(len(row)) if result.times is None else result.times.data
    assert result.times is None or (result.times.indices == result.history.indices).all()
    return {(result.users.ids[user], known.items.ids[item]): (float(value), int(time)) for user, item, value, time
            in zip(row, result.history.indices, result.history.data, times, strict=True)}


def prepared_at_once(header: str, rows: list[tuple], *settings: str) -> dict[tuple[str, str], tuple[float, int]]:
    prepare("whole", header, rows, *settings)
    data = read_prepared("data/prepared/whole")
    one = data.interactions
    return {(data.users.ids[user], data.items.ids[item]): (float(value), int(time)) for user, item, value, time
            in zip(one.user, one.item, one.value, one.timestamp, strict=True)}


def rows_of(generator: np.random.Generator, size: int, events: list[str] | None, start: int) -> list[tuple]:
    """Rows of few users and items, so that pairs repeat, each at a different time."""
    kinds = generator.choice(events, size) if events else generator.integers(1, 6, size)
    return [(f"u{generator.integers(6)}", f"i{generator.integers(8)}", str(kind), start + 60 * n)
            for n, kind in enumerate(kinds)]


@pytest.mark.parametrize(("events", "settings"), some_slow([
    (["view", "buy", "buy", "back"], [f"dataset.event_weights={RETURNS}"]), (None, ["dataset.duplicates=keep_last"]),
    (None, ["dataset.duplicates=keep_first"]), (None, ["dataset.duplicates=max"]),
    (None, ["dataset.duplicates=sum"]), (["view", "buy"], [f"dataset.event_weights={EVENTS}"])], 1, 2))
def test_interactions_of_today_are_merged_as_if_all_had_been_prepared_together(events: list[str] | None,
                                                                               settings: list[str]) -> None:
    generator = np.random.default_rng(5)
    column = "event" if events else "value"
    header = f"user_id,item_id,{column},timestamp"
    positive = [event for event in events if event != "back"] if events else None
    # An interaction that is taken back in the data is not in the model, so returns are in the new file.
    old, new = rows_of(generator, 60, positive, START), rows_of(generator, 60, events, START + 10**6)
    old += [(f"u{n}", f"i{m}", old[0][2], START - 10) for n in range(6) for m in range(8) if n == 0 or m == 0]
    known = model(header, old, *settings)
    result = by_id(known, asked_with(known, write("today.csv", header, new)))
    assert result == prepared_at_once(header, old + new, *settings)


def test_a_later_rating_that_is_no_sign_of_interest_takes_back_what_was_known() -> None:
    header = "user_id,item_id,value,timestamp"
    old = [(user, item, 5, START + n) for user in "uvw" for n, item in enumerate("abc")]
    known = model(header, old, "dataset.min_value=4")
    result = asked_with(known, write("today.csv", header, [("u", "a", 1, START + 99), ("new", "b", 1, START + 99)]))
    assert ("u", "a") not in by_id(known, result)
    assert len(by_id(known, result)) == len(old) - 1
    assert result.seen.nnz == len(old)
    assert any("1 known interactions removed from histories" in note for note in result.notes)
    assert "new" not in result.users.index


@pytest.mark.parametrize("new", some_slow([[("u", "b"), ("u", "b")], [("u", "b"), ("u", "a")]]))
def test_a_repeated_pair_is_refused_by_its_line_where_none_may_be_repeated(new: list[tuple]) -> None:
    known = model("user_id,item_id", [("u", "a"), ("v", "a"), ("v", "b")], "dataset.duplicates=error")
    with pytest.raises(DataError, match=r"today.csv: line 3: user 'u' already has an interaction with item '[ab]'"):
        asked_with(known, write("today.csv", "user_id,item_id", new))


@pytest.mark.parametrize(("header", "old", "settings", "value"), some_slow([
    ("user_id,item_id,value", [("u", "a", 500), ("v", "a", 2000), ("v", "b", 8000)], [], 2000),
    ("user_id,item_id", [("u", "a"), ("v", "a"), ("v", "b")], [], 1),
    # Counts: each row of the data was one more.
    ("user_id,item_id", [("u", "a"), ("u", "a"), ("v", "a"), ("v", "a"), ("v", "b")], ["dataset.duplicates=sum"], 1),
    ("user_id,item_id,value", [("u", "a", 3), ("v", "a", 5), ("v", "b", 4)], ["dataset.duplicates=sum"], 4)]))
def test_a_row_without_a_value_has_the_usual_one_where_the_data_has_values(header: str, old: list[tuple],
                                                                           settings: list[str], value: float) -> None:
    known = model(header, old, *settings)
    assert by_id(known, asked_with(known, write("today.csv", "user_id,item_id", [("u", "b")])))["u", "b"][0] == value


@pytest.mark.parametrize("per_second", some_slow([1, 1e3, 1e6, 1e9]))
def test_times_of_today_are_read_in_the_unit_that_prepare_would_take_them_for(per_second: float) -> None:
    header = "user_id,item_id,timestamp"
    known = model(header, [("u", "a", START), ("v", "a", START), ("v", "b", START + 1)])
    file = write("today.csv", header, [("u", "b", int((START + 5) * per_second))])
    assert by_id(known, asked_with(known, file))["u", "b"] == (1, (START + 5) * 1000)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "message"), some_slow([
    ((START, START * 1000), "more than one unit: line 2 has '1600000000' (s), line 3 has '1600000000000' (ms)"),
    ((START, f"{START},5"), f"line 3: timestamp '{START},5' has a decimal comma; export numbers with a decimal "
                            f"point: {START}.5 for"),
    ((20240131, 20240201), "dates as numbers, YYYYMMDD"), ((START, -5), "line 3: timestamp '-5' is neither a time"),
    ((5_000_000_000, 5_000_000_000), "is before 1970 or after 2100")], 2))
def test_implausible_times_of_new_interactions_are_refused(times: tuple[int, int], message: str) -> None:
    header = "user_id,item_id,timestamp"
    known = model(header, [("u", "a", START), ("v", "a", START), ("v", "b", START + 1)])
    file = write("today.csv", header, [("u", "a", times[0]), ("u", "b", times[1])])
    with pytest.raises(DataError) as refused:
        asked_with(known, file)
    assert message in str(refused.value)


def test_rows_of_an_event_with_weight_0_are_ignored_and_counted_even_without_an_item() -> None:
    header, settings = "user_id,item_id,event,timestamp", "dataset.event_weights={view: 1, open: 0}"
    known = model(header, [("u", "a", "view", START), ("v", "b", "view", START)], settings,
                  "dataset.duplicates=keep_last")
    new = [("u", "", "open", ""), ("u", "a", "open", START + 9), ("v", "a", "view", START + 9)]
    result = asked_with(known, write("today.csv", header, new))
    assert set(by_id(known, result)) == {("u", "a"), ("v", "b"), ("v", "a")}
    assert result.notes[0].startswith("interactions=today.csv: 2 rows ignored: their event has weight 0")
    only = asked_with(known, write("today.csv", header, new[:1]))
    assert set(by_id(known, only)) == {("u", "a"), ("v", "b")}


def seen_by(known: Recommender, result: Histories, user: str) -> set[str]:
    row = result.users.index[user]
    return set(known.items.ids[result.seen[[row]].indices])


def test_returned_items_are_left_out_of_lists_as_those_in_the_history_are() -> None:
    header, at = "user_id,item_id,value,timestamp", START
    rows = [("u", "a", 1, at), ("u", "b", 1, at + 1), ("u", "a", -1, at + 2), ("v", "a", 1, at), ("v", "c", 1, at)]
    known = model(header, rows, "dataset.duplicates=sum")
    assert set(known.items.ids[known.seen[[known.users.index["u"]]].indices]) == {"a", "b"}
    everyone = RecommendConfig(queries="all")
    now = latest_histories(everyone, known, known.users, known.items, True)
    assert (seen_by(known, now, "u"), seen_by(known, now, "v")) == ({"a", "b"}, {"a", "c"})
    assert by_id(known, now).keys() == {("u", "b"), ("v", "a"), ("v", "c")}
    write("old.csv", header, [*rows, ("v", "b", 1, at + 5), ("v", "b", -1, at + 6)])  # A return since the fit.
    cli.run(["prepare", "dataset=files", "dataset.name=old", "dataset.interactions=old.csv", "split=none",
             "dataset.duplicates=sum"])
    assert seen_by(known, latest_histories(everyone, known, known.users, known.items, True), "v") == {"a", "b", "c"}
    today = asked_with(known, write("today.csv", header, [("u", "c", -1, at + 9)]))
    assert seen_by(known, today, "u") == {"a", "b", "c"}


@pytest.mark.slow
def test_a_model_without_a_duplicates_policy_uses_its_event_weights() -> None:
    header = "user_id,item_id,event"
    known = model(header, [("u", "a", "buy"), ("v", "a", "view"), ("v", "b", "buy")],
                  f"dataset.event_weights={EVENTS}")
    known.manifest["positives"] = {key: known.manifest["positives"][key] for key in ("min_value", "event_weights")}
    result = by_id(known, asked_with(known, write("today.csv", header, [("u", "a", "view"), ("v", "a", "buy")])))
    assert (result["u", "a"][0], result["v", "a"][0]) == (5, 5)


@pytest.mark.slow
def test_groups_with_interactions_newer_than_the_fit_are_counted_theirs_or_a_members() -> None:
    write("members.csv", "group_id,user_id", [("g", "u"), ("g", "v"), ("h", "w"), ("k", "v")])
    write("together.csv", "group_id,item_id", [("g", "a"), ("h", "b"), ("k", "b")])
    known = model("user_id,item_id", [("u", "a"), ("v", "a"), ("v", "b"), ("w", "b"), ("w", "c")],
                  "dataset.groups=members.csv", "dataset.group_interactions=together.csv")
    file = write("today.csv", "user_id,item_id", [("u", "c")])
    result = asked_with(known, file)
    assert (result.num_newer, result.num_newer_groups) == (1, 1)
    assert any("1 of the model's 3 users and 1 of its 3 groups (counting members)" in note for note in result.notes)
    cli.run(["recommend", "model=fitted", "queries=all", f"interactions={file}", "output=out.jsonl", "device=cpu"])
    manifest = json.loads(Path("out.jsonl.manifest.json").read_text("utf-8"))
    assert (manifest["newer_histories"], manifest["newer_group_histories"]) == (1, 1)
