"""Contents of a data set's files, staged, read and checked, before splitting and numbering."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ibis.backends import BaseBackend

from llmrec_cli.ingest.engine import engine
from llmrec_cli.ingest.groups.groups import Groups, read_groups, refuse_group_texts
from llmrec_cli.ingest.groups.synthetic import refuse_synthetic_conflicts
from llmrec_cli.ingest.interactions.build import CleanRows, check_columns, read_interactions, stage_interactions
from llmrec_cli.ingest.interactions.splits import check_split_settings
from llmrec_cli.ingest.knowledge.links import Graph, find_counterparts
from llmrec_cli.ingest.knowledge.triples import read_knowledge
from llmrec_cli.ingest.output.append import EarlierData
from llmrec_cli.ingest.output.row_accounting import Account, check_reading
from llmrec_cli.ingest.readers.checks import checking_parquet
from llmrec_cli.ingest.readers.sources import Sources
from llmrec_cli.ingest.readers.staging import StagedFiles, stage_entities
from llmrec_cli.ingest.texts.catalogue import Descriptions, describe, text_rules, texts_of
from llmrec_cli.ingest.texts.column_checks import object_notes
from llmrec_cli.ingest.texts.documents import Documents, read_documents
from llmrec_cli.ingest.texts.text_rendering import TextRules
from llmrec_cli.settings.stages import PrepareConfig

_KINDS = ("item", "user", "group")


@dataclass(frozen=True)
class Preparation:
    """Inputs, output folder, engine and row counts of one run of `prepare`.

    Attributes
    ----------
    sources : the files; with mode=append, files made from the earlier data come first
    earlier : the prepared data that mode=append adds to; None for mode=new
    folder : folder for the tables
    scratch : folder for temporary files
    connection : the engine, open until everything is written
    interactions : the staged interaction files
    entities : kind (item | user | group) -> the staged files that describe this kind, None without files
    """

    cfg: PrepareConfig
    sources: Sources
    earlier: EarlierData | None
    folder: Path
    scratch: Path
    account: Account
    connection: BaseBackend
    interactions: StagedFiles
    entities: dict[str, StagedFiles | None]


@dataclass(frozen=True)
class Contents:
    """Contents of all files.

    Attributes
    ----------
    interactions : the filtered interactions, with coded ids
    described : kind (item | user | group) -> columns of the files that describe this kind
    rules : kind -> rules that make texts and attributes from these columns
    groups, graph, documents : None without files of groups, knowledge or documents
    files : all staged files; their rejects are written to rejects.parquet
    """

    interactions: CleanRows
    described: dict[str, Descriptions]
    rules: dict[str, TextRules]
    groups: Groups | None
    graph: Graph | None
    documents: Documents | None
    files: list[StagedFiles]


@contextmanager
def prepared_from(cfg: PrepareConfig, sources: Sources, earlier: EarlierData | None, folder: Path, scratch: Path,
                  account: Account) -> Iterator[Preparation]:
    """Check that settings and files fit together, stage the files, and run the engine during the `with` block."""
    settings = cfg.dataset
    check_split_settings(sources, cfg.split)
    refuse_synthetic_conflicts(sources, settings, cfg.split.group, cfg.mode)
    if earlier is not None:
        sources = earlier.sources(sources, scratch)
    refuse_group_texts(sources, settings)
    needed_by = f"split={cfg.split.kind}" if cfg.split.needs_time else ""
    interactions = stage_interactions(sources.interactions, scratch, needed_by, bool(settings.event_weights), earlier)
    check_columns(settings, interactions.names)
    entities = {kind: stage_entities(getattr(sources, f"{kind}s"), kind, scratch) for kind in _KINDS}
    with engine(cfg.engine, scratch) as connection, checking_parquet(interactions):
        yield Preparation(cfg, sources, earlier, folder, scratch, account, connection, interactions, entities)


def read_contents(run: Preparation) -> Contents:
    """Read and check all files. Raises DataError for too many bad rows, ConfigError for settings without effect."""
    settings, account, connection = run.cfg.dataset, run.account, run.connection
    described, rules = _describe(run)
    interactions = read_interactions(connection, run.interactions, settings, account, run.earlier, run.cfg.force)
    groups = read_groups(connection, run.sources, settings, run.scratch, account, run.earlier)
    graph = read_knowledge(connection, run.sources, run.scratch, account)
    if graph is not None:
        find_counterparts(graph, described["item"], settings.knowledge)  # Refuses wrong link_on columns early.
    documents = read_documents(connection, run.sources.documents, run.scratch, account)
    files = [run.interactions, *filter(None, run.entities.values()), *(groups.staged if groups else ()),
             *(graph.staged if graph else ()), *(documents.staged if documents else ())]
    check_reading(files, settings, account)
    return Contents(interactions, described, rules, groups, graph, documents, files)


def _describe(run: Preparation) -> tuple[dict[str, Descriptions], dict[str, TextRules]]:
    """Return the columns that describe items, users and groups, and the rules of their texts, by kind."""
    settings, account = run.cfg.dataset, run.account
    dropped = {"user": settings.drop_users, "item": settings.drop_items, "group": []}
    described = {kind: describe(run.connection, staged, kind, account, texts_of(settings, kind)[1], dropped[kind])
                 for kind, staged in run.entities.items()}
    rules = {kind: text_rules(about, kind, settings) for kind, about in described.items()}
    for kind, about in described.items():
        account.notes += object_notes(about, rules[kind])
    return described, rules
