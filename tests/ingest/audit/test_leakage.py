"""Each check finds a planted leak, and nothing in clean data."""

from pathlib import Path

import pytest

from llmrec_cli.ingest.audit.title_leakage import contains_title
from llmrec_cli.settings.split import GivenSettings, RandomSettings, TemporalSettings
from tests.ingest.audit.folders import audited, check, write_folder

CLEAN = [("u", "a", 1.0, 1000, "train"), ("u", "b", 1.0, 2000, "train"), ("v", "a", 1.0, 2000, "train"),
         ("v", "c", 1.0, 3000, "valid"), ("u", "c", 1.0, 4000, "test")]
CHECKS = ("held_out_pairs_in_training", "validation_pairs_in_test", "training_after_cutoff",
          "items_described_after_cutoff", "held_out_titles_in_user_texts")


@pytest.mark.audited
def test_a_clean_split_gives_no_warning(tmp_path: Path) -> None:
    result, account = audited(write_folder(tmp_path, CLEAN), TemporalSettings())
    assert [c["verdict"] for c in result["leakage"]] == ["ok"] * 5
    assert [c["name"] for c in result["leakage"]] == list(CHECKS)
    assert account.warnings == result["warnings"] == []


@pytest.mark.audited
def test_a_held_out_pair_that_is_in_training_is_found(tmp_path: Path) -> None:
    rows = [*CLEAN, ("v", "a", 1.0, 5000, "test"), ("u", "b", 1.0, 3000, "valid")]
    result, account = audited(write_folder(tmp_path, rows, items=[{"item_id": "a", "title": "Alien"}]))
    leak = check(result, "held_out_pairs_in_training")
    assert (leak["count"], leak["checked"], leak["share"], leak["verdict"]) == (2, 4, 0.5, "warning")
    assert leak["examples"] == [{"user_id": "u", "item_id": "b", "title": "b", "split": "valid"},
                                {"user_id": "v", "item_id": "a", "title": "Alien", "split": "test"}]
    assert account.counts["held_out_also_in_train"] == 2
    assert account.warnings == ["2 validation or test pairs (50.00%) are also in training; a model that excludes seen "
                                "items cannot recommend them; split.leaks=drop removes them from validation and test"]


@pytest.mark.audited
def test_a_validation_pair_that_is_in_the_test_is_found(tmp_path: Path) -> None:
    result, account = audited(write_folder(tmp_path, [*CLEAN, ("v", "c", 1.0, 5000, "test")]))
    leak = check(result, "validation_pairs_in_test")
    assert (leak["count"], leak["checked"], leak["verdict"]) == (1, 2, "warning")
    assert check(result, "held_out_pairs_in_training")["count"] == 0
    assert "1 validation pairs are also in the test (50.00% of it)" in account.warnings[0]


@pytest.mark.audited
def test_leak_checks_in_blocks_of_users_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(f"u{n:03}", item, 1.0, n, split) for n in range(100) for item, split in (("a", "train"), ("b", "valid"))]
    rows += [(f"u{n:03}", "a", 1.0, 500, "test") for n in range(0, 100, 3)]
    folder = write_folder(tmp_path, rows)
    whole, _ = audited(folder)
    monkeypatch.setattr("llmrec_cli.ingest.audit.leakage.AT_ONCE", 50)
    assert audited(folder)[0] == whole
    assert check(whole, "held_out_pairs_in_training")["count"] == 34


@pytest.mark.audited
def test_training_at_or_after_the_cutoff_is_found(tmp_path: Path) -> None:
    rows = [*CLEAN, ("v", "d", 1.0, 3000, "train"), ("u", "d", 1.0, 9000, "valid")]
    result, account = audited(write_folder(tmp_path, rows), TemporalSettings())
    leak = check(result, "training_after_cutoff")
    assert (leak["count"], leak["checked"], leak["verdict"]) == (2, 6, "warning")
    assert leak["examples"][1] == {"user_id": "v", "item_id": "d", "title": "d", "split": "train",
                                   "timestamp": "1970-01-01T00:00:03Z"}
    assert "2 training or validation interactions" in account.warnings[0]


@pytest.mark.audited
def test_a_random_split_has_a_note_about_forecasting_but_no_warning(tmp_path: Path) -> None:
    rows = [*CLEAN, ("u", "d", 1.0, 1500, "valid")]
    result, account = audited(write_folder(tmp_path, rows), RandomSettings())
    older = check(result, "held_out_older_than_training")
    assert (older["count"], older["checked"], older["verdict"]) == (1, 3, "ok")
    assert older["note"].startswith("split=random does not measure forecasting")
    assert account.warnings == []
    assert ("33% of the held-out interactions are older than their user's newest training interaction, so this split "
            "does not measure forecasting") in account.notes


