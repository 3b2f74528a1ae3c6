"""Documents about items: texts of a knowledge base, several for an item or none."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmrec_cli.data.manifest import REMEDY
from llmrec_cli.data.table_checks import Column, read_columns, require_order


@dataclass(frozen=True)
class Documents:
    """Texts about items.

    Attributes
    ----------
    item : int64 (num_documents,), ascending
    texts : object array (num_documents,) of str
    """

    item: np.ndarray
    texts: np.ndarray


def read_documents(folder: Path, num_items: int) -> Documents | None:
    """Return the documents of prepared data, None where it has none."""
    file = folder / "documents.parquet"
    if not file.is_file():
        return None
    table = read_columns(file, {"item": Column("integer", 0, num_items - 1), "text": Column("text")}, REMEDY)
    item = table["item"].to_numpy()
    require_order({"item": item}, str(file), REMEDY)
    return Documents(item, np.array([*table["text"].to_pylist(), None], object)[:-1])
