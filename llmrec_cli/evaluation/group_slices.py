"""Groups looked at apart: by size, by how alike their members are, by how many of them are known, by their history.

Shapes: Q queries, G groups, U users.
"""

import numpy as np
import scipy.sparse as sp

from llmrec_cli.data.prepared import PreparedData
from llmrec_cli.metrics.slices import quantiles, user_slices

PARTS = 3


def group_masks(data: PreparedData, group_Q: np.ndarray) -> dict[str, np.ndarray]:
    """Return slices of the queries of groups, bool (Q,) by name.

    `group_Q` are the queries' groups in `data`. size and cohesion: thirds. members: how many have a training history.
    standing: groups that did something together in training; occasional: the others. few, many, cold: as of users, by
    what a group did together in training.
    """
    groups = data.groups("train")
    assert groups is not None
    train = data.part("train").matrix
    sizes_G, known_U = groups.sizes, np.diff(train.indptr) > 0
    known_G = groups.members @ known_U.astype(np.float32)
    lengths_G = np.diff(groups.interactions.matrix.indptr)
    masks_G = {f"size={name}": mask for name, mask in quantiles(sizes_G.astype(np.float64), PARTS).items()}
    cohesion_G = np.round(cohesion(groups.members, train), 3)
    masks_G |= {f"cohesion={name}": mask for name, mask in quantiles(cohesion_G, PARTS).items()}
    masks_G |= {"members=none known": known_G == 0, "members=all known": (known_G == sizes_G) & (known_G > 0),
                "members=some known": (known_G > 0) & (known_G < sizes_G),
                "standing": lengths_G > 0, "occasional": lengths_G == 0}
    found = {name: mask[group_Q] for name, mask in masks_G.items()}
    found |= user_slices(lengths_G[group_Q])
    return {f"group:{name}": mask for name, mask in found.items()}


def cohesion(members: sp.csr_array, histories: sp.csr_array) -> np.ndarray:
    """Return the mean cosine of the histories of two members of a group, 0 to 1, float64 (G,).

    Over the members who have a history; NaN where fewer than two have. From the length of the sum of the unit
    histories: |sum|^2 is the number of members plus the cosines of all ordered pairs.
    """
    lengths_U = np.diff(histories.indptr)
    unit = sp.diags_array(np.divide(1.0, np.sqrt(lengths_U), out=np.zeros(len(lengths_U)), where=lengths_U > 0))
    sums = members @ (unit @ histories)
    squared_G = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
    num_G = members @ (lengths_U > 0).astype(np.float64)
    pairs_G = num_G * (num_G - 1)
    return np.divide(squared_G - num_G, pairs_G, out=np.full(len(num_G), np.nan), where=pairs_G > 0)
