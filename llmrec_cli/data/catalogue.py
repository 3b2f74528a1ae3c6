"""Users, items and documents about items as columns, with opaque string ids and contiguous integer ids."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.tables import Column, read_columns, require_order, to_numpy
from llmrec_cli.pinned import PinnedFolder


@dataclass(frozen=True)
class Catalogue:
    """Users or items; row n is the one with integer id n.

    Attributes
    ----------
    ids : object array (num_entities,) of str, unique, as in the files
    titles : object array (num_entities,) of str, for display
    texts : object array (num_entities,) of str, for encoders; "" for none
    attributes : CSR (num_entities, num_attributes) of 0/1
    attribute_names : list of `column=value`, one per column of `attributes`
    """

    ids: np.ndarray
    titles: np.ndarray
    texts: np.ndarray
    attributes: sp.csr_array
    attribute_names: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """Integer id of each id."""
        return {key: n for n, key in enumerate(self.ids)}

    def find(self, ids: np.ndarray) -> np.ndarray:
        """Return the integer ids of `ids` (num_ids,), -1 for unknown ids."""
        return np.fromiter((self.index.get(key, -1) for key in ids), np.int64, len(ids))

    def rows(self, which: np.ndarray) -> "Catalogue":
        """Return some of the entities, with the same attributes."""
        return Catalogue(self.ids[which], self.titles[which], self.texts[which], self.attributes[which],
                         self.attribute_names)

    def extended(self, new: "Catalogue") -> "Catalogue":
        """Return this catalogue followed by `new`, whose attributes are matched by name; unknown ones are dropped."""
        column = {name: n for n, name in enumerate(self.attribute_names)}
        new_coo = new.attributes.tocoo()
        columns = np.array([column.get(name, -1) for name in new.attribute_names], np.int64)[new_coo.col]
        is_known = columns >= 0
        aligned = sp.csr_array((new_coo.data[is_known], (new_coo.row[is_known], columns[is_known])),
                               shape=(len(new), len(self.attribute_names)))
        return Catalogue(np.concatenate([self.ids, new.ids]), np.concatenate([self.titles, new.titles]),
                         np.concatenate([self.texts, new.texts]),
                         sp.csr_array(sp.vstack([self.attributes, aligned], format="csr")), self.attribute_names)


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
    """Return the documents of prepared data, None if it has none."""
    if "documents.parquet" not in files:
        return None
    table = read_columns(files, "documents.parquet", {"item": Column("integer", 0, num_items - 1),
                                                      "text": Column("text")})
    item = to_numpy(table["item"])
    require_order({"item": item}, str(files.path / "documents.parquet"), files.remedy)
    return Documents(item, np.array([*table["text"].to_pylist(), None], object)[:-1])
