"""What a head is fitted on: nothing held out is in it."""

from dataclasses import dataclass

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.interactions import Interactions


@dataclass(frozen=True)
class TrainingData:
    """Users, items and the interactions that may be learned from."""

    users: Entities
    items: Entities
    interactions: Interactions
