"""Counts of groups and of the knowledge graph."""

from typing import Any

import numpy as np
from ibis.expr.types import Table

from llmrec_cli.data.prepared import SPLITS
from llmrec_cli.ingest.audit.folder import Folder, share
from llmrec_cli.ingest.audit.shape import Tally
from llmrec_cli.ingest.engine import batches, collect, size


def describe_groups(folder: Folder, synthetic: str) -> dict[str, Any] | None:
    """Return the counts of groups; None without groups.

    groups, standing (with training interactions), occasional (without), members, members_without_history,
    held_out_without_history (groups with held-out interactions where neither the group nor a member has a training
    interaction), memberships, members_per_group, interactions by split, and synthetic: the rule that made the groups,
    "" for groups read from files.
    """
    if not folder.has("groups"):
        return None
    members = folder.table("groups")
    sizes = _sizes(members, "group")
    interactions = dict.fromkeys(SPLITS, 0)
    rows = folder.table("interactions")
    with_history = members.semi_join(rows.filter(rows.split == "train"), "user")
    standing = strangers = 0
    if folder.has("group_interactions"):
        rows = folder.table("group_interactions")
        for row in collect(rows.group_by("split").agg(size=rows.count())).to_pylist():
            interactions[row["split"]] = row["size"]
        trained, held = rows.filter(rows.split == "train"), rows.filter(rows.split != "train").select("group")
        standing = size(trained.select("group").distinct())
        strangers = size(held.distinct().anti_join(trained, "group").anti_join(with_history, "group"))
    users = size(members.select("user").distinct())
    return {"groups": sizes.size, "standing": standing, "occasional": sizes.size - standing, "members": users,
            "members_without_history": users - size(with_history.select("user").distinct()),
            "held_out_without_history": strangers, "memberships": sizes.total,
            "members_per_group": sizes.summary(), "interactions": interactions, "synthetic": synthetic}


def describe_knowledge(folder: Folder, num_items: int) -> dict[str, Any] | None:
    """Return the counts of triples, relations, entities and linked items; None without triples."""
    if not folder.has("triples"):
        return None
    triples = folder.table("triples")
    relations = triples.group_by("relation").agg(triples=triples.count())
    most = collect(relations.order_by(relations.triples.desc(), "relation").limit(20)).to_pylist()
    entities = triples.select(entity="head").union(triples.select(entity="tail"))
    counts = {"triples": size(triples), "relations": size(relations), "entities": size(entities.distinct()),
             "largest_relations": most, "items_linked": 0, "items_linked_share": 0.0, "linked_without_triples": 0}
    if folder.has("links"):
        links = folder.table("links")
        linked = size(links.select("item").distinct())
        lost = size(links.anti_join(entities.distinct(), links.entity_id == entities.distinct().entity))
        counts |= {"items_linked": linked, "items_linked_share": share(linked, num_items),
                  "linked_without_triples": lost}
    return counts


def _sizes(table: Table, key: str) -> Tally:
    tally = Tally()
    for batch in batches(table.group_by(key).agg(size=table.count()).select("size"), 1 << 16):
        tally.add(np.from_dlpack(batch.column(0)))
    return tally
