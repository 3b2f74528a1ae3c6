"""Documents about items: texts of a knowledge base, several for an item or none."""

from dataclasses import dataclass

import numpy as np

from llmrec_cli.data.table_checks import Column, read_columns, require_order
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


def read_documents(files: PinnedFolder, num_items: int) -> Documents | None:
    """Return the documents of prepared data, None where it has none."""
    if "documents.parquet" not in files:
        return None
    table = read_columns(files, "documents.parquet", {"item": Column("integer", 0, num_items - 1),
                                                      "text": Column("text")})
    item = table["item"].to_numpy()
    require_order({"item": item}, str(files.path / "documents.parquet"), files.remedy)
    return Documents(item, np.array([*table["text"].to_pylist(), None], object)[:-1])
