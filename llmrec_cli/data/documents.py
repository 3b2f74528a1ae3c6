"""Documents about items: texts of a knowledge base, several for an item or none."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


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


def read_documents(folder: Path) -> Documents | None:
    """Return the documents of prepared data, None where it has none."""
    file = folder / "documents.parquet"
    if not file.is_file():
        return None
    table = pq.read_table(file, columns=["item", "text"])
    return Documents(table["item"].to_numpy(), np.array([*table["text"].to_pylist(), None], object)[:-1])