@pytest.mark.audited
@pytest.mark.parametrize(("text", "count"), [
    ("my favourite is THE MATRIX.", 1), ("thematrix", 0), ("The Matrix Reloaded, Alien", 0),
    ("The Matrix Reloaded and The Matrix", 1), ("likes films", 0)])
def test_a_held_out_title_in_the_users_text_is_found(tmp_path: Path, text: str, count: int) -> None:
    rows = [("u", "2", 1.0, 1000, "train"), ("u", "3", 1.0, 1000, "train"), ("v", "1", 1.0, 1000, "train"),
            ("u", "1", 1.0, 2000, "test"), ("v", "3", 1.0, 2000, "test")]
    items = [{"item_id": "1", "title": "The Matrix"}, {"item_id": "2", "title": "The Matrix Reloaded"},
             {"item_id": "3", "title": "Heat"}]
    result, account = audited(write_folder(tmp_path, rows, items, [{"user_id": "u", "text": text}]))
    leak = check(result, "held_out_titles_in_user_texts")
    assert (leak["count"], leak["checked"]) == (count, 1)
    assert leak["verdict"] == ("warning" if count else "ok")
    assert bool(account.warnings) == bool(count)


@pytest.mark.audited
def test_only_some_users_are_looked_at_when_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("t", "1", 1.0, 1000, "train"), *((f"u{n}", "1", 1.0, 2000, "test") for n in range(9))]
    users = [{"user_id": f"u{n}", "text": "saw Heat"} for n in range(9)]
    monkeypatch.setattr("llmrec_cli.ingest.audit.title_leakage.MOST_PAIRS", 3)
    result, _ = audited(write_folder(tmp_path, rows, [{"item_id": "1", "title": "Heat"}], users))
    leak = check(result, "held_out_titles_in_user_texts")
    assert (leak["count"], leak["checked"]) == (3, 3)
    assert "for one user in 3 only" in leak["note"]


def test_words_in_scripts_without_spaces_match_inside_a_text() -> None:
    assert contains_title("我喜欢千と千尋の神隠しです", "千と千尋の神隠し")
    assert not contains_title("theatre", "heat")
    assert contains_title("theatre, heat", "heat")


@pytest.mark.audited
@pytest.mark.parametrize("times", [("2", "3"), pytest.param(("1970-01-01T00:00:02Z", "1970-01-01T00:00:03Z"),
                                                                marks=pytest.mark.slow)])
def test_items_of_training_described_after_the_cutoff_are_found(tmp_path: Path, times: tuple[str, str]) -> None:
    items = [{"item_id": "a", "timestamp": times[0]}, {"item_id": "b", "title": "Late", "timestamp": times[1]},
             {"item_id": "c", "timestamp": "9"}]
    result, account = audited(write_folder(tmp_path, CLEAN, items), TemporalSettings())
    leak = check(result, "items_described_after_cutoff")
    assert (leak["count"], leak["checked"], leak["verdict"]) == (1, 2, "warning")
    assert leak["examples"] == [{"item_id": "b", "title": "Late", "timestamp": times[1]}]
    assert "1 training items were described" in account.warnings[0]


@pytest.mark.slow
def test_unreadable_times_of_items_are_counted(tmp_path: Path) -> None:
    result, _ = audited(write_folder(tmp_path, CLEAN, [{"item_id": "a", "timestamp": "spring"}]), TemporalSettings())
    assert check(result, "items_described_after_cutoff")["note"].startswith("1 of these timestamps cannot be read")


@pytest.mark.audited
def test_held_out_pairs_disliked_in_training_are_counted(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, CLEAN, negatives=[("v", "c", 0.0, 1000, "train"), ("u", "c", 0.0, 9000, "test")])
    result, account = audited(folder, GivenSettings())
    leak = check(result, "held_out_disliked_in_training")
    assert (leak["count"], leak["checked"], leak["verdict"]) == (1, 2, "ok")
    assert leak["examples"][0]["user_id"] == "v"
    assert account.warnings == []
    assert account.counts["negatives"] == 2


def test_without_held_out_rows_every_check_is_ok(tmp_path: Path) -> None:
    rows = [(*row[:4], "train") for row in CLEAN]
    result, _ = audited(write_folder(tmp_path, rows[:4]))
    assert {c["verdict"] for c in result["leakage"]} == {"ok"}
