"""What split=given adds to what the files say: validation from training, and pairs in the earliest split alone.

Both are for users and for groups, which then have the place of users (`ingest.groups`).
"""

import ibis
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.errors import ConfigError
from llmrec_cli.ingest.engine import materialised, size
from llmrec_cli.ingest.interactions.coding import Coded
from llmrec_cli.ingest.interactions.hashing import end_of, of_pair, start_of
from llmrec_cli.ingest.interactions.splits import Divided, SplitRule
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.settings.split import Given, SplitSettings

_TRAIN, _VALID = SPLITS.index("train"), SPLITS.index("valid")
LEAKED = "in_earlier_split"
"""Why rows are in filtered.parquet that split.leaks=drop leaves out."""


class GivenSplit(SplitRule[Given]):
    """The files say it, with validation from their training where `valid` asks for it."""

    def divide(self, coded: Coded, unit: str, chosen_unit: str, known: Table | None = None) -> Divided:
        """Return the rows as the files divide them."""
        settings = self.settings
        rows, leaks = earliest_alone(coded.rows) if settings.leaks == "drop" else (coded.rows, None)
        rows, num_known = carved(coded.with_rows(rows), settings.valid, settings.seed, known)
        return Divided(rows, leaks=leaks, num_known=num_known)


def refuse_contradictions(sources: Sources, split: SplitSettings) -> None:
    """Raise ConfigError for settings of the split that the files make senseless."""
    parts = {source.split for source in sources.interactions}
    of_groups = {source.split for source in sources.group_interactions}
    if split.carved_share > 0 and "valid" in parts:
        raise ConfigError(f"split.valid={split.carved_share:g}: takes validation from training, but there is a file "
                          f"for it already; leave out one of split.valid and dataset.valid")
    share = split.carved_share if split.group_valid is None else split.group_valid
    if share and "valid" in of_groups:
        key = f"split.group_valid={share:g}" if split.group_valid is not None else f"split.valid={share:g}"
        raise ConfigError(f"{key}: takes the groups' validation from their training, but there is a file for it "
                          f"already; leave out dataset.group_valid, or set split.group_valid=0")
    if split.group_valid is not None and not sources.group_interactions:
        raise ConfigError(f"split.group_valid={split.group_valid:g}: has no effect without interactions of groups; "
                          f"leave it out, or name dataset.group_train or dataset.group_interactions")
    if split.leaks == "drop" and not any(parts | of_groups):
        raise ConfigError("split.leaks=drop: has an effect only where files are divided already (split=given, "
                          "dataset.group_train), since a split that is made here has no pair twice; leave it out")


def carved(coded: Coded, share: float, seed: int, known: Table | None = None) -> tuple[Table, int]:
    """Return the rows with about `share` of the training as validation, by the hash that split=random takes.

    Each row goes by its own hash, so that rows which join later move none that were there before; of each user one
    interaction, that of the highest hash, stays to be trained on. So the share is that of the users with more than one.
    Pairs in `known` (user, item) stay in training as well; the number is that of those which the hash would have taken.
    """
    if share == 0:
        return coded.rows, 0
    rows = coded.rows.inner_join(coded.users, "user").inner_join(coded.items, "item")
    hashed = rows.mutate(hash=of_pair(seed, rows)).drop("user_id", "item_id")
    highest = ibis.row_number().over(group_by=["user", "split"], order_by=[hashed.hash.desc(), hashed.item])
    placed = hashed.mutate(place=highest)
    chosen = (placed.split == _TRAIN) & (placed.place > 0) & (start_of(placed.hash) < end_of(share))
    taken = materialised(placed.mutate(chosen=chosen).select(*coded.rows.columns, "chosen"))
    num_known = 0
    if known is not None:
        copies = materialised(taken.filter(taken.chosen).semi_join(known, ["user", "item"]).select("user", "item")
                              .mutate(copied=ibis.literal(True)))
        num_known = size(copies)
        joined = taken.left_join(copies, ["user", "item"])
        taken = joined.mutate(chosen=taken.chosen & joined.copied.isnull()).select(*coded.rows.columns, "chosen")
    split = ibis.cases((taken.chosen, ibis.literal(_VALID, "int8")), else_=taken.split)
    return materialised(taken.mutate(split=split).select(*coded.rows.columns)), num_known


def earliest_alone(rows: Table) -> tuple[Table, Table]:
    """Return the rows without those whose pair an earlier split has, and these: train comes before valid, then test."""
    pairs = rows.group_by("user", "item").agg(earliest=rows.split.min(), times=rows.count())
    several = materialised(pairs.filter(pairs.times > 1).drop("times"))
    joined = rows.inner_join(several, ["user", "item"])
    late = materialised(joined.filter(joined.split > joined.earliest).select(*rows.columns))
    return (rows.anti_join(late, ["user", "item", "split"]) if size(late) else rows), late
