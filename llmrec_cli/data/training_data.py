"""Training data of a head, without held-out interactions."""

from dataclasses import dataclass

from llmrec_cli.data.catalogue import Catalogue, Documents
from llmrec_cli.data.groups import Groups
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.knowledge import Knowledge

SPLITS_BY_TIME = ("leave_last_out", "temporal", "none")


@dataclass(frozen=True)
class TrainingData:
    """Users, items and the interactions to train on.

    Attributes
    ----------
    negatives : dislikes of users, if feedback is explicit; of the same splits as `interactions`
    knowledge : knowledge graph features of the items
    documents : texts about the items
    groups : groups of the users, with their interactions in the same splits as `interactions`
    has_order : True if there are timestamps, moments or an order; rows of a user are then in order of time
    split : the rule that held out validation and test (`settings.split.SPLITS`), "" if unknown
    value_kind : kind of the values of interactions: `event_weight`, a weight per kind of event; `strength`, such as a
        count, an amount or a duration; `rating`, an opinion at or above a threshold; "" if unknown
    has_moments : True if timestamps are moments, False for an order
    """

    users: Catalogue
    items: Catalogue
    interactions: Interactions
    negatives: Interactions | None = None
    knowledge: Knowledge | None = None
    groups: Groups | None = None
    documents: Documents | None = None
    has_order: bool = False
    split: str = ""
    value_kind: str = "strength"
    has_moments: bool = False

    @property
    def is_split_by_time(self) -> bool:
        """True if held-out interactions of a user come after the training interactions, or nothing is held out."""
        return self.has_order and self.split in SPLITS_BY_TIME
