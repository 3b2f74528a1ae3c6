"""Prepared data -> one .npz that every peer can read: `<split>_user` and `<split>_item`, int64."""

import sys

import numpy as np

from llmrec_cli.data.prepared import SPLITS, read_prepared


def export(prepared: str, file: str) -> None:
    """Write the interactions of every split, in the integers of the prepared data."""
    data = read_prepared(prepared)
    parts = {split: data.part(split) for split in SPLITS}
    arrays = {f"{split}_{name}": getattr(part, name) for split, part in parts.items() for name in ("user", "item")}
    np.savez(file, num_users=len(data.users), num_items=len(data.items), **arrays)


if __name__ == "__main__":
    export(sys.argv[1], sys.argv[2])
