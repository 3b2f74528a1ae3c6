"""Dirt of real shops in the data gives warnings that count it, name examples and a remedy; clean data gives none."""

import json
import random
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.interactions import suspicious_rows
from tests.ingest.preparing import prepare_text

START = 1_700_000_000
DAYS_90 = 90 * 86_400
Rows = list[tuple[str, str, int]]
pytestmark = pytest.mark.audited


def clean() -> Rows:
    """300 users with 5 to 20 purchases of 60 items in 90 days."""
    generator = random.Random(7)
    return [(f"u{user}", f"sku{generator.randrange(60)}", START + generator.randrange(DAYS_90)) for user in range(300)
            for _ in range(generator.randint(5, 20))]


def warnings_of(folder: Path, rows: Rows, items: list[str] | None = None, title: str = "Fine cotton shirt no",
                **settings: object) -> list[str]:
    """Return the warnings of preparing these rows with a catalogue of the items `sku0` to `sku59`, or of `items`."""
    names = [f"sku{n}" for n in range(60)] if items is None else items
    catalogue = "item_id,title\n" + "".join(f"{name},{title} {n}\n" for n, name in enumerate(names))
    text = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    return list(prepare_text(folder, text, items=catalogue, **settings).manifest["warnings"])


@pytest.fixture(scope="module")
def dirty_shop(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Warnings about data with all kinds of dirt, prepared with audit=strict off, when 85 of its 90 days have passed.
    """
    folder = tmp_path_factory.mktemp("dirty")
    rows = [*clean(), *((f"U{n}", "sku1", START + n) for n in range(3)), ("u1", "sku1", -1), ("u2", "sku1", -1),
            *((f"u{n}", f"ghost{n}", START + n) for n in range(4)), ("u1", "sku1", 0),
            *(("crawler", f"sku{n % 60}", START + n * 1000) for n in range(4000))]
    with pytest.MonkeyPatch.context() as patch, chdir(folder):
        patch.setattr(suspicious_rows.time, "time", lambda: float(START + 85 * 86_400))
        return warnings_of(folder, rows, [f"sku{n}" for n in range(60)], title="高品质 衬衫 XL")


@pytest.mark.parametrize("sentence", [
    "3 of the 304 user ids of the interactions would equal another one in lower case ('U0' and 'u0', 'U1' and 'u1', "
    "'U2' and 'u2'), so they may be the same users",
    "1 user has more interactions than the data has hours (2,159, from 2023-11-14T22",
    "'crawler' (4,000); programs such as crawlers look like this; dataset.drop_users=[crawler] leaves it out",
    "interactions are in the future (2024-02-0",
    "today is 2024-02-07); the cause may be a wrong clock or a wrong dataset.timestamp_format; "
    "dataset.newest=2024-02-07 leaves them out",
    " has the time 1970-01-01T00:00:00Z",
    "clicks.csv: 2 rows rejected (listed in rejects.parquet): their time, for example '-1', cannot be read, or is "
    "before 1970 or after 2100",
    "4 of 64 items of the interactions have no row in dataset.items ('ghost0', 'ghost1', 'ghost2', ...), so they have "
    "no text; is the file complete, and as new as the interactions?",
    "item texts: 71% of the letters are Han, but encoder=minilm, the usual one of finetune and pretrain, was trained "
    "on Latin texts; choose encoder=e5"])
def test_each_kind_of_dirt_has_a_warning(dirty_shop, sentence):
    assert any(sentence in warning for warning in dirty_shop), dirty_shop


def test_no_other_warning_repeats_the_dirt(dirty_shop):
    assert len(dirty_shop) == 7


def test_the_tiny_shop_has_no_warning(tiny_prepared):
    assert json.loads((tiny_prepared / "manifest.json").read_text("utf-8"))["warnings"] == []


@pytest.mark.slow
def test_clean_data_has_no_warning(tmp_path):
    assert warnings_of(tmp_path, clean()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("change", "sentence"), [
    (lambda name: name.upper(), "3 of the 303 user ids of the interactions would equal another one in lower case "
                                "('U0' and 'u0', 'U1' and 'u1', 'U2' and 'u2'), so they may be the same users"),
    (lambda name: f"{name} ", "3 of the 303 user ids of the interactions would equal another one without blanks at the "
                              "ends ('u0' and 'u0 ', 'u1' and 'u1 ', 'u2' and 'u2 '), so they may be the same users")])
def test_few_ids_in_two_spellings_are_counted_with_both(tmp_path, change: Callable[[str], str], sentence: str):
    [warning] = warnings_of(tmp_path, clean() + [(change(f"u{n}"), "sku1", START + n) for n in range(3)])
    assert warning.startswith(sentence)


@pytest.mark.slow
def test_one_item_of_the_log_that_the_catalogue_spells_otherwise_is_named(tmp_path):
    names = [f"sku{n}" if n else "SKU0" for n in range(200)]
    rows = [(user, f"sku{int(item[3:]) % 200}", at) for user, item, at in clean()] + [
        (f"u{n}", f"sku{n}", START) for n in range(200)]
    [warning] = warnings_of(tmp_path, rows, names)
    assert warning.startswith("1 of 200 items of the interactions are not in dataset.items, but 1 of these would match "
                              "in lower case ('sku0' and 'SKU0')")


@pytest.mark.slow
def test_two_spellings_in_the_catalogue_alone_are_named(tmp_path):
    [warning] = warnings_of(tmp_path, clean(), [*(f"sku{n}" for n in range(60)), "SKU7"])
    assert warning.startswith("1 of the 61 item ids of dataset.items would equal another one in lower case ('SKU7' and "
                              "'sku7')")


@pytest.mark.slow
def test_random_codes_that_differ_in_case_are_different_ids(tmp_path):
    items = ["aB3x", "Ab3X", *(f"sku{n}" for n in range(60))]
    assert warnings_of(tmp_path, [*clean(), ("u1", "aB3x", START), ("u2", "Ab3X", START)], items) == []


@pytest.mark.slow
def test_a_user_with_more_interactions_than_hours_is_a_bot_also_if_its_pairs_are_merged(tmp_path):
    bot = [("crawler", f"sku{n % 60}", START + n * 1000) for n in range(4000)]
    num_rows = len(clean()) + 4000
    [warning] = warnings_of(tmp_path, clean() + bot)
    assert warning.startswith("1 user has more interactions than the data has hours (2,159, from 2023-11-14T")
    assert f", 4,000 of {num_rows:,} rows (" in warning
    assert warning.endswith("'crawler' (4,000); programs such as crawlers look like this; "
                            "dataset.drop_users=[crawler] leaves it out")
    with pytest.raises(DataError, match="more interactions than the data has hours"):
        warnings_of(tmp_path / "strict", clean() + bot, audit="strict")
    assert warnings_of(tmp_path / "dropped", clean() + bot, drop_users=["crawler"]) == []


@pytest.mark.slow
def test_busy_users_are_no_bots_where_all_users_are_busy(tmp_path):
    rows = [(f"u{user}", f"sku{n % 60}", START + n * 60) for user in range(20) for n in range(150)]
    assert warnings_of(tmp_path, rows) == []


@pytest.mark.slow
def test_unknown_items_and_items_without_interactions_are_named(tmp_path):
    rows = [*clean(), *((f"u{n}", f"ghost{n}", START + n) for n in range(4))]
    text = "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    catalogue = "item_id,title\n" + "".join(f"sku{n},Shirt {n}\n" for n in range(62))
    manifest = prepare_text(tmp_path, text, items=catalogue, audit="strict").manifest
    assert manifest["warnings"] == ["4 of 64 items of the interactions have no row in dataset.items ('ghost0', "
                                    "'ghost1', 'ghost2', ...), so they have no text; is the file complete, and as new "
                                    "as the interactions?"]
    assert "2 items have no interactions left ('sku60', 'sku61')" in manifest["notes"]
