"""All of `prepare` between finding the files and describing what was written: a recipe from raw rows to tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
from ibis.backends import BaseBackend
from ibis.expr.types import Table

from llmrec_cli.errors import DataError
from llmrec_cli.ingest.audit.audit import audit
from llmrec_cli.ingest.audit.ids import doubled_ids, id_pairs, id_warnings
from llmrec_cli.ingest.engine import engine, size
from llmrec_cli.ingest.groups.groups import Groups, read_groups, refuse_group_texts
from llmrec_cli.ingest.groups.splits import divide_groups, known_to_members
from llmrec_cli.ingest.groups.synthetic import (
    ClusterOf,
    clustered_groups,
    refuse_beside,
    refuse_clusters_beside,
    synthetic_groups,
)
from llmrec_cli.ingest.groups.tables import notes as group_notes
from llmrec_cli.ingest.groups.tables import number_groups, write_group_texts, write_groups
from llmrec_cli.ingest.groups.tables import warnings as group_warnings
from llmrec_cli.ingest.interactions.build import (
    Kept,
    check_columns,
    keep,
    known_dislikes,
    read_raw,
    stage_interactions,
    union,
)
from llmrec_cli.ingest.interactions.filters import policy_of
from llmrec_cli.ingest.interactions.histories import training_titles
from llmrec_cli.ingest.interactions.id_codes import number
from llmrec_cli.ingest.interactions.order import ORDER, count_ties, ties_of, with_ties
from llmrec_cli.ingest.interactions.splits import LEAKED, Divided, UserSplit, build_split, refuse_contradictions
from llmrec_cli.ingest.interactions.writing import write_filtered, write_rows
from llmrec_cli.ingest.knowledge.links import counterparts
from llmrec_cli.ingest.knowledge.triples import read_knowledge, write_knowledge
from llmrec_cli.ingest.output.append import Earlier, refuse_overlap
from llmrec_cli.ingest.output.manifest import describe_split, describe_texts, manifest_of
from llmrec_cli.ingest.output.row_accounting import Account, reading_notes, refuse_rejects
from llmrec_cli.ingest.output.summary import tally
from llmrec_cli.ingest.output.writing import write_entities, write_left_out, write_rejects, write_unlisted
from llmrec_cli.ingest.readers.checks import reading
from llmrec_cli.ingest.readers.columns import refuse_idle_explode, refuse_unused
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.ingest.readers.staging import Staged, stage_entities
from llmrec_cli.ingest.texts.catalogue import Described, describe, fit_classes, text_rules, texts_of
from llmrec_cli.ingest.texts.column_checks import list_warnings, object_notes
from llmrec_cli.ingest.texts.documents import read_documents, write_documents
from llmrec_cli.settings.stages import PrepareConfig

KINDS = ("item", "user", "group")


def build(cfg: PrepareConfig, sources: Sources, earlier: Earlier | None, folder: Path, scratch: Path,
          account: Account, cluster_of: ClusterOf) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write all tables into `folder`; return the manifest, but for the hashes of files, and the audit.

    `cluster_of` is asked with dataset.cluster_users=true.
    """
    settings = cfg.dataset
    refuse_contradictions(sources, cfg.split)
    refuse_beside(sources, settings, cfg.split, cfg.mode)
    refuse_clusters_beside(sources, settings, cfg.split.group, cfg.mode)
    if earlier is not None:
        sources = earlier.sources(sources, scratch)
    refuse_group_texts(sources, settings)
    needed_by = f"split={cfg.split.kind}" if cfg.split.needs_time else ""
    staged = stage_interactions(sources.interactions, scratch, needed_by, bool(settings.event_weights), earlier)
    check_columns(settings, staged.names)
    staged_of = {kind: stage_entities(getattr(sources, f"{kind}s"), kind, scratch) for kind in KINDS}
    with engine(cfg.engine, scratch) as connection, reading(staged):
        dropped = {"user": settings.drop_users, "item": settings.drop_items, "group": []}
        described = {kind: describe(connection, part, kind, account, texts_of(settings, kind)[1], dropped[kind])
                     for kind, part in staged_of.items()}
        rules = {kind: text_rules(described[kind], kind, settings) for kind in described}
        for kind in described:
            account.notes += object_notes(described[kind], rules[kind])
        raw = read_raw(connection, staged, settings, earlier=earlier)
        if policy_of(settings) == "sum":
            refuse_overlap(raw, cfg.force, account)
        kept = keep(raw, staged, settings, account)
        groups = read_groups(connection, sources, settings, scratch, account, earlier)
        graph = read_knowledge(connection, sources, scratch, account)
        if graph is not None:
            counterparts(graph, described["item"], settings.knowledge)
        documents = read_documents(connection, sources.documents, scratch, account)

        files = [staged, *filter(None, staged_of.values()), *(groups.staged if groups else ()),
                 *(graph.staged if graph else ()), *(documents.staged if documents else ())]
        refuse_unused({ours: typed for part in files for ours, typed in part.wanted.items()},
                      {ours for part in files for ours in part.used})
        refuse_idle_explode(files)
        account.notes += reading_notes(files)
        for part in files:
            refuse_rejects(part, settings.max_reject_share)
        rule = build_split(cfg.split)
        divided = rule.divide(kept.coded, kept.unit, settings.time_unit)
        if groups is not None and groups.rows is not None:
            cold_items = _parts_of_items(divided, kept) if cfg.split.cold == "item" else None
            rows, counts = divide_groups(
                groups.rows, cfg.split, groups.unit, UserSplit(divided.cutoff, kept.unit, cold_items),
                chosen_unit=settings.time_unit,
                known=known_to_members(groups.members, kept.coded, divided.rows, cfg.split))
            account.counts |= counts
            groups = groups.divided(rows)
        if settings.synthetic_groups:
            groups = synthetic_groups(connection, kept.coded.with_rows(divided.rows), settings, scratch)
        kept = without_leaks(kept, divided, account)
        users, items = catalogues(connection, cfg, kept, divided, described, groups, earlier)
        account.warnings += id_warnings(id_pairs(kept.coded, divided.rows, cfg.split.is_given, described, groups,
                                                 graph, documents))
        account.warnings += [*doubled_ids("users", kept.coded.users, "user_id"),
                             *doubled_ids("items", kept.coded.items, "item_id"),
                             *list_warnings("users", kept.coded.users, "user_id", staged.sources),
                             *list_warnings("items", kept.coded.items, "item_id", staged.sources)]
        kept = known_dislikes(kept, users, items)
        tally(divided.rows, {"user": users, "item": items}, described, account)
        if kept.unit:
            account.counts |= count_ties(divided.rows)

        rules |= {kind: fit_classes(rules[kind], catalogue, described[kind])
                  for kind, catalogue in (("item", items), ("user", users))}
        given = cfg.split.is_given
        content = [write_rows(folder / "interactions.parquet", divided.rows, users, items, given),
                   write_entities(folder, items, described["item"], "item", rules["item"], account)]
        before = earlier.listed(connection) if earlier else None
        if unlisted := write_unlisted(folder, items, described["item"], before):
            account.counts["items_unlisted"] = unlisted
            account.notes.append(f"{unlisted:,} items of the interactions are not in the files of items: `recommend` "
                                 f"leaves them out as delisted unless recommend.delisted=keep")
        histories = training_titles(folder / "interactions.parquet", folder / "items.parquet",
                                    settings.history_titles) if rules["user"].needs_history else None
        content.append(write_entities(folder, users, described["user"], "user", rules["user"], account, histories))
        if kept.negatives is not None:
            negatives = rule.divide_negatives(kept.negatives, kept.coded, divided)
            negatives = with_ties(kept.coded.with_rows(negatives)).rows
            content.append(write_rows(folder / "negatives.parquet", negatives, users, items, given))
        for kind, catalogue in (("item", items), ("user", users)):
            write_left_out(folder, catalogue, described[kind], kind)
        write_filtered(folder / "filtered.parquet", kept.filtered, kept.coded)
        if settings.cluster_users.on:
            groups = clustered_groups(connection, folder, cluster_of, settings, scratch)
        if groups is not None:
            before = earlier.catalogue(connection, "group") if earlier else None
            numbered = number_groups(groups, users, items, account, before)
            content += write_groups(folder, numbered)
            hashes, rules["group"] = write_group_texts(folder, numbered, described["group"], rules["group"], account)
            content += hashes
            account.notes += group_notes(account.counts, settings.made_groups)
            account.warnings += group_warnings(account.counts)
        if graph is not None:
            content += write_knowledge(folder, graph, described["item"], items, settings, account)
        if documents is not None:
            content += write_documents(folder, documents, connection, items, settings, account)
        write_bad_rows(folder, files, earlier, scratch)
        ties = ties_of(account.counts, ORDER in divided.rows.columns)
        found = audit(connection, folder, settings, cfg.split, kept.unit, account, ties)
    if graph is not None:
        found["links"] = graph.report
    manifest = manifest_of(settings, content, describe_split(cfg.split, divided.cutoff),
                           describe_texts(settings, {kind: about for kind, about in described.items()
                                                     if kind != "group" or groups is not None}, rules), kept.unit,
                           account, "value" in staged.names or bool(earlier and earlier.manifest.get("has_values")))
    manifest["ties"] = {f"{one.whose}s": one.described() for one in ties}
    if settings.made_groups:
        manifest["groups"] = {"synthetic": settings.made_groups}
    return manifest, found


