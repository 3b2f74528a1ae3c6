"""Whom lists are made for: users or groups."""

from dataclasses import dataclass

from llmrec_cli.data.entities import Entities
from llmrec_cli.data.interactions import Interactions
from llmrec_cli.data.prepared import SPLITS, PreparedData
from llmrec_cli.errors import DataError


@dataclass(frozen=True)
class Audience:
    """Users or groups of prepared data.

    Attributes
    ----------
    kind : user | group
    entities : who they are
    interactions : what they did, in all splits; `user` is their integer
    held : what of it is in the split that is measured
    """

    kind: str
    entities: Entities
    interactions: Interactions
    held: Interactions


def audience_of(data: PreparedData, audience: str, split: str) -> Audience:
    """Return whom `audience` (users | groups) means. Raises DataError where the data has no groups."""
    if audience == "users":
        return Audience("user", data.users, data.interactions, data.part(split))
    everything, held = data.groups(*SPLITS), data.groups(split)
    if everything is None or held is None:
        raise no_groups(data)
    return Audience("group", everything.entities, everything.interactions, held.interactions)


def no_groups(data: PreparedData) -> DataError:
    """Return the error of data without groups."""
    return DataError(f"{data.path}: audience=groups, and the data has no groups; prepare with dataset.groups=<file of "
                     f"members>, or set audience=users")
