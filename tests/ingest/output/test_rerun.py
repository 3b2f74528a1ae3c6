"""Preparing the same files with the same settings again does nothing; changes of files and settings are noticed."""

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmrec_cli.atomic_files import lock, read_json
from llmrec_cli.data.prepared import read_prepared
from llmrec_cli.errors import DataError, LockedError
from llmrec_cli.fetch import cache_folder
from llmrec_cli.ingest.output import rerun
from llmrec_cli.ingest.output.rerun import input_signature, read_unchanged
from llmrec_cli.ingest.readers.sources import Source, Sources
from llmrec_cli.run_dir import PREPARED, RunDir
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings, SparkSettings
from llmrec_cli.settings.split import LeaveLastOutSettings, NoSplitSettings, RandomSettings
from llmrec_cli.settings.stages import PrepareConfig
from llmrec_cli.stages import prepare
from tests.conftest import Done
from tests.ingest.preparing import write
from tests.some_slow import some_slow

ROOT = Path(__file__).parents[3]
CLICKS = "user_id,item_id,value\nu,a,3\nu,b,4\nv,a,5\n"
SHOP = PREPARED / "shop"
SCRATCH = Path("scratch")
# Imports that would slow down a rerun without changes.
HEAVY = {"duckdb", "ibis", "pyarrow", "numpy", "pandas", "scipy", "torch", "rich", "matplotlib"}


def config(**settings: object) -> PrepareConfig:
    """Return settings for clicks.csv; settings of the data set without a prefix, others by their names."""
    own = {key: settings.pop(key) for key in ("split", "engine", "mode", "force", "output", "run_dir", "debug")
           if key in settings}
    dataset = FilesSettings(**{"name": "shop", "interactions": "clicks.csv"} | settings)  # type: ignore[arg-type]
    return PrepareConfig(**{"dataset": dataset, "split": NoSplitSettings(), "engine": DuckDbSettings()} | own)  # type: ignore[arg-type]


def signed(**settings: object) -> str:
    """Return the signature of clicks.csv with these settings as text."""
    return json.dumps(input_signature(config(**settings), Sources([Source(Path("clicks.csv"))]), SCRATCH))


def prepared(**settings: object) -> dict[str, object]:
    """Run prepare and return the result in its manifest."""
    run_dir = RunDir.create("prepare")
    prepare.run(config(**settings), run_dir)
    actual: dict[str, object] = read_json(run_dir.file("manifest.json"))
    return actual


def state() -> dict[str, tuple[int, bytes]]:
    """Return time and content of every file of the prepared data."""
    return {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in SHOP.iterdir()}


