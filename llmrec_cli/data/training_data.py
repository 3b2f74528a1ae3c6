"""Training data of a head: nothing held out is in it."""

from dataclasses import dataclass

from llmrec_cli.data.catalogue import Catalogue, Documents
from llmrec_cli.data.groups import Groups
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.knowledge import Knowledge

SPLITS_BY_TIME = ("leave_last_out", "temporal", "none")


@dataclass(frozen=True)
class TrainingData:
    """Users, items and the interactions that may be learned from.

    Attributes
    ----------
    negatives : what users said they do not like, where feedback is explicit; of the same splits as `interactions`
    knowledge : what a knowledge graph says of the items
    documents : texts about the items
    groups : groups of the users, with what they did together in the same splits as `interactions`
    has_order : whether timestamps, moments or a mere order, say what came before what; rows of a user are in it
    split : the rule that held out validation and test (`settings.split.SPLITS`), "" where it is not known
    value_kind : what the values of interactions are: `event_weight`, chosen for each kind of event; `strength`, such as
        a count, an amount or a duration; `rating`, an opinion that had to reach a threshold; "" where the data does not
        say
    has_moments : whether timestamps are moments, and not a mere order
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