def catalogues(connection: BaseBackend, cfg: PrepareConfig, kept: Kept, divided: Divided,
               described: dict[str, Described], groups: Groups | None, earlier: Earlier | None) -> tuple[Table, Table]:
    """Return the users and items, numbered: those of interactions, and those that are only told of.

    With dataset.min_user_interactions users who are only told of are left out, unless they are in a group, and with
    min_item_interactions so are items.
    """
    rows, settings = divided.rows, cfg.dataset
    told = {kind: [] if described[kind].rows is None or getattr(settings, f"min_{kind}_interactions") > 0
            else [described[kind].rows] for kind in ("item", "user")}
    if groups is not None:
        told["user"].append(groups.members)
        if groups.rows is not None and settings.min_item_interactions <= 0:
            told["item"].append(groups.rows)
    before = {kind: earlier.catalogue(connection, kind) if earlier else None for kind in told}
    return (number(rows, kept.coded.users, "user", told["user"], before["user"]),
            number(rows, kept.coded.items, "item", told["item"], before["item"]))


def _parts_of_items(divided: Divided, kept: Kept) -> Table:
    """Return item_id and split of each item, where a split is one of items."""
    return divided.rows.select("item", "split").distinct().inner_join(kept.coded.items, "item").drop("item")


def without_leaks(kept: Kept, divided: Divided, account: Account) -> Kept:
    """Return the same with the rows that split.leaks left out among those that are filtered."""
    if divided.leaks is None:
        return kept
    account.counts["leaks"] = size(divided.leaks)
    leaks = divided.leaks.mutate(reason=ibis.literal(LEAKED))
    return replace(kept, filtered=union([kept.filtered, leaks]))


def write_bad_rows(folder: Path, files: list[Staged], earlier: Earlier | None, scratch: Path) -> None:
    """Write the rejects of all files, and those there were before."""
    rejects = [part.rejects for part in files]
    write_rejects(folder, [*rejects, earlier.rejects(scratch)] if earlier else rejects)


def refuse_warnings(account: Account, strict: bool) -> None:
    """Raise DataError with all warnings when they are not to be lived with."""
    if strict and account.warnings:
        told = "\n".join(f"  {sentence}" for sentence in account.warnings)
        raise DataError(f"dataset.audit=strict: the audit warns, so nothing was written:\n{told}\n"
                        f"Repair the data, or set dataset.audit=warn to go on with it")
