"""Roles of files (interactions, items, users, members of groups) and their id columns, by names and then by content."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import permutations

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.drafts.names import meaning_of
from llmrec_cli.ingest.drafts.samples import Column, Sample
from llmrec_cli.ingest.drafts.times import time_form

_MEETS = 0.3
"""Smallest share of a column's ids in another file's ids for the columns to have the same ids; samples overlap in part.
"""

_PARTS = {"train": ("train",), "valid": ("valid", "val_", "_val", "dev"), "test": ("test",)}
"""Part of a published split -> words in the names of its files."""


@dataclass
class Role:
    """A file, its role (interactions | items | users | groups | group_info | group_interactions), and its columns.

    Attributes
    ----------
    columns : our name -> column of the file
    unsure : sentences on what is not certain
    """

    sample: Sample
    role: str
    columns: dict[str, str]
    unsure: list[str] = field(default_factory=list)


def assign_roles(samples: Sequence[Sample]) -> list[Role]:
    """Return the role of each file. Raises DataError if no file can be the interactions."""
    roles = [_by_names(sample) for sample in samples]
    if not any(role.role == "interactions" for role in roles):
        _by_content(roles)
    found = [role for role in roles if role.role == "interactions"]
    if not found:
        listed = "\n".join(f"  {role.sample.path}: {', '.join(role.sample.columns)}" for role in roles)
        raise DataError(f"no file has a column of users and a column of items; interactions need both. The columns:\n"
                        f"{listed}\nName the file of interactions too, or write the settings by hand: "
                        f"dataset.columns.user_id=<name> dataset.columns.item_id=<name>")
    for role in roles:
        if not role.role:
            _describe(role, found[0])
    return roles


def _by_names(sample: Sample) -> Role:
    """Return the role that the names of the columns give; "" if they give none."""
    columns: dict[str, str] = {}
    for column in sample.columns.values():
        ours = meaning_of(column.name)
        # Of several columns with the same meaning the first counts, unless only a later one is an id.
        if ours and (ours not in columns or (ours.endswith("_id") and "id" in column.name.lower()
                                             and "id" not in columns[ours].lower())):
            columns[ours] = column.name
    ids = [name for name in ("user_id", "item_id", "group_id") if name in columns]
    role = {"user_id item_id": "interactions", "user_id group_id": "groups", "item_id group_id": "group_interactions",
            "user_id item_id group_id": "interactions"}.get(" ".join(ids), "")
    if role == "interactions" and sample.columns[columns["item_id"]].is_unique and sample.num_rows > 20 \
            and "timestamp" not in columns and "event" not in columns and len(sample.columns) > 3:
        role = "items"  # A seller or an author may be called a user.
        columns.pop("user_id")
    if len(ids) == 1 and sample.columns[columns[ids[0]]].is_unique:
        role = {"user_id": "users", "item_id": "items", "group_id": "group_info"}[ids[0]]
    return Role(sample, role, columns)


def _by_content(roles: list[Role]) -> None:
    """Find the interactions by content: two columns repeat, and one of them meets the unique ids of another file."""
    keys = {id(role): [c for c in role.sample.columns.values() if _is_key(c)] for role in roles}
    best: tuple[float, Role, str, str] | None = None
    for role in roles:
        repeating = [c for c in role.sample.columns.values() if _repeats(c)]
        known = {ours: name for ours, name in role.columns.items() if ours in ("user_id", "item_id")}
        for user, item in permutations(repeating, 2):
            if known.get("user_id", user.name) != user.name or known.get("item_id", item.name) != item.name:
                continue
            meeting = max((_meeting(item, key) + (0.5 if other.role == "items" else 0) - (other.role == "users")
                           for other in roles if other is not role for key in keys[id(other)]), default=0.0)
            meeting += max((_meeting(user, key) for other in roles if other is not role and other.role == "users"
                            for key in keys[id(other)]), default=0.0)
            # The only evidence left: there are usually more interactions of a user than of an item in a sample.
            score = meeting + len(known) + 0.1 * (len(user.distinct) < len(item.distinct))
            if best is None or score > best[0]:
                best = score, role, user.name, item.name
    if best is None:
        return
    score, role, user_name, item_name = best
    for ours in ("user_id", "item_id"):
        name = user_name if ours == "user_id" else item_name
        if ours not in role.columns:
            role.unsure.append(f"{ours}: '{name}' by its values, since its name says nothing")
        role.columns[ours] = name
    role.role = "interactions"


def _describe(role: Role, interactions: Role) -> None:
    """Set the role of a file that names do not explain, by the ids that it shares with the interactions."""
    best = (0.0, "", "")
    for kind in ("item_id", "user_id"):
        column = interactions.sample.columns[interactions.columns[kind]]
        for key in role.sample.columns.values():
            if len(key.distinct) > 1 and (key.is_unique or role.columns.get(kind) == key.name):
                best = max(best, (_meeting(column, key), kind, key.name))
    share, kind, name = best
    if share < _MEETS:
        role.unsure.append(f"{role.sample.path}: has no column whose ids are in the interactions; it is not used")
        return
    role.role = {"item_id": "items", "user_id": "users"}[kind]
    if role.columns.get(kind) != name:
        role.unsure.append(f"{role.sample.path}: '{name}' is the {kind} by its values, since its name says nothing")
    role.columns[kind] = name


def divide_files(files: Sequence[Role]) -> dict[str, list[Role]]:
    """Return files of interactions by part (train | valid | test) if their names divide them; {} if not."""
    parts: dict[str, list[Role]] = {"train": [], "valid": [], "test": []}
    for one in files:
        found = [part for part, words in _PARTS.items() if any(word in one.sample.path.stem.lower() for word in words)]
        if len(found) != 1:
            return {}
        parts[found[0]].append(one)
    return parts if parts["train"] and (parts["valid"] or parts["test"]) else {}


def name_differences(role: Role, by_role: dict[str, list[Role]]) -> Iterator[str]:
    """Yield a sentence if a file names its columns differently than the first file of its role."""
    first = by_role.get(role.role, [role])[0]
    if first.columns != role.columns:
        yield (f"{role.sample.path}: its columns differ from those of {first.sample.path}, whose names and format are "
               f"used for both; rename them, or leave out one of the files")


def _is_key(column: Column) -> bool:
    return column.is_unique and not column.is_array and len(column.values) >= 0.98 * column.num_rows


def _repeats(column: Column) -> bool:
    """Return True if a column may have the ids of users or items: they repeat, but are many, and are no times.

    A column of few values, such as a type or a quantity, is none: fewer than a quarter of the root of the rows.
    """
    few = max(2.0, len(column.values) ** 0.5 / 4)
    return (few <= len(column.distinct) < 0.95 * max(len(column.values), 1) and not column.is_array
            and time_form(column, by_name=False) is None
            and len(column.values) >= 0.9 * column.num_rows and not any(number % 1 for number in column.numbers[:100])
            and meaning_of(column.name) in ("", "user_id", "item_id"))


def _meeting(ids: Column, key: Column) -> float:
    """Return the share of the smaller set of ids that is in the other."""
    smaller = min(len(ids.distinct), len(key.distinct))
    return len(ids.distinct & key.distinct) / smaller if smaller else 0.0
