"""{history}: the titles of the training history, without held-out items."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.interactions import histories
from llmrec_cli.ingest.interactions.histories import Histories, training_titles
from tests.ingest.describing import described

Rows = list[tuple[int, int, str]]


def read(folder: Path, rows: Rows, titles: list[str], most: int) -> Histories:
    """Return the histories of rows (user, item, split), sorted like interactions.parquet."""
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    types = (pa.int64(), pa.int64(), pa.string())
    pq.write_table(pa.table([pa.array(c, t) for c, t in zip(columns, types, strict=True)], ["user", "item", "split"]),
                   folder / "interactions.parquet")
    pq.write_table(pa.table({"title": pa.array(titles, pa.string())}), folder / "items.parquet")
    return training_titles(folder / "interactions.parquet", folder / "items.parquet", most)


ROWS = [(0, 2, "train"), (0, 0, "train"), (0, 1, "train"), (0, 3, "valid"), (1, 3, "test"), (2, 0, "train"),
        (2, 1, "test")]
TITLES = ["Alien", "Brazil", "Clue", "Dune"]


def test_a_history_is_the_newest_titles_of_training_oldest_first(tmp_path: Path) -> None:
    assert list(read(tmp_path, ROWS, TITLES, 2).between(0, 4)) == ["Alien; Brazil", "", "Alien", ""]
    assert list(read(tmp_path, ROWS, TITLES, 20).between(0, 1)) == ["Clue; Alien; Brazil"]
    assert list(read(tmp_path, ROWS, TITLES, 20).between(2, 3)) == ["Alien"]
    assert list(read(tmp_path, [], TITLES, 20).between(0, 2)) == ["", ""]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.sampled_from(["train", "test"])), max_size=40),
       st.integers(1, 4), st.integers(1, 7), st.integers(1, 30))
@settings(deadline=None)
def test_no_size_of_batches_changes_a_history(tmp_path_factory: pytest.TempPathFactory, rows: Rows, most: int,
                                              batch: int, num_bytes: int) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    expected = ["; ".join([TITLES[i] for u, i, s in rows if (u, s) == (user, "train")][-most:]) for user in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(histories, "_ROWS", batch)
        patch.setattr(histories, "_MOST_BYTES", num_bytes)
        result = read(tmp_path_factory.mktemp("h"), rows, TITLES, most)
        assert list(result.between(0, 8)) == expected
        assert list(result.between(3, 5)) == expected[3:5]


def test_the_template_of_a_user_may_name_it_with_and_without_a_file(tmp_path: Path) -> None:
    result = read(tmp_path, ROWS, TITLES, 2)
    users = {"u": 0, "v": 1, "w": 2}
    bare = described(tmp_path, None, users, "user", histories=result, user_text="Has seen: {history}")
    assert bare.column("text") == ["Has seen: Alien; Brazil", "", "Has seen: Alien"]
    assert bare.counts["users_without_text"] == 1
    filed = described(tmp_path, "user_id,job\nw,nurse\nv,cook\n", users, "user", histories=result,
                      user_text="{job}. Has seen: {history}")
    assert filed.column("text") == ["Has seen: Alien; Brazil", "cook", "nurse. Has seen: Alien"]


def test_only_user_texts_can_use_the_history(tmp_path: Path) -> None:
    file = "item_id,history\na,of an item\n"
    assert described(tmp_path, file, {"a": 0}, item_text="{history}").column("text") == ["of an item"]
    with pytest.raises(ConfigError, match=r"^dataset\.user_text=\{history\}: \{history\} stands for the titles of the "
                                          r"training history, but the users also have a column 'history'; rename the "
                                          r"column in the file$"):
        described(tmp_path, "user_id,history\na,x\n", {"a": 0}, "user", user_text="{history}")
    with pytest.raises(ConfigError, match=r"no column 'histry' \(did you mean 'history'\?\); there are user_id, histo"):
        described(tmp_path, None, {"a": 0}, "user", user_text="{histry}")


def test_long_titles_do_not_fill_the_memory(tmp_path: Path) -> None:
    titles = [letter * 20_000 for letter in "abcdefgh"]
    rows = [(user, item, "train") for user in range(5000) for item in range(8)]
    result = read(tmp_path, rows, titles, 20)
    before = pa.total_allocated_bytes()
    for n, text in enumerate(result.between(0, 5000)):
        assert len(text) == 8 * 20_000 + 14
        assert pa.total_allocated_bytes() - before < 20e6
        if n > 100:
            break
