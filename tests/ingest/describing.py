"""Items and users in tests, without the rest of prepare: stage a file, describe, number by a given rank, write."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec_cli.ingest.engine import engine, read_staged
from llmrec_cli.ingest.interactions.histories import Histories
from llmrec_cli.ingest.output.manifest import describe_texts
from llmrec_cli.ingest.output.row_accounting import Account
from llmrec_cli.ingest.output.writing import TABLES, write_entities
from llmrec_cli.ingest.readers.rejects import Reject
from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import stage_entities
from llmrec_cli.ingest.texts.catalogue import describe, fit_classes, text_rules, texts_of
from llmrec_cli.settings.dataset import FilesSettings
from llmrec_cli.settings.engine import DuckDbSettings, EngineSettings
from tests.ingest.preparing import make_folder, write


@dataclass(frozen=True)
class Written:
    """Written table of items or users, with notes and warnings."""

    rows: list[dict[str, Any]]
    texts: dict[str, Any]
    counts: dict[str, int]
    rejects: list[Reject]
    content: str
    notes: list[str]
    warnings: list[str]

    def column(self, name: str) -> list[Any]:
        """Return one column."""
        return [row[name] for row in self.rows]


def described(folder: Path, file: str | None, ranks: Mapping[str, int], kind: str = "item", name: str = "about.csv",
              backend: EngineSettings | None = None, histories: Histories | None = None, **settings: Any) -> Written:
    """Write `file` and the table of the entities `ranks` (id -> rank, 0 for training to 3) made from it."""
    account, files = Account(), FilesSettings(interactions="clicks.csv", **settings)
    assert not list(files.problems())
    ours = getattr(files, f"{kind}_columns")
    sources = [Source(write(folder, file, name), columns=ours)] if file is not None else []
    staged = stage_entities(sources, kind, make_folder(folder))
    ordered = sorted(ranks, key=lambda name: (ranks[name], name))
    pq.write_table(pa.table({kind: range(len(ordered)), f"{kind}_id": ordered, "rank": [ranks[n] for n in ordered]}),
                   folder / "catalogue.parquet")
    with engine(backend or DuckDbSettings(), folder) as connection:
        catalogue = read_staged(connection, folder / "catalogue.parquet")
        about = describe(connection, staged, kind, account, texts_of(files, kind)[1])
        rules = fit_classes(text_rules(about, kind, files), catalogue, about)
        content = write_entities(folder, catalogue, about, kind, rules, account, histories)
    texts = describe_texts(files, {kind: about}, {kind: rules})
    return Written(pq.read_table(folder / f"{TABLES[kind]}.parquet").to_pylist(), texts, account.counts,
                   list(staged.rejects) if staged is not None else [], content, account.notes, account.warnings)
