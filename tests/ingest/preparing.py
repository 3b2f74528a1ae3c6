"""Preparing small files in tests: write them, run the stage, read its output."""

import json
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.run_dir import RunDir
from llmrec_cli.settings.base import Settings
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings, EngineSettings
from llmrec_cli.settings.formats import FormatSettings
from llmrec_cli.settings.split import NoSplitSettings
from llmrec_cli.settings.stages import PrepareConfig
from llmrec_cli.stages import prepare

HEADER = "user_id,item_id,value,timestamp\n"
Row = tuple[str, ...]


class Prepared:
    """Output of a run of prepare."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
        self.counts: dict[str, int] = self.manifest["counts"]

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Return the rows of <name>.parquet."""
        result: list[dict[str, Any]] = pq.read_table(self.folder / f"{name}.parquet").to_pylist()
        return result

    def column(self, name: str, column: str) -> list[Any]:
        """Return one column of <name>.parquet."""
        return [row[column] for row in self.rows(name)]

    def in_split(self, split: str) -> set[tuple[str, str]]:
        """Return the pairs (user_id, item_id) of one split."""
        return {(row["user_id"], row["item_id"]) for row in self.rows("interactions") if row["split"] == split}


def prepare_with(folder: Path, dataset: Settings, split: Settings | None = None, engine: EngineSettings | None = None,
                 **settings: Any) -> Prepared:
    """Run prepare with these settings and write to `folder`/out."""
    run_dir = RunDir.create("prepare", str(Path(tempfile.mkdtemp(dir=make_folder(folder))) / "run"))
    prepare.run(PrepareConfig(dataset=dataset, split=split or NoSplitSettings(), engine=engine or DuckDbSettings(),
                              output=str(folder / "out"), **settings), run_dir)
    return Prepared(folder / "out")


def make_folder(folder: Path) -> Path:
    """Make a folder unless it exists."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def prepare_text(folder: Path, interactions: str | bytes, split: Settings | None = None, name: str = "clicks.csv",
                 items: str | None = None, **settings: Any) -> Prepared:
    """Write `interactions` (and `items`, as items.csv) into `folder` and prepare them."""
    if items is not None:
        settings["items"] = str(write(folder, items, "items.csv"))
    dataset = FilesSettings(name="test", interactions=str(write(folder, interactions, name)), **settings)
    assert not list(dataset.problems())
    return prepare_with(folder, dataset, split)


def write(folder: Path, content: str | bytes, name: str = "clicks.csv") -> Path:
    """Write a file and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / name


def source(folder: Path, content: str | bytes, name: str = "clicks.csv", **settings: Any) -> Source:
    """Write a file and return its source; `settings` of a format are given, and all others detected."""
    given = {f.name: settings.pop(f.name) for f in fields(FormatSettings) if f.name in settings}
    return Source(write(folder, content, name), given=FormatSettings(**given), **settings)
