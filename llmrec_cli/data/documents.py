"""Documents about items: texts of a knowledge base, several for an item or none."""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.tables import read_table
from llmrec_cli.pinned import PinnedFolder


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


def read_documents(files: PinnedFolder) -> Documents | None:
    """Return the documents of prepared data, None where it has none."""
    if "documents.parquet" not in files:
        return None
    table = read_table(files, "documents.parquet", ["item", "text"])
    return Documents(table["item"].to_numpy(), np.array([*table["text"].to_pylist(), None], object)[:-1])
