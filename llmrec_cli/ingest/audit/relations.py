"""Groups and knowledge, counted."""

from typing import Any

import numpy as np
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.audit.folder import Folder, share
from llmrec_cli.ingest.audit.shape import Tally
from llmrec_cli.ingest.engine import batches, collect, size


def describe_groups(folder: Folder, synthetic: str) -> dict[str, Any] | None:
    """Return groups and what there is of them; None without groups.

    groups, standing (with training interactions), occasional (without), members, members_without_history,
    held_out_without_history (groups with something held out that training says nothing of: neither they nor a member
    are in it), memberships, members_per_group, interactions by split, and synthetic: how groups were made, "" for those
    that files name.
    """
    if not folder.has("groups"):
        return None
    members = folder.table("groups")
    sizes = _sizes(members, "group")
    interactions = dict.fromkeys(SPLITS, 0)
    rows = folder.table("interactions")
    known = members.semi_join(rows.filter(rows.split == "train"), "user")
    standing = strangers = 0
    if folder.has("group_interactions"):
        rows = folder.table("group_interactions")
        for row in collect(rows.group_by("split").agg(size=rows.count())).to_pylist():
            interactions[row["split"]] = row["size"]
        trained, held = rows.filter(rows.split == "train"), rows.filter(rows.split != "train").select("group")
        standing = size(trained.select("group").distinct())
        strangers = size(held.distinct().anti_join(trained, "group").anti_join(known, "group"))
    users = size(members.select("user").distinct())
    return {"groups": sizes.size, "standing": standing, "occasional": sizes.size - standing, "members": users,
            "members_without_history": users - size(known.select("user").distinct()),
            "held_out_without_history": strangers, "memberships": sizes.total,
            "members_per_group": sizes.summary(), "interactions": interactions, "synthetic": synthetic}


def describe_knowledge(folder: Folder, num_items: int) -> dict[str, Any] | None:
    """Return triples, relations, entities and how many items are linked to one; None without triples."""
    if not folder.has("triples"):
        return None
    triples = folder.table("triples")
    relations = triples.group_by("relation").agg(triples=triples.count())
    most = collect(relations.order_by(relations.triples.desc(), "relation").limit(20)).to_pylist()
    entities = triples.select(entity="head").union(triples.select(entity="tail"))
    found = {"triples": size(triples), "relations": size(relations), "entities": size(entities.distinct()),
             "largest_relations": most, "items_linked": 0, "items_linked_share": 0.0, "linked_without_triples": 0}
    if folder.has("links"):
        links = folder.table("links")
        linked = size(links.select("item").distinct())
        lost = size(links.anti_join(entities.distinct(), links.entity_id == entities.distinct().entity))
        found |= {"items_linked": linked, "items_linked_share": share(linked, num_items),
                  "linked_without_triples": lost}
    return found


def _sizes(table: Table, key: str) -> Tally:
    tally = Tally()
    for batch in batches(table.group_by(key).agg(size=table.count()).select("size"), 1 << 16):
        tally.add(np.from_dlpack(batch.column(0)))
    return tally
