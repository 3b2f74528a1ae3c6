"""The whole stage: its output files and folders, and the files it must not touch."""

import csv
import hashlib
import json
import random
from pathlib import Path

import pytest

from llmrec_cli.atomic_files import lock
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import ConfigError, DataError, LockedError
from llmrec_cli.run_dir import PREPARED, RunDir
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings
from llmrec_cli.settings.split import LeaveLastOutSettings, NoSplitSettings, RandomSettings
from llmrec_cli.settings.stages import PrepareConfig
from llmrec_cli.stages import prepare
from tests.ingest.preparing import prepare_text, prepare_with, write
from tests.tiny import write_tiny

CLICKS = "user_id,item_id\nu,a\nu,b\nv,a\n"


def tiny(**settings: str | list[str]) -> FilesSettings:
    write_tiny(Path("tiny"))
    settings = {"interactions": "tiny/interactions.csv", "items": "tiny/items.csv", **settings}
    return FilesSettings(name="tiny", item_text="{title} ({year}). {genres}", attributes={"genres": "list"},
                         min_value=4,
                         **settings)  # type: ignore[arg-type]


def config(**settings: str) -> PrepareConfig:
    dataset = FilesSettings(name=settings.pop("name", "shop"), interactions=str(write(Path(), CLICKS)))
    return PrepareConfig(dataset=dataset, split=NoSplitSettings(), engine=DuckDbSettings(), **settings)


@pytest.mark.slow
def test_shuffled_rows_and_split_files_give_the_same_bytes_and_fingerprint(tmp_path: Path) -> None:
    first = prepare_with(tmp_path / "a", tiny(), RandomSettings())
    for name in ("interactions", "items"):
        header, *rows = Path(f"tiny/{name}.csv").read_text("utf-8").splitlines(keepends=True)
        random.Random(3).shuffle(rows)
        cut = len(rows) // 3
        write(Path("tiny"), header + "".join(rows[:cut]), f"z_{name}.csv")
        write(Path("tiny"), header + "".join(rows[cut:]), f"a_{name}.csv")
    parts = tiny(interactions="tiny/?_interactions.csv", items="tiny/?_items.csv")
    second = prepare_with(tmp_path / "b", parts, RandomSettings())
    assert first.manifest["fingerprint"] == second.manifest["fingerprint"]
    for name in ("interactions", "items", "users"):
        assert (first.folder / f"{name}.parquet").read_bytes() == (second.folder / f"{name}.parquet").read_bytes()


def test_the_manifest_counts_rows_and_hashes_files(tmp_path: Path) -> None:
    prepared = prepare_with(tmp_path, tiny(), LeaveLastOutSettings())
    with Path("tiny/interactions.csv").open(encoding="utf-8") as stream:
        values = [int(row["value"]) for row in csv.DictReader(stream)]
    counts = prepared.counts
    assert counts["read"] == len(values)
    assert counts["below_min_value"] == sum(value < 4 for value in values)
    assert counts["train"] + counts["valid"] + counts["test"] == counts["interactions"] == sum(v >= 4 for v in values)
    assert (counts["users"], counts["items"]) == (60, 44)
    assert prepared.manifest["split"] == {"kind": "leave_last_out", "group": "", "group_valid": None, "leaks": "auto"}
    assert prepared.manifest["timestamp_unit"] == "s"
    for name, expected in prepared.manifest["files"].items():
        assert hashlib.sha256((prepared.folder / name).read_bytes()).hexdigest() == expected
    assert set(prepared.manifest["files"]) == {p.name for p in prepared.folder.iterdir()} - {"manifest.json"}


@pytest.mark.audited
def test_read_prepared_returns_what_prepare_wrote(tmp_path: Path) -> None:
    prepared = prepare_with(tmp_path, tiny(), RandomSettings())
    data = read_prepared(prepared.folder)
    assert len(data.interactions) == prepared.counts["interactions"]
    assert list(data.items.ids) == prepared.column("items", "item_id")
    numbers = (data.interactions.user, data.interactions.item)
    for row, user, item in zip(prepared.rows("interactions"), *numbers, strict=True):
        assert (row["user_id"], row["item_id"]) == (data.users.ids[user], data.items.ids[item])
    place = [(r["user"], r["timestamp"], r["item"]) for r in prepared.rows("interactions")]
    assert place == sorted(place)
    assert data.items.attribute_names == [f"genres={g}" for g in ("Comedy", "Romance", "Science Fiction", "Western")]


@pytest.mark.slow
def test_prepared_data_goes_to_its_own_folder_and_latest_points_to_the_last(tmp_path: Path) -> None:
    prepare.run(config(), RunDir.create("prepare"))
    assert (PREPARED / "latest").resolve() == (PREPARED / "shop").resolve()
    prepare.run(config(output=str(tmp_path / "else [1]*'s" / "where")), RunDir.create("prepare"))
    assert (PREPARED / "latest").resolve() == tmp_path / "else [1]*'s" / "where"
    run = json.loads(Path("runs/prepare/latest/manifest.json").read_text("utf-8"))
    assert run["fingerprint"] == read_prepared(PREPARED / "latest").manifest["fingerprint"]
    assert sorted(p.name for p in PREPARED.iterdir()) == [".shop.lock", "latest", "shop"]


def test_a_failed_run_leaves_earlier_data(tmp_path: Path) -> None:
    prepared = prepare_text(tmp_path, CLICKS)
    before = {p.name: p.read_bytes() for p in prepared.folder.iterdir()}
    with pytest.raises(DataError):
        prepare_text(tmp_path, "user_id,item_id\nu,a\nbroken\n")
    assert {p.name: p.read_bytes() for p in prepared.folder.iterdir()} == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".") and not p.name.endswith(".lock")]


def test_a_folder_with_other_things_in_it_is_never_replaced(tmp_path: Path) -> None:
    write(tmp_path / "thesis", "years of work", "thesis.tex")
    with pytest.raises(ConfigError, match="thesis: holds something other than prepared data, which would be lost"):
        prepare.run(config(output=str(tmp_path / "thesis")), RunDir.create("prepare"))
    for output in (str(PREPARED / "latest"), "."):
        with pytest.raises(ConfigError, match="must be a folder of its own"):
            prepare.run(config(output=output), RunDir.create("prepare"))


def test_the_name_latest_is_refused() -> None:
    assert any(problem.startswith("name=latest") for problem in FilesSettings(name="latest",
                                                                              interactions="x").problems())


def test_two_runs_at_once_are_refused() -> None:
    with lock(PREPARED / ".shop.lock", "it"), pytest.raises(LockedError, match="another run is writing"):
        prepare.run(config(), RunDir.create("prepare"))


def test_the_account_goes_to_stderr_and_stdout_stays_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_text(tmp_path, CLICKS + "u,a\n[bold]x,c,d\n", max_reject_share=0.5)
    out, err = capsys.readouterr()
    assert out == ""
    for words in ("read", "5", "rejected", "merged", "2 users", "fingerprint"):
        assert words in err
