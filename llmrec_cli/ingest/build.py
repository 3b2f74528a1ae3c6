"""From raw rows to tables: the part of `prepare` between finding the files and publishing the folder, in two halves.

`build_tables` writes users, items and interactions. `complete` writes groups, knowledge, documents, rejects, the audit
and the manifest. Between the two, `stages.prepare` may cluster the users into groups.
"""

from typing import Any

from llmrec_cli.ingest.audit.audit import audit
from llmrec_cli.ingest.audit.ids import check_ids
from llmrec_cli.ingest.contents import Contents, Preparation, read_contents
from llmrec_cli.ingest.groups.groups import Groups
from llmrec_cli.ingest.groups.splits import split_beside_users
from llmrec_cli.ingest.groups.synthetic import synthetic_groups
from llmrec_cli.ingest.groups.tables import write_group_tables
from llmrec_cli.ingest.interactions.order import order_setting, ties_of
from llmrec_cli.ingest.interactions.splits import SplitRows, build_split
from llmrec_cli.ingest.knowledge.triples import write_knowledge
from llmrec_cli.ingest.output.manifest import manifest_of
from llmrec_cli.ingest.output.summary import count_interactions
from llmrec_cli.ingest.output.tables import Tables, number_tables, write_tables
from llmrec_cli.ingest.output.writing import write_rejects
from llmrec_cli.ingest.texts.documents import write_documents
from llmrec_cli.pace import still_working


def build_tables(run: Preparation) -> Tables:
    """Read the files, split the interactions, number users and items, and write the three tables."""
    contents = read_contents(run)
    divided, groups = divide(run, contents)
    tables = number_tables(run, contents, divided, groups)
    check_ids(run, contents, divided.rows, groups)
    clean = contents.interactions
    count_interactions(divided.rows, clean.unit, {"user": tables.users, "item": tables.items}, contents.described,
                       clean.coded, run.account)
    return write_tables(run, tables)


@still_working("splitting the interactions")
def divide(run: Preparation, contents: Contents) -> tuple[SplitRows, Groups | None]:
    """Split the interactions of users and of groups; synthetic groups are sampled here."""
    settings, split, clean, groups = run.cfg.dataset, run.cfg.split, contents.interactions, contents.groups
    divided = build_split(split).divide(clean.coded, clean.unit, settings.time_unit)
    if groups is not None:
        groups = split_beside_users(groups, split, clean, divided, settings.time_unit, run.account)
    if settings.synthetic_groups:
        groups = synthetic_groups(run.connection, clean.coded.with_rows(divided.rows), settings, run.scratch)
    return divided, groups


def complete(run: Preparation, tables: Tables, groups: Groups | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write groups, knowledge, documents and rejects; return the manifest, without file hashes, and the audit."""
    folder, account, connection, settings = run.folder, run.account, run.connection, run.cfg.dataset
    contents, items, rules, hashes = tables.contents, tables.items, tables.rules, tables.hashes
    if groups is not None:
        before = run.earlier.catalogue(connection, "group") if run.earlier else None
        of_groups, rules = write_group_tables(folder, groups, tables.users, items, contents.described["group"], rules,
                                              settings, account, before)
        hashes = hashes + of_groups
    if contents.graph is not None:
        hashes = hashes + write_knowledge(folder, contents.graph, contents.described["item"], items, settings, account)
    if contents.documents is not None:
        hashes = hashes + write_documents(folder, contents.documents, connection, items, settings, account)
    write_rejects(folder, [*(part.rejects for part in contents.files),
                           *([run.earlier.rejects(run.scratch)] if run.earlier else [])])
    ties = ties_of(account.counts, order_setting(settings, tables.divided.rows))
    report = audit(connection, folder, settings, run.cfg.split, contents.interactions.unit, account, ties)
    if contents.graph is not None:
        report["links"] = contents.graph.report
    described = {kind: about for kind, about in contents.described.items() if kind != "group" or groups is not None}
    has_values = "value" in run.interactions.names or bool(run.earlier and run.earlier.manifest.get("has_values"))
    return manifest_of(run.cfg, hashes, tables.divided.cutoff, described, rules, contents.interactions.unit, account,
                       has_values, ties), report
