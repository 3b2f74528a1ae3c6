"""Numbering and writing of users, items and interactions."""

from dataclasses import dataclass, field, replace

from ibis.expr.types import Table

from llmrec_cli.ingest.contents import Contents, Preparation
from llmrec_cli.ingest.groups.groups import Groups
from llmrec_cli.ingest.interactions.build import CleanRows, filter_leaks, filter_unknown_dislikes
from llmrec_cli.ingest.interactions.histories import training_titles
from llmrec_cli.ingest.interactions.id_codes import number
from llmrec_cli.ingest.interactions.order import with_ties
from llmrec_cli.ingest.interactions.splits import SplitRows, build_split
from llmrec_cli.ingest.interactions.writing import write_filtered, write_rows
from llmrec_cli.ingest.output.writing import write_entities, write_left_out, write_unlisted
from llmrec_cli.ingest.texts.catalogue import fit_classes
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.pace import still_working


@dataclass(frozen=True)
class Tables:
    """All users and items, numbered, and the split interactions.

    Attributes
    ----------
    users, items : user (or item), user_id, code and rank, as `id_codes.number` returns them
    interactions : the interactions before the split, with negatives and filtered rows
    divided : the interactions after the split
    groups : the groups of the files with split interactions; None without groups
    rules : kind -> rules of texts, fitted on users and items of training; empty until the tables are written
    hashes : content hash of each table; empty until it is written
    """

    users: Table
    items: Table
    interactions: CleanRows
    divided: SplitRows
    groups: Groups | None
    contents: Contents
    rules: dict[str, TextRules] = field(default_factory=dict)
    hashes: list[str] = field(default_factory=list)


def number_tables(run: Preparation, contents: Contents, divided: SplitRows, groups: Groups | None) -> Tables:
    """Number the users and items of interactions, of descriptions and of groups.

    With dataset.min_user_interactions, users that only a description names are left out unless they are in a group;
    with dataset.min_item_interactions, likewise items.
    """
    settings, clean, described = run.cfg.dataset, contents.interactions, contents.described
    others = {kind: [] if described[kind].rows is None or getattr(settings, f"min_{kind}_interactions") > 0
              else [described[kind].rows] for kind in ("item", "user")}
    if groups is not None:
        others["user"].append(groups.members)
        if groups.rows is not None and settings.min_item_interactions <= 0:
            others["item"].append(groups.rows)
    before = {kind: run.earlier.catalogue(run.connection, kind) if run.earlier else None for kind in others}
    users = number(divided.rows, clean.coded.users, "user", others["user"], before["user"])
    items = number(divided.rows, clean.coded.items, "item", others["item"], before["item"])
    clean = filter_unknown_dislikes(filter_leaks(clean, divided, run.account), users, items)
    return Tables(users, items, clean, divided, groups, contents)


@still_working("writing tables")
def write_tables(run: Preparation, tables: Tables) -> Tables:
    """Write the Parquet files of users, items and interactions; return the tables with rules and hashes."""
    users, items, clean, rows = tables.users, tables.items, tables.interactions, tables.divided.rows
    folder, account, described, is_given = run.folder, run.account, tables.contents.described, run.cfg.split.is_given
    rules = tables.contents.rules | {kind: fit_classes(tables.contents.rules[kind], table, described[kind])
                                     for kind, table in (("item", items), ("user", users))}
    hashes = [write_rows(folder / "interactions.parquet", rows, users, items, is_given),
              write_entities(folder, items, described["item"], "item", rules["item"], account)]
    write_unlisted(folder, items, described["item"], run.earlier.listed(run.connection) if run.earlier else None,
                   account)
    histories = training_titles(folder / "interactions.parquet", folder / "items.parquet",
                                run.cfg.dataset.history_titles) if rules["user"].needs_history else None
    hashes.append(write_entities(folder, users, described["user"], "user", rules["user"], account, histories))
    if clean.negatives is not None:
        negatives = build_split(run.cfg.split).divide_negatives(clean.negatives, clean.coded, tables.divided)
        negatives = with_ties(clean.coded.with_rows(negatives)).rows
        hashes.append(write_rows(folder / "negatives.parquet", negatives, users, items, is_given))
    if clean.returned is not None:
        known = clean.returned.semi_join(users.select(user="code"), "user").semi_join(items.select(item="code"), "item")
        # Like dislikes: a return at the time of the test must not show there that the item was no good.
        returned = build_split(run.cfg.split).divide_negatives(known, clean.coded, tables.divided)
        returned = with_ties(clean.coded.with_rows(returned)).rows
        hashes.append(write_rows(folder / "returned.parquet", returned, users, items, is_given))
    for kind, table in (("item", items), ("user", users)):
        write_left_out(folder, table, described[kind], kind)
    write_filtered(folder / "filtered.parquet", clean.filtered, clean.coded)
    return replace(tables, rules=rules, hashes=hashes)
