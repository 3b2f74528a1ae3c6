"""Lists of candidates in ids as a file has them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Candidates:
    """The lists of candidates in a file.

    Attributes
    ----------
    column : user_id, group_id or query_id; "" for one list for all queries
    ids : object array (num_lists,) of str, the user, group or query of each list, "" for all
    targets : object array (num_lists,) of str, the held-out item that a list is about, "" where the file names none
    items : object array of item ids, as the file has them, one list's after the other's
    offsets : int64 (num_lists + 1,), where each list begins and ends in `items`
    """

    column: str
    ids: np.ndarray
    targets: np.ndarray
    items: np.ndarray
    offsets: np.ndarray

    @property
    def by_row(self) -> bool:
        """True if the file names the held-out item of each list; a user may then have several lists."""
        return bool((self.targets != "").any())