def message(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.fixture
def clicks() -> Path:
    return write(Path(), CLICKS)


# --- the stage

@pytest.mark.audited
@pytest.mark.usefixtures("clicks")
def test_an_unchanged_rerun_changes_nothing_and_reports_it(
        capsys: pytest.CaptureFixture[str]) -> None:
    first, before = prepared(), state()
    prepared(name="other")
    message(capsys)
    second = prepared()
    assert re.fullmatch(r"data/prepared/shop is up to date: files and settings have not changed since "
                        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d; force=true prepares it again\n", message(capsys))
    assert state() == before
    assert second == first
    assert (PREPARED / "latest").resolve() == SHOP.resolve()
    assert sorted(os.listdir(PREPARED)) == [".other.lock", ".shop.lock", "latest", "other", "shop"]


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.usefixtures("clicks")
def test_force_prepares_it_anyway_and_makes_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    prepared()
    before = state()
    message(capsys)
    prepared(force=True)
    assert "have not changed" not in message(capsys)
    assert state().keys() == before.keys()
    assert all(state()[name][0] > before[name][0] for name in before)
    assert state()["manifest.json"][1] == before["manifest.json"][1]


@pytest.mark.slow
def test_a_file_that_changed_and_a_setting_that_changed_are_prepared_again(clicks: Path) -> None:
    first = prepared()
    write(Path(), CLICKS.replace("u,b,4", "u,c,4"))
    second = prepared()
    assert second["fingerprint"] != first["fingerprint"]
    third = prepared(min_value=4)
    assert third["counts"] != second["counts"]


@pytest.mark.slow
def test_a_new_file_that_a_pattern_finds_is_prepared_too() -> None:
    write(Path("in"), CLICKS, "a.csv")
    assert prepared(interactions="in/*.csv")["counts"]["users"] == 2  # type: ignore[index]
    write(Path("in"), CLICKS.replace("u,", "w,"), "b.csv")
    assert prepared(interactions="in/*.csv")["counts"]["users"] == 3  # type: ignore[index]


@pytest.mark.slow
@pytest.mark.audited
@pytest.mark.usefixtures("clicks")
@pytest.mark.parametrize(("damage", "problem"), some_slow([
    (lambda: (SHOP / "items.parquet").unlink(), r"items\.parquet: missing"),
    (lambda: (SHOP / "interactions.parquet").open("ab").write(b"x"),
     r"interactions\.parquet: its SHA-256 is not the one in manifest\.json, so it is damaged or was edited"),
    (lambda: (SHOP / "manifest.json").write_text("{"), r"manifest\.json: cannot be read")], 1, 0),
    ids=["missing", "edited", "no manifest"])
def test_damaged_data_is_prepared_again_and_it_says_why(
        damage: Callable[[], object], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = prepared()
    damage()
    message(capsys)
    assert prepared()["fingerprint"] == first["fingerprint"]
    assert re.match(rf"data/prepared/shop/{problem}.*; the data is prepared again\n", message(capsys))
    read_prepared(SHOP)


@pytest.mark.audited
@pytest.mark.usefixtures("clicks")
def test_a_folder_may_move_with_its_files_when_their_names_are_relative(
        tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    prepared()
    assert str(tmp_path) not in (SHOP / "manifest.json").read_text()
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    shutil.copytree(tmp_path, moved, symlinks=True)
    monkeypatch.chdir(moved)
    message(capsys)
    prepared()
    assert "have not changed" in message(capsys)


@pytest.mark.usefixtures("clicks")
@pytest.mark.parametrize("mode", ["new", "append"])
def test_a_concurrent_run_on_the_same_output_is_refused_in_any_mode(
        mode: str) -> None:
    prepared()
    before = state()
    with lock(PREPARED / ".shop.lock", "it"), pytest.raises(LockedError, match="another run is writing"):
        prepared(mode=mode)
    assert state() == before


# --- what counts as the same

@pytest.mark.usefixtures("clicks")
def test_output_folder_and_engine_settings_do_not_cause_a_rerun() -> None:
    same = signed()
    for settings in ({"engine": DuckDbSettings(memory="8GB", threads=3)}, {"engine": SparkSettings()}, {"force": True},
                     {"output": "elsewhere"}, {"run_dir": "here"}, {"debug": True}):
        assert signed(**settings) == same


@pytest.mark.audited
@pytest.mark.usefixtures("clicks")
def test_every_setting_of_the_data_and_the_split_counts_also_the_order_of_a_mapping() -> None:
    settings = [{}, {"name": "x"}, {"min_value": 4}, {"split": RandomSettings()}, {"split": RandomSettings(seed=1)},
                {"split": LeaveLastOutSettings()}, {"mode": "append"}, {"audit": "strict"},
                {"attributes": {"a": "list", "b": "text"}}, {"attributes": {"b": "text", "a": "list"}}]
    assert len({signed(**some) for some in settings}) == len(settings)


def test_size_and_time_of_a_file_count_and_another_version_or_other_code(
        clicks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    actual = [signed()]
    status = clicks.stat()
    os.utime(clicks, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    actual.append(signed())
    clicks.write_text(CLICKS + "w,a,1\n")
    os.utime(clicks, ns=(status.st_atime_ns, status.st_mtime_ns))
    actual.append(signed())
    monkeypatch.setattr(rerun, "__version__", "99")
    actual.append(signed())
    monkeypatch.setattr(rerun, "code_hash", lambda: "other")
    actual.append(signed())
    assert len(set(actual)) == len(actual)


def test_the_code_that_prepares_is_known_by_its_content() -> None:
    assert rerun.code_hash() == rerun.code_hash()
    assert re.fullmatch("[0-9a-f]{16}", rerun.code_hash())


def test_files_of_ours_are_known_by_content_and_by_no_path_of_this_machine(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def noted(scratch: str, content: str) -> str:
        unpacked, fetched = write(Path(scratch), content, "a.inter"), write(cache_folder(), content, "w.zip")
        return json.dumps(input_signature(config(), Sources([Source(unpacked)], [Source(fetched)]), Path(scratch)))

    first = noted("one", CLICKS)
    assert noted("two", CLICKS) == first
    assert noted("two", CLICKS + "w,a,1\n") != first
    assert str(tmp_path) not in first
    content = hashlib.sha256(CLICKS.encode()).hexdigest()
    assert json.loads(first)["files"] == {"interactions": [{"path": "a.inter", "sha256": content}],
                                          "items": [{"path": "w.zip", "sha256": content}]}


def test_a_file_that_went_away_is_a_data_error_that_names_it() -> None:
    with pytest.raises(DataError, match=r"gone.csv: cannot be read \(No such file or directory\)"):
        input_signature(config(), Sources([Source(Path("gone.csv"))]), SCRATCH)


def test_data_without_recorded_inputs_is_never_unchanged() -> None:
    assert read_unchanged(Path("nowhere"), {}) is None
    write(Path("old"), '{"format": 1, "files": {}}', "manifest.json")
    assert read_unchanged(Path("old"), {"llmrec": "1"}) is None
    write(Path("old"), "[]", "manifest.json")
    assert read_unchanged(Path("old"), {"llmrec": "1"}) is None


# --- how long it takes

def cpu_seconds() -> float:
    """Return the CPU time of ended child processes, which does not depend on the load of the machine."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
def test_a_run_that_does_nothing_imports_nothing_heavy_and_ends_in_two_seconds(llmrec: Callable[..., Done]) -> None:
    rows = "".join(f"u{n % 6040},i{n % 3706},{n % 5}\n" for n in range(50_000))
    write(Path(), "user_id,item_id,value\n" + rows)
    arguments = ["prepare", "dataset=files", "dataset.name=shop", "dataset.interactions=clicks.csv", "split=none"]
    assert llmrec(*arguments).code == 0
    script = (f"import sys; from llmrec_cli.cli import run; run({arguments}); "
              f"print(sorted({HEAVY} & {{name.partition('.')[0] for name in sys.modules}}))")
    begun = cpu_seconds()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    took = cpu_seconds() - begun
    assert "have not changed since" in done.stderr
    assert done.stdout == "[]\n"
    assert took < 2
