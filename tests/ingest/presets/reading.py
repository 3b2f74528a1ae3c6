"""Reading the rows of a preset's reader, like staging."""

from pathlib import Path

import pyarrow.parquet as pq

from llmrec_cli.ingest.readers.sources import Source
from llmrec_cli.ingest.readers.staging import stage

Row = tuple[str, int, tuple[str | None, ...]]


def rows_of(sources: list[Source], folder: Path, *columns: str) -> tuple[list[Row], list[str]]:
    """Return (split, line, values of `columns`) of every row, and the rejects as 'file:line: reason'."""
    staged = stage(sources, folder / "staged.parquet", columns, ())
    result = pq.read_table(staged.path).to_pylist()
    rows = [(sources[row["file"]].split, row["line"], tuple(row[f"c{n}"] for n in range(len(columns))))
            for row in result]
    return rows, [f"{Path(reject.file).name}:{reject.line}: {reject.reason}" for reject in staged.rejects]
